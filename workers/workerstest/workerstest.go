// Package workerstest has what tests of workers put together from real parts: a
// store in a file, and runs that end with the test.
package workerstest

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/persist"
	"parley/workers/store/sqlite"
)

// OpenStore returns an empty store, which is closed at the test's end.
func OpenStore(t testing.TB) *sqlite.Store {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "parley.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return st
}

// Run has run go on until stop is called, or the test ends.
func Run(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// Persist stores what is in the log and what comes, until stop is called.
func Persist(t testing.TB, env *streamstest.Env, st persist.Store) (stop func()) {
	t.Helper()
	js := streamstest.JetStream(t, env.Connect(t, streams.WorkerComponent))
	p, err := persist.New(persist.Config{
		JetStream: js, Log: streams.NewLog(js, env.Layout), Store: st,
		WindowMin: 5 * time.Millisecond, WindowMax: 10 * time.Millisecond, PollWithin: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return Run(t, p.Run)
}

// PersistAll stores all that is in the log, and nothing after.
func PersistAll(t testing.TB, env *streamstest.Env, st persist.Store) {
	t.Helper()
	stop := Persist(t, env, st)
	defer stop()
	log := streams.NewLog(env.JetStream, env.Layout)
	for _, shard := range env.Layout.All() {
		_, last, err := log.Bounds(t.Context(), shard)
		if err != nil {
			t.Fatal(err)
		}
		WaitFor(t, "all is stored", func() bool {
			committed, err := st.Committed(context.Background(), shard.Token)
			return err == nil && (committed >= last || last < shard.FirstSeq())
		})
	}
}

// WaitFor waits until ok says so: the events that it waits for come by themselves.
func WaitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}
