//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/tests/cassandra"
	"parley/tests/cassandra/flock"
)

// cluster is all parts and what they share.
type cluster struct {
	flags
	term      *terminal
	dir       string // of all data
	temporary bool   // dir goes at the end
	lock      *flock.Lock
	ports     ports
	secrets   secrets
	programs  programs
	began     time.Time
	up        atomic.Bool // from the end of start to the beginning of stop

	// In the order of their start. Empty or nil: not started.
	nats      []*process
	cassandra *cassandra.Node
	workers   []*process
	edges     []*process
	proxies   []*process
}

func newCluster(f flags, term *terminal) (*cluster, error) {
	c := &cluster{flags: f, term: term, dir: f.Data, began: time.Now()}
	var err error
	if c.temporary = c.dir == ""; c.temporary {
		c.dir, err = os.MkdirTemp("", "parley-cluster-")
	} else if c.dir, err = filepath.Abs(c.dir); err == nil {
		err = os.MkdirAll(c.dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	c.lock, err = flock.Try(filepath.Join(c.dir, "lock"))
	if errors.Is(err, flock.ErrHeld) {
		return nil, fmt.Errorf("a cluster runs in %s already: end it, or choose another directory with --data", c.dir)
	}
	if err != nil {
		return nil, err
	}
	if c.ports, err = loadOrChoosePorts(c.dir); err != nil {
		return nil, err
	}
	c.secrets, err = loadOrMakeSecrets(c.dir, c.ports.address("nats-1"))
	return c, err
}

func (c *cluster) removeData() {
	if c.temporary {
		_ = os.RemoveAll(c.dir) // the system clears what stays
	}
	c.lock.Unlock()
}

// start starts all parts, each after what it needs.
func (c *cluster) start(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"building", c.build},
		{"starting three NATS servers", c.startNATS},
		{"starting Cassandra", c.startCassandra}, // meanwhile the NATS servers find each other
		{"waiting for the NATS cluster", c.awaitNATS},
		{"making streams and tables", c.migrate},
		{"starting two workers", c.startWorkers},
		{"starting two edges", c.startEdges},
		{"starting HAProxy", c.startProxy},
	} {
		if c.Store != "cassandra" && strings.HasSuffix(step.what, "Cassandra") {
			continue
		}
		if err := c.term.during(step.what, func() error { return step.do(ctx) }); err != nil {
			return err
		}
	}
	c.up.Store(true)
	return nil
}

// build also looks for all that cannot be built, before anything is started.
func (c *cluster) build(ctx context.Context) (err error) {
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen at %s: %w: choose another address with --listen, or end what uses this one", c.Listen, errors.Unwrap(err))
	}
	listener.Close() // HAProxy's
	if c.programs, err = buildPrograms(ctx, c.dir); err != nil {
		return err
	}
	if c.Store != "cassandra" {
		return nil
	}
	err = cassandra.Prepare(ctx, progress{c.term})
	if errors.Is(err, cassandra.ErrNoJava) || errors.Is(err, cassandra.ErrNoMaven) {
		return fmt.Errorf("%w: install it, or run with --store sqlite", err)
	}
	return err
}

// progress has what Cassandra's package tells in the terminal.
type progress struct{ term *terminal }

func (p progress) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		p.term.say("%s", strings.TrimSpace(line))
	}
	return len(text), nil
}

// keep starts again what ends, until ctx does.
func (c *cluster) keep(ctx context.Context) {
	var keeping sync.WaitGroup
	for _, group := range [][]*process{c.nats, c.workers, c.edges, c.proxies} {
		for _, p := range group {
			keeping.Go(func() { p.keepLoop(ctx) })
		}
	}
	if c.cassandra != nil {
		keeping.Go(func() { c.keepCassandraLoop(ctx) })
	}
	<-ctx.Done()
	c.term.say("ending: edges, workers, NATS, Cassandra")
	keeping.Wait()
}

func (c *cluster) keepCassandraLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.cassandra.Done():
		}
		c.term.say("cassandra ended and starts again in %s", restartAfter)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartAfter):
		}
		if err := c.cassandra.Restart(ctx); err != nil && ctx.Err() == nil {
			c.term.say("restart cassandra: %v", err)
		}
	}
}

// stop ends all parts, each before what it needs: edges tell their clients to
// come back elsewhere, through the proxy; workers hand their shards over.
func (c *cluster) stop() error {
	c.up.Store(false)
	var errs []error
	for _, group := range [][]*process{c.edges, c.proxies, c.workers, c.nats} {
		errs = append(errs, stopAll(group))
	}
	if c.cassandra != nil {
		errs = append(errs, c.cassandra.Stop())
	}
	return errors.Join(errs...)
}

func stopAll(group []*process) error {
	errs := make([]error, len(group))
	var stopping sync.WaitGroup
	for i, p := range group {
		stopping.Go(func() { errs[i] = p.stop() })
	}
	stopping.Wait()
	return errors.Join(errs...)
}
