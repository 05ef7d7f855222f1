package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"parley/edge"
	"parley/schemas"
	"parley/streams"
	"parley/workers/persist"
	"parley/workers/query"
	"parley/workers/store/sqlite"
)

// natsFlags say how a command reaches NATS.
type natsFlags struct {
	NATS         []string `name:"nats" help:"URLs of the NATS servers." default:"nats://127.0.0.1:4222"`
	NATSPassword string   `name:"nats-password" help:"Password of the component's NATS user. Without it, that of a dev server's data directory." env:"-"`
}

// config is how component connects. The password comes from the flag, from the
// component's variable, or from the directory of a dev server.
func (f natsFlags) config(component streams.Component, data string) (streams.ConnectConfig, error) {
	password := f.NATSPassword
	if password == "" {
		password = os.Getenv(component.PasswordVariable())
	}
	if password == "" && data != "" {
		passwords, err := streams.ReadPasswords(data)
		if err != nil {
			return streams.ConnectConfig{}, err
		}
		password = passwords.Of(component)
	}
	if password == "" {
		return streams.ConnectConfig{}, fmt.Errorf("no password for NATS user %s: set %s", component, component.PasswordVariable())
	}
	return streams.ConnectConfig{Component: component, URLs: f.NATS, Password: password}, nil
}

// limitFlags bound what an edge takes from clients; 0 is no limit for the rates.
type limitFlags struct {
	MaxSessions int      `help:"Connections that an edge admits; the next is told to go elsewhere." default:"5000"`
	UserRate    float64  `help:"Messages a second and user, with a burst of three seconds; 0: no limit." default:"20"`
	AddressRate float64  `help:"Handshakes a second and client address, with a burst of five seconds; 0: no limit." default:"20"`
	Origins     []string `name:"origin" help:"Origins of web pages that may connect, beside the server's own, like https://chat.example.com."`
}

func (f limitFlags) apply(c *edge.Config) {
	c.SessionsMax, c.UserRate, c.AddressRate, c.Origins = f.MaxSessions, noLimit(f.UserRate), noLimit(f.AddressRate), f.Origins
}

func noLimit(rate float64) float64 {
	if rate == 0 {
		return -1
	}
	return rate
}

// edgeCommand runs one edge.
type edgeCommand struct {
	Listen string `help:"Address for clients." default:"127.0.0.1:8080"`
	Admin  string `help:"Address for operators: health, metrics, profiles. Never public." default:"127.0.0.1:8081"`
	Node   string `help:"Name of this edge among the edges." default:"${hostname}"`
	natsFlags
	Replicas   int    `help:"Replicas of the chat streams: with more than one, absence is asked of the leader." default:"1"`
	AuthSecret string `help:"Key of HS256 tokens."`
	JWKSURL    string `name:"jwks-url" help:"Where the keys of RS256, ES256 and EdDSA tokens are."`
	Audience   string `help:"Audience that tokens have to name."`
	Issuer     string `help:"Issuer that tokens have to name."`
	UserClaim  string `help:"Claim that names the user." default:"sub"`
	limitFlags
}

func (c *edgeCommand) Run(p *process) error {
	if c.AuthSecret == "" && c.JWKSURL == "" {
		return errors.New("no way to check tokens: set PARLEY_AUTH_SECRET, or --jwks-url")
	}
	node, err := schemas.ParseID(c.Node)
	if err != nil {
		return fmt.Errorf("--node: %w", err)
	}
	nats, err := c.config(streams.EdgeComponent, "")
	if err != nil {
		return err
	}
	var running atomic.Pointer[edge.Edge] // nil until it has started
	a, err := startAdmin(c.Admin, func(context.Context) error { return edgeReady(running.Load()) })
	if err != nil {
		return err
	}
	defer a.Close()
	listener, err := listen("listen", c.Listen)
	if err != nil {
		return err
	}
	config := edge.Config{
		Node: node, Listener: listener, NATS: nats, Replicas: c.Replicas,
		Auth: edge.AuthConfig{Secret: []byte(c.AuthSecret), JWKSURL: c.JWKSURL, Audience: c.Audience, Issuer: c.Issuer, UserClaim: c.UserClaim, Log: p.log},
		Log:  p.log, Metrics: a.metrics,
	}
	c.apply(&config)
	e, err := edge.New(p.ctx, config)
	if err != nil {
		listener.Close()
		return err
	}
	running.Store(e)
	fmt.Fprintf(p.stdout, "ready %s\n", publicURL(listener))
	return e.Run(p.ctx)
}

func edgeReady(e *edge.Edge) error {
	if e == nil {
		return errors.New("starting")
	}
	if reason, ok := e.Ready(); !ok {
		return errors.New(reason)
	}
	return nil
}

func publicURL(l net.Listener) string { return "http://" + l.Addr().String() }

// storeFlag names the permanent store.
type storeFlag struct {
	Store string `help:"The permanent store, like sqlite:///var/lib/parley/parley.db." default:"sqlite://data/parley.db"`
}

func (f storeFlag) open(ctx context.Context) (*sqlite.Store, error) {
	path, ok := strings.CutPrefix(f.Store, "sqlite://")
	if !ok || path == "" {
		return nil, fmt.Errorf("--store %q: it is sqlite:// and the path of a file", f.Store)
	}
	return sqlite.Open(ctx, path)
}

// openMigrated opens the store for who does not migrate it.
func (f storeFlag) openMigrated(ctx context.Context) (*sqlite.Store, error) {
	st, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := st.CheckSchema(ctx); err != nil {
		st.Close()
		return nil, err
	}
	return st, nil
}

// workerCommand runs workers.
type workerCommand struct {
	Admin string   `help:"Address for operators: health, metrics, profiles. Never public." default:"127.0.0.1:8082"`
	Only  []string `help:"Workers to run, of persist and query; without it, all." enum:"persist,query"`
	natsFlags
	storeFlag
	Replicas int `help:"Replicas of the chat streams: with more than one, absence is asked of the leader." default:"1"`
}

func (c *workerCommand) Run(p *process) error {
	nats, err := c.config(streams.WorkerComponent, "")
	if err != nil {
		return err
	}
	st, err := c.openMigrated(p.ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	w := workers{only: c.Only, nats: nats, replicas: c.Replicas, store: st}
	a, err := startAdmin(c.Admin, w.ready)
	if err != nil {
		return err
	}
	defer a.Close()
	w.metrics = a.metrics
	return w.run(p, func() { fmt.Fprintf(p.stdout, "ready http://%s\n", a.address()) })
}

// workers are the consumers and services of one process.
type workers struct {
	only     []string // of persist and query; empty: both
	nats     streams.ConnectConfig
	replicas int
	store    *sqlite.Store
	metrics  prometheus.Registerer

	conn atomic.Pointer[nats.Conn] // nil until they have started
}

// run runs the workers until ctx ends or one of them does. It calls started once
// nothing keeps them from starting.
func (w *workers) run(p *process, started func()) error {
	w.nats.Log = p.log
	conn, err := streams.Connect(p.ctx, w.nats)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	layout, err := streams.LoadLayout(p.ctx, js)
	if err != nil {
		return err
	}
	log := streams.NewLog(js, layout, w.replicas)
	var runs []func(context.Context) error
	if w.runs("persist") {
		if err := checkSameLog(p.ctx, layout, log, w.store); err != nil {
			return err
		}
		persister, err := persist.New(persist.Config{JetStream: js, Log: log, Layout: layout, Store: w.store, Logger: p.log, Registerer: w.metrics})
		if err != nil {
			return err
		}
		runs = append(runs, persister.Run)
	}
	if w.runs("query") {
		service, err := query.New(query.Config{Conn: conn, Log: log, Layout: layout, Store: w.store, Logger: p.log, Registerer: w.metrics, Version: edge.Version})
		if err != nil {
			return err
		}
		runs = append(runs, service.Run)
	}
	w.conn.Store(conn)
	started()
	return runAll(p.ctx, runs...)
}

// checkSameLog refuses a store that is ahead of the log: one of them was
// replaced, and what is said now would get sequences that the store has already.
// What cannot be read now is no reason: persist looks again, and waits.
func checkSameLog(ctx context.Context, layout streams.Layout, log *streams.Log, st *sqlite.Store) error {
	for _, shard := range layout.All() {
		committed, err := st.Committed(ctx, shard.Token)
		if err != nil {
			continue
		}
		_, last, err := log.Bounds(ctx, shard)
		if err == nil && committed > last {
			return fmt.Errorf("the store has shard %s up to %d and the log ends at %d: they do not belong together: restore both from one backup, or begin with a fresh data directory",
				shard.Token, committed, last)
		}
	}
	return nil
}

func (w *workers) runs(name string) bool { return len(w.only) == 0 || slices.Contains(w.only, name) }

const readyAskWithin = 2 * time.Second

func (w *workers) ready(ctx context.Context) error {
	switch conn := w.conn.Load(); {
	case conn == nil:
		return errors.New("starting")
	case !conn.IsConnected():
		return errors.New("NATS is away")
	}
	ctx, cancel := context.WithTimeout(ctx, readyAskWithin)
	defer cancel()
	return w.store.Ping(ctx)
}

// runAll runs each until ctx ends or the first of them does, and returns what went wrong.
func runAll(ctx context.Context, runs ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(runs))
	var group sync.WaitGroup
	for i, run := range runs {
		group.Go(func() {
			defer cancel()
			errs[i] = run(ctx)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}
