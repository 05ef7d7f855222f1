package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"parley/edge"
	"parley/streams"
	"parley/workers/chats"
	"parley/workers/persist"
	"parley/workers/presence"
	"parley/workers/query"
	"parley/workers/receipts"
	"parley/workers/users"
	"parley/workers/worker"
)

// workerCommand runs workers.
type workerCommand struct {
	Admin string   `help:"Address for operators: health, metrics, profiles. Never public." default:"127.0.0.1:8082"`
	Only  []string `help:"Workers to run, of persist, receipts, presence, query, chats and users; without it, all." enum:"persist,receipts,presence,query,chats,users"`
	natsFlags
	storeFlag
	Replicas int `help:"Replicas that the chat streams must have, or it does not start; 0: whatever they have." default:"0"`
}

func (c *workerCommand) Run(p *process) error {
	nats, err := c.config(streams.WorkerComponent, "")
	if err != nil {
		return err
	}
	st, err := c.openMigrated(p.ctx, p.log)
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
	only     []string // of persist, receipts, presence, query, chats and users; empty: all
	nats     streams.ConnectConfig
	replicas int // that the chat streams must have; 0: whatever they have
	store    permanentStore
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
	if err := layout.CheckReplicas(w.replicas); err != nil {
		return err
	}
	log := streams.NewLog(js, layout)
	var publisher *streams.Publisher // only chats publishes to the log
	if w.runs("chats") {
		if publisher, err = streams.NewPublisher(conn); err != nil {
			return err
		}
		defer closePublisher(publisher)
	}

	var answering latches
	runs := []func(context.Context) error{
		func(ctx context.Context) error { log.FollowLoop(ctx, p.log); return nil },
	}
	for _, name := range workerNames {
		if !w.runs(name) {
			continue
		}
		made, err := w.newWorker(p, name, js, log, publisher, &answering)
		if err != nil {
			return err
		}
		runs = append(runs, made.Run)
	}
	runs = append(runs, func(ctx context.Context) error {
		if answering.await(ctx) == nil {
			w.conn.Store(conn)
			started()
		}
		<-ctx.Done()
		return nil
	})
	return runAll(p.ctx, runs...)
}

// workerNames are all workers, in the order in which a process makes them.
var workerNames = []string{"persist", "receipts", "presence", "query", "users", "chats"}

// runner is a worker; Run serves until its context ends.
type runner interface {
	Run(context.Context) error
}

// newWorker makes a worker. A micro service delays the start until it answers.
func (w *workers) newWorker(p *process, name string, js jetstream.JetStream, log *streams.Log, publisher *streams.Publisher, answering *latches) (runner, error) {
	conn := js.Conn()
	runtime := worker.Runtime{Logger: p.log, Registerer: w.metrics, Version: edge.Version}
	switch name {
	case "persist":
		if err := checkSameLog(p.ctx, log, w.store); err != nil {
			return nil, err
		}
		return persist.New(persist.Config{JetStream: js, Log: log, Store: w.store, Runtime: runtime})
	case "receipts":
		return receipts.New(receipts.Config{Conn: conn, JetStream: js, Log: log, Store: w.store, Runtime: runtime})
	}
	runtime.Started = answering.add()
	switch name {
	case "presence":
		return presence.New(presence.Config{Conn: conn, JetStream: js, Log: log, Store: w.store, Runtime: runtime})
	case "query":
		return query.New(query.Config{Conn: conn, Log: log, Store: w.store, Runtime: runtime})
	case "users":
		return users.New(users.Config{Conn: conn, Store: w.store, Runtime: runtime})
	case "chats":
		return chats.New(chats.Config{Conn: conn, Log: log, Publisher: publisher, Store: w.store, Runtime: runtime})
	}
	return nil, fmt.Errorf("there is no worker %q: the workers are %v", name, workerNames)
}

func closePublisher(publisher *streams.Publisher) {
	ctx, cancel := context.WithTimeout(context.Background(), publisherStopWithin)
	defer cancel()
	publisher.Close(ctx)
}

// latches are what has to happen before a process has started.
type latches []chan struct{}

// add returns what is called when one more thing has happened.
func (l *latches) add() func() {
	happened := make(chan struct{})
	*l = append(*l, happened)
	return sync.OnceFunc(func() { close(happened) })
}

// await returns when all has happened, or the error of ctx.
func (l latches) await(ctx context.Context) error {
	for _, happened := range l {
		select {
		case <-happened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (w *workers) runs(name string) bool { return len(w.only) == 0 || slices.Contains(w.only, name) }

const (
	readyAskWithin = 2 * time.Second
	// publisherStopWithin bounds what is still on its way to the log at the end.
	publisherStopWithin = 5 * time.Second
)

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
