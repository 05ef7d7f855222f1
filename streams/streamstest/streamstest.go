// Package streamstest gives tests a provisioned NATS server of their own.
package streamstest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/streams/natsserver"
)

// Options of an [Env]. The zero value is one node with four shards that syncs always.
type Options struct {
	Nodes    int              // default: 1
	Settings streams.Settings // default: 4 shards, a replica for each node, 32 MiB each
	// NoSync leaves syncing to the operating system: faster, for tests that
	// do not ask what survives.
	NoSync bool
	// NoProvision leaves the server empty.
	NoProvision bool
	// Administrator gives the worker's user every right, for tests that break
	// what Parley has no right to break.
	Administrator bool
	StoreBytesMax int64  // of the disk that each node may use; default: what is free
	DataDir       string // default: a directory of the test
	// Log shows the server's warnings. default: the test's log
	Log *slog.Logger
}

// Env is a running server.
type Env struct {
	Server *natsserver.Server
	Layout streams.Layout
	// NATS and JetStream are the worker's: with them all streams can be read and consumed.
	NATS      *nats.Conn
	JetStream jetstream.JetStream
	Passwords streams.Passwords
}

// Passwords are those of every test server.
func Passwords() streams.Passwords {
	return streams.Passwords{
		Edge: "edge-secret", Worker: "worker-secret", Operator: "operator-secret",
		Service: "service-secret", Admin: "admin-secret",
	}
}

// Conf returns the text of the repository's nats.conf, found above the directory
// in which the test runs.
func Conf(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "nats.conf"))
		if err == nil {
			return string(text)
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("nats.conf is in no directory above the test's: tests need the source tree")
		}
	}
}

// Start starts a server, provisions it as options say, and stops it when the test ends.
func Start(t testing.TB, options Options) *Env {
	t.Helper()
	env := &Env{Passwords: Passwords()}
	if options.Nodes == 0 {
		options.Nodes = 1
	}
	conf := Conf(t)
	if options.NoSync {
		conf = replace(t, conf, syncAlways, `sync_interval: "2m"`)
	}
	if options.StoreBytesMax > 0 {
		conf = replace(t, conf, "jetstream {\n", fmt.Sprintf("jetstream {\n  max_file_store: %d\n", options.StoreBytesMax))
	}
	if options.Administrator {
		const password = "password: $PARLEY_NATS_WORKER_PASSWORD"
		conf = replace(t, conf, password, password+" }\n{ user: nobody, password: $PARLEY_NATS_WORKER_PASSWORD")
	}
	if options.DataDir == "" {
		options.DataDir = t.TempDir()
	}
	if options.Log == nil {
		options.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	env.Server, err = natsserver.Start(ctx, natsserver.Config{
		Conf: conf, Listen: "127.0.0.1:0", DataDir: options.DataDir,
		Nodes: options.Nodes, Passwords: env.Passwords, Log: options.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Server.Shutdown)
	env.NATS = env.Connect(t, streams.WorkerComponent)
	env.JetStream = JetStream(t, env.NATS)
	if options.NoProvision {
		return env
	}
	env.Layout, err = streams.Provision(ctx, env.JetStream, testSettings(options))
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func testSettings(options Options) streams.Settings {
	s := options.Settings
	if s.Shards == 0 {
		s.Shards = 4
	}
	if s.Replicas == 0 {
		s.Replicas = options.Nodes
	}
	if s.MaxBytes == 0 {
		s.MaxBytes = 32 << 20
	}
	return s
}

const syncAlways = "sync_interval: always"

func replace(t testing.TB, conf, old, new string) string {
	t.Helper()
	if strings.Count(conf, old) != 1 {
		t.Fatalf("nats.conf does not say %q exactly once", old)
	}
	return strings.Replace(conf, old, new, 1)
}

// Connect connects as component and closes the connection when the test ends.
func (env *Env) Connect(t testing.TB, component streams.Component) *nats.Conn {
	t.Helper()
	return env.ConnectWith(t, streams.ConnectConfig{Component: component})
}

// ConnectWith is [Env.Connect] with hooks; URLs and Password are filled in.
func (env *Env) ConnectWith(t testing.TB, cfg streams.ConnectConfig) *nats.Conn {
	t.Helper()
	if cfg.URLs == nil {
		cfg.URLs = env.Server.URLs()
	}
	cfg.Password = env.Passwords.Of(cfg.Component)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	nc, err := streams.Connect(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// JetStream returns the JetStream of nc.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// testWriter brings a log into that of a test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
