package natsserver_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"parley/streams"
	"parley/streams/natsserver"
	"parley/streams/streamstest"
)

func config(t *testing.T) natsserver.Config {
	return natsserver.Config{
		Conf: streamstest.Conf(t), Listen: "127.0.0.1:0", DataDir: t.TempDir(),
		Passwords: streamstest.Passwords(), Log: slog.New(slog.DiscardHandler),
	}
}

func start(t *testing.T, cfg natsserver.Config) *natsserver.Server {
	t.Helper()
	srv, err := natsserver.Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	return srv
}

// wantSentence wants the start to fail with one line that says all of parts.
func wantSentence(t *testing.T, cfg natsserver.Config, parts ...string) {
	t.Helper()
	srv, err := natsserver.Start(testContext(t), cfg)
	if err == nil {
		srv.Shutdown()
		t.Fatal("the server started")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has more than one line", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestStartTellsThatThePortIsInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := config(t)
	cfg.Listen = taken.Addr().String()
	wantSentence(t, cfg, "listen on "+cfg.Listen, "the port is in use", "choose another address")
}

func TestStartTellsThatTheDataDirectoryIsNotOne(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.DataDir = filepath.Join(cfg.DataDir, "file")
	if err := os.WriteFile(cfg.DataDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantSentence(t, cfg, "open data directory "+cfg.DataDir, "choose one that can be written")
}

func TestStartTellsThatTheDataDirectoryIsNotReadable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root can read every directory")
	}
	cfg := config(t)
	if err := os.Chmod(cfg.DataDir, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(cfg.DataDir, 0o700) })
	wantSentence(t, cfg, "open data directory "+cfg.DataDir, "make it writable")
}

func TestStartTellsThatJetStreamCannotUseTheDirectory(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantSentence(t, cfg, "Can't start JetStream", cfg.DataDir, "choose another data directory")
}

func TestStartTellsThatTheDataDirectoryIsInUse(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	start(t, cfg)
	wantSentence(t, cfg, cfg.DataDir+" is in use by another server")
}

func TestStartTellsEveryFaultOfItsConfig(t *testing.T) {
	t.Parallel()
	_, err := natsserver.Start(testContext(t), natsserver.Config{Listen: "nowhere", Nodes: 2})
	if err == nil {
		t.Fatal("the server started")
	}
	for _, part := range []string{`"nowhere"`, "data directory is empty", "2 NATS nodes", "set PARLEY_NATS_EDGE_PASSWORD"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestStartTellsThatAStreamIsDamaged(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	env := streamstest.Start(t, streamstest.Options{NoSync: true, DataDir: cfg.DataDir})
	shard, _ := publishEvents(t, env, 2)
	env.Server.Shutdown()
	dir := filepath.Join(cfg.DataDir, "jetstream", natsserver.AccountName, "streams", shard.Stream())
	if err := os.WriteFile(filepath.Join(dir, "meta.inf"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantSentence(t, cfg, "cannot open stream "+shard.Stream(), dir, "restore them from a backup")
}

func TestEventsOutliveTheServer(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(strconv.Itoa(nodes)+" nodes", func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			before := streamstest.Start(t, streamstest.Options{Nodes: nodes, DataDir: dir})
			shard, last := publishEvents(t, before, 3)
			before.Server.Shutdown()

			after := streamstest.Start(t, streamstest.Options{Nodes: nodes, DataDir: dir})
			if state := streamInfo(t, after, shard.Stream()).State; state.Msgs != 3 || state.LastSeq != last {
				t.Errorf("%d events up to %d after a restart, want 3 up to %d", state.Msgs, state.LastSeq, last)
			}
		})
	}
}

func TestANodeStopsAndComesBack(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{Nodes: 3, NoSync: true, Settings: streams.Settings{Shards: 1}})
	shard, _ := publishEvents(t, env, 1)
	urls := env.Server.URLs()
	leader := env.Server.Leader(shard.Stream())
	if leader < 0 {
		t.Fatalf("stream %s has no leader", shard.Stream())
	}
	env.Server.StopNode(leader)
	eventually(t, func() bool { return env.Server.Leader(shard.Stream()) >= 0 })
	if got := env.Server.Leader(shard.Stream()); got == leader {
		t.Errorf("node %d leads the stream though it is stopped", got)
	}
	publishEvents(t, env, 1)
	if err := env.Server.RestartNode(testContext(t), leader); err != nil {
		t.Fatal(err)
	}
	if got := env.Server.URLs(); !slices.Equal(got, urls) {
		t.Errorf("servers are at %v after a restart, were at %v", got, urls)
	}
	eventually(t, func() bool {
		replicas := streamInfo(t, env, shard.Stream()).Cluster.Replicas
		return len(replicas) == 2 && replicas[0].Current && replicas[1].Current
	})
}

// Not parallel, like everything that looks at all goroutines.
func TestShutdownLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, nodes := range []int{1, 3} {
		cfg := config(t)
		cfg.Nodes = nodes
		srv, err := natsserver.Start(testContext(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		nc, err := streams.Connect(testContext(t), streams.ConnectConfig{
			Component: streams.WorkerComponent, URLs: srv.URLs(), Password: cfg.Passwords.Worker, Log: cfg.Log,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := streams.Provision(testContext(t), streamstest.JetStream(t, nc), streams.Settings{Shards: 2, MaxBytes: 1 << 20, Replicas: nodes}); err != nil {
			t.Fatal(err)
		}
		nc.Close()
		srv.Shutdown()
		srv.Shutdown() // again is harmless
	}
	failing := config(t)
	failing.Conf = "nonsense {"
	wantSentence(t, failing, "read nats.conf")
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if srv, err := natsserver.Start(ctx, config(t)); err == nil {
		srv.Shutdown()
		t.Error("the server started in a context that had ended")
	}
}
