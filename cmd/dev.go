package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"parley/edge"
	"parley/edge/auth"
	"parley/schemas"
	"parley/streams"
	"parley/streams/natsserver"
)

// devTokenTTL is how long a token of the demo page is valid.
const devTokenTTL = 24 * time.Hour

// devCommand runs the whole server in one process.
type devCommand struct {
	Listen        string        `help:"Address for clients and the web page." default:"127.0.0.1:8080"`
	Admin         string        `help:"Address for operators: health, metrics, profiles." default:"127.0.0.1:8081"`
	NATSListen    string        `name:"nats-listen" help:"Address of the NATS server, for the nats CLI." default:"127.0.0.1:4222"`
	NATSNodes     int           `name:"nats-nodes" help:"NATS servers in the process: 1, or 3 for a cluster with three replicas of every stream." default:"1" enum:"1,3"`
	Data          string        `help:"Directory of all data." default:"./data"`
	Shards        int           `help:"Chat streams, fixed when the data directory is new; 0: 8, or what is there." default:"0"`
	MaxAge        time.Duration `help:"How long the log keeps events; 0: 24h, or what is there." default:"0"`
	Store         string        `help:"The permanent store, as of worker; without it, parley.db in the data directory."`
	StorePassword string        `help:"Password of the store's user, where its URL has none."`
	RemakeLost    bool          `help:"Lay lost chat streams anew, as migrate --remake-lost does."`
	AuthSecret    string        `help:"Key of HS256 tokens; without it, one is made and kept in the data directory."`
	limitFlags
}

func (c *devCommand) Run(p *process) error {
	secret, passwords, err := c.prepareData()
	if err != nil {
		return err
	}
	doors, err := openDoors(c.Admin, c.Listen)
	if err != nil {
		return err
	}
	defer doors.Close()

	server, err := natsserver.Start(p.ctx, natsserver.Config{
		Conf: p.natsConf, Listen: c.NATSListen, DataDir: filepath.Join(c.Data, natsDir),
		Nodes: c.NATSNodes, Passwords: passwords, Log: p.log,
	})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	if err := passwords.Save(c.Data, server.Address()); err != nil {
		return err
	}
	connect := func(component streams.Component) streams.ConnectConfig {
		return streams.ConnectConfig{Component: component, URLs: server.URLs(), Password: passwords.Of(component), Log: p.log}
	}
	settings := streams.Settings{Shards: c.Shards, Replicas: c.NATSNodes, MaxAge: c.MaxAge, RemakeLost: c.RemakeLost}
	st, err := c.store().openAndMigrate(p.ctx, p.log)
	if err != nil {
		return err
	}
	defer st.Close()
	if _, err := provision(p.ctx, connect(streams.WorkerComponent), settings, st); err != nil {
		return err
	}

	config := edge.Config{
		Node: devNode(), Listener: doors.clients, NATS: connect(streams.EdgeComponent),
		Auth: auth.Config{Secret: secret, Log: p.log}, Page: demoPage(secret), Log: p.log, Metrics: doors.admin.metrics,
	}
	c.apply(&config)
	e, err := edge.New(p.ctx, config)
	if err != nil {
		return err
	}
	doors.edge.Store(e)
	w := workers{nats: connect(streams.WorkerComponent), store: st, metrics: doors.admin.metrics}
	return c.serve(p, e, &w, func() { fmt.Fprintf(p.stdout, "ready %s\n", doors.url()) })
}

// serve runs the edge and the workers. The workers outlive the edge, so that
// its last requests are answered.
func (c *devCommand) serve(p *process, e *edge.Edge, w *workers, ready func()) error {
	workersCtx, stopWorkers := context.WithCancel(context.WithoutCancel(p.ctx))
	edgeCtx, stopEdge := context.WithCancel(p.ctx)
	defer stopEdge()
	worked, started := make(chan error, 1), make(chan struct{})
	go func() {
		defer stopEdge()
		worked <- w.run(&process{ctx: workersCtx, stdout: p.stdout, stderr: p.stderr, log: p.log}, func() { close(started) })
	}()
	select { // nothing is taken from clients that the workers could not keep
	case <-started:
		ready()
	case <-edgeCtx.Done():
	}
	err := e.Run(edgeCtx)
	stopWorkers()
	return errors.Join(err, <-worked)
}

func devNode() schemas.ID {
	id, err := schemas.ParseID("dev")
	if err != nil {
		panic(err) // a constant
	}
	return id
}

// prepareData makes the data directory and the secrets in it.
func (c *devCommand) prepareData() (secret []byte, passwords streams.Passwords, err error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, passwords, fmt.Errorf("make data directory: %w: choose another with --data", err)
	}
	if secret, err = loadOrCreateSecret(c.Data, c.AuthSecret); err != nil {
		return nil, passwords, err
	}
	passwords, err = streams.LoadOrCreatePasswords(c.Data)
	return secret, passwords, err
}

func (c *devCommand) store() storeFlag {
	if c.Store == "" {
		return storeFlag{Store: sqliteURL(c.Data)}
	}
	return storeFlag{Store: c.Store, StorePassword: c.StorePassword}
}
