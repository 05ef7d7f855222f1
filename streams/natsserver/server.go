// Package natsserver runs nats-server inside the process, as one node or as a
// cluster of three nodes. `parley dev`, the benchmarks and the tests use it. A
// production system runs nats-server as a process of its own.
//
// [Start] locks the data directory, starts the nodes and waits until JetStream
// works. A [Server] restarts a node after its full disk has room again.
package natsserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"parley/streams"
)

const (
	// readyWithin bounds the wait for a node that has read its store. Reading it
	// has no bound: after a kill all of the log is read.
	readyWithin = 30 * time.Second
	readyPoll   = 5 * time.Millisecond
	// Somebody else may take a free port between our look and the server's listen.
	startTries = 3
)

// Config configures the NATS server inside the process.
type Config struct {
	Conf      string            // the text of nats.conf
	Listen    string            // host:port of the first node's clients, port 0 for a free one; default: 127.0.0.1:4222
	DataDir   string            // the streams are stored in it; with 3 nodes in its nats-1 to nats-3
	Nodes     int               // 1, or 3 for a cluster within the process; default: 1
	Passwords streams.Passwords // of the users of Conf
	Log       *slog.Logger      // default: slog.Default()
}

// Validate reports every fault at once.
func (cfg *Config) Validate() error {
	var faults []error
	if _, _, err := splitListen(cfg.Listen); err != nil {
		faults = append(faults, err)
	}
	if cfg.DataDir == "" {
		faults = append(faults, errors.New("data directory is empty: name one"))
	}
	if cfg.Nodes != 1 && cfg.Nodes != 3 {
		faults = append(faults, fmt.Errorf("%d NATS nodes: 1 or 3 can be started", cfg.Nodes))
	}
	for _, c := range streams.Components() {
		if cfg.Passwords.Of(c) == "" {
			faults = append(faults, fmt.Errorf("the password of NATS user %s is empty: set %s", c, c.PasswordVariable()))
		}
	}
	return errors.Join(faults...)
}

// Server is the NATS server inside the process: one node, or a cluster of three.
type Server struct {
	cfg  Config
	lock *dirLock

	endWatch context.CancelFunc
	watch    sync.WaitGroup // watchLoop

	mu    sync.Mutex
	nodes []*node
}

// Start starts the server and waits until JetStream works; with three
// nodes, until they have a leader and each of them follows it. Where it
// returns an error nothing is left running.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:4222"
	}
	if cfg.Nodes == 0 {
		cfg.Nodes = 1
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	for try := 1; ; try++ {
		s := &Server{cfg: cfg, lock: lock}
		err := s.start(ctx)
		if err == nil {
			watchCtx, cancel := context.WithCancel(context.Background())
			s.endWatch = cancel
			s.watch.Go(func() { s.watchLoop(watchCtx) })
			return s, nil
		}
		s.stopNodes()
		if errors.Is(err, errRoutePortTaken) && try < startTries {
			continue
		}
		lock.unlock()
		return nil, fmt.Errorf("start NATS: %w", err)
	}
}

func (s *Server) start(ctx context.Context) error {
	if err := s.layNodes(); err != nil {
		return err
	}
	// All at once: a node of a cluster is ready only when others are there.
	errs := make(chan error, len(s.nodes))
	for _, n := range s.nodes {
		go func() { errs <- n.start(ctx) }()
	}
	var err error
	for range s.nodes {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	return s.waitReady(ctx)
}

// layNodes decides names, directories and ports.
func (s *Server) layNodes() error {
	host, port, err := splitListen(s.cfg.Listen)
	if err != nil {
		return err
	}
	if err := checkPortFree(s.cfg.Listen, port); err != nil {
		return err
	}
	routes, err := freePorts(s.cfg.Nodes)
	if err != nil {
		return err
	}
	// Routes are open to whoever can reach loopback, so they have a password too.
	secret := rand.Text()
	s.nodes = make([]*node, s.cfg.Nodes)
	for i := range s.nodes {
		n := &node{
			name: "nats-" + strconv.Itoa(i+1), dir: s.cfg.DataDir,
			host: host, port: port, cfg: &s.cfg,
		}
		if s.cfg.Nodes > 1 {
			n.dir = filepath.Join(s.cfg.DataDir, n.name)
			n.routePort, n.routePorts, n.routeSecret = routes[i], routes, secret
		}
		s.nodes[i] = n
		port = server.RANDOM_PORT // the others' clients find them through the first
	}
	return nil
}

// waitReady returns once every running node can serve JetStream requests.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		waiting := s.notReady()
		if waiting == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: look at the server's log above, or give it a fresh data directory: %w", waiting, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// notReady says what is still to be waited for, or nothing, which ends the start
// of every node. A cluster with a node stopped is
// ready when the others are.
func (s *Server) notReady() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var leader bool
	var running int
	for _, n := range s.nodes {
		if n.srv == nil {
			continue
		}
		running++
		switch {
		case !n.srv.JetStreamEnabled():
			return n.name + " has no JetStream"
		case len(s.nodes) > 1 && !n.srv.JetStreamIsCurrent():
			return n.name + " does not follow the cluster's leader"
		}
		if len(s.nodes) == 1 || n.srv.JetStreamIsLeader() && len(n.srv.JetStreamClusterPeers()) == len(s.nodes) {
			leader = true
		}
	}
	if running > 0 && !leader {
		return "the cluster has no leader that knows all nodes"
	}
	for _, n := range s.nodes {
		if n.srv != nil {
			n.log.changing.Store(false)
		}
	}
	return ""
}

// URLs returns where clients connect, of every node that was started.
func (s *Server) URLs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	urls := make([]string, len(s.nodes))
	for i, n := range s.nodes {
		urls[i] = "nats://" + n.address()
	}
	return urls
}

// Address is the host:port of the first node.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[0].address()
}

// Nodes returns how many nodes there are, running or stopped.
func (s *Server) Nodes() int { return s.cfg.Nodes }

// StopNode shuts node i down in order and waits for it.
func (s *Server) StopNode(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[i].stop()
}

// RestartNode starts node i again, on the ports and the directory it had, and
// waits until it is ready.
func (s *Server) RestartNode(ctx context.Context, i int) error {
	s.mu.Lock()
	s.nodes[i].stop()
	err := s.nodes[i].start(ctx)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("restart NATS: %w", err)
	}
	if err := s.waitReady(ctx); err != nil {
		return fmt.Errorf("restart NATS: %w", err)
	}
	return nil
}

// Leader returns the index of the node that leads stream, or the cluster's own
// leader where stream is empty; -1 where there is none.
func (s *Server) Leader(stream string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range s.nodes {
		switch {
		case n.srv == nil:
		case len(s.nodes) == 1,
			stream == "" && n.srv.JetStreamIsLeader(),
			stream != "" && n.srv.JetStreamIsStreamLeader(AccountName, stream):
			return i
		}
	}
	return -1
}

// Shutdown stops every node in order and returns when they are gone.
func (s *Server) Shutdown() {
	s.endWatch()
	s.watch.Wait()
	s.stopNodes()
	s.lock.unlock()
}

func (s *Server) stopNodes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		if n.srv != nil {
			n.log.changing.Store(true) // before any of them loses another
		}
	}
	var stopped sync.WaitGroup
	for _, n := range s.nodes {
		stopped.Go(n.stop)
	}
	stopped.Wait()
}
