package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"parley/repair/rebuild"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/store"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a [workerstest.World] whose tests rebuild stores.
type world struct{ *workerstest.World }

func newWorld(t testing.TB, shards int) world {
	t.Helper()
	return world{workerstest.NewWorld(t, streamstest.Options{Settings: streams.Settings{Shards: shards}})}
}

// rebuild rebuilds st from the world's log.
func (w world) rebuild(st rebuild.Store, change func(*rebuild.Config)) (rebuild.Progress, error) {
	w.T.Helper()
	js := streamstest.JetStream(w.T, w.Connect(w.T, streams.WorkerComponent))
	cfg := rebuild.Config{JetStream: js, Log: streams.NewLog(js, w.Layout), Layout: w.Layout, Store: st}
	if change != nil {
		change(&cfg)
	}
	r, err := rebuild.New(cfg)
	if err != nil {
		w.T.Fatal(err)
	}
	err = r.Run(w.T.Context())
	return r.Progress(), err
}

// A rebuild of an empty store makes what persist makes, gives up what persist
// gives up, once, and persist goes on behind it.
func TestRebuildDoesWhatPersistDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.Say(300, 5)
	w.Publish(workerstest.ChatNo(0), []byte("unreadable"))
	w.Publish(workerstest.ChatNo(1), workerstest.MessageJSON("bad0")) // the store takes it from nobody
	w.Say(300, 5)
	st := &refusingStore{Store: w.Store}
	rebuildAll := func() {
		t.Helper()
		at, err := w.rebuild(st, nil)
		if err != nil || at.Done != at.Total || at.Events != 600 {
			t.Fatalf("%+v, %v; want 600 events", at, err)
		}
		if letters := w.Letters(); len(letters) != 2 {
			t.Errorf("%d dead letters, want 2", len(letters))
		}
		w.WantStored()
	}
	rebuildAll()
	rebuildAll()
	w.Say(100, 5)
	w.Persist()
	w.WantStored()
}

type refusingStore struct{ rebuild.Store }

func (s *refusingStore) Commit(ctx context.Context, b store.Batch) error {
	if workerstest.HasID(b, "bad0") {
		return fmt.Errorf("not this one: %w", store.ErrBatch)
	}
	return s.Store.Commit(ctx, b)
}

// Beside a worker nothing is written, be it one that has nothing to do.
func TestRebuildIsRefusedWhileAWorkerOwnsAShard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	stop := w.Persist()
	workerstest.WaitFor(t, "the worker waits for its first event", func() bool {
		consumer, err := w.JetStream.Consumer(t.Context(), w.Layout.At(1).Stream(), streams.PersistConsumer)
		return err == nil && consumer.CachedInfo().NumWaiting > 0
	})
	short := func(c *rebuild.Config) { c.OwnedWithin = time.Millisecond }
	empty := workerstest.OpenStore(t)
	// A pull of the worker may end just as it is looked at: then the next look finds it.
	refused := func() {
		t.Helper()
		workerstest.WaitFor(t, "the rebuild is refused", func() bool {
			_, err := w.rebuild(empty, short)
			return errors.Is(err, rebuild.ErrOwned) && strings.Contains(err.Error(), "stop all workers")
		})
	}
	refused()
	w.Say(20, 5)
	w.WantStored()
	refused()
	stop()
	if _, err := w.rebuild(w.Store, nil); err != nil { // waits until the pin has ended
		t.Error(err)
	}
}

// A worker that starts in the middle is met by the shard's row.
func TestRebuildStopsWhereAWorkerGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(100, 3)
	last := w.Last[w.Layout.At(0)]
	st := &overtakenStore{Store: w.Store, row: last}
	if _, err := w.rebuild(st, func(c *rebuild.Config) { c.BatchEventsMax = 10 }); !errors.Is(err, rebuild.ErrOwned) {
		t.Errorf("%v, want ErrOwned", err)
	}
	if st.commits != 3 {
		t.Errorf("%d commits, want none after the third", st.commits)
	}
}

// overtakenStore has the shard's row raised by another after three commits.
type overtakenStore struct {
	rebuild.Store
	row     uint64
	commits int
}

func (s *overtakenStore) Commit(ctx context.Context, b store.Batch) error {
	s.commits++
	err := s.Store.Commit(ctx, b)
	if err == nil && s.commits == 3 {
		err = s.Store.Commit(ctx, store.Batch{Shard: b.Shard, Committed: s.row})
	}
	return err
}

func TestRebuildOfAnotherLogIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(10, 1)
	shard := w.Layout.At(0)
	if err := w.Store.Commit(t.Context(), store.Batch{Shard: shard.Token, Committed: w.Last[shard] + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.rebuild(w.Store, nil); !errors.Is(err, rebuild.ErrBeyondLog) {
		t.Errorf("%v, want ErrBeyondLog", err)
	}
}

func TestRebuildConfigIsValidated(t *testing.T) {
	t.Parallel()
	_, err := rebuild.New(rebuild.Config{ShardsAtOnce: -1, BatchEventsMax: -1, HeadsMax: -2, RetryWithin: -1})
	for _, want := range []string{"no JetStream", "no log", "no store", "no layout", "shards at once", "batches", "heads", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
