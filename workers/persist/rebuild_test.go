package persist_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/persist"
	"parley/workers/store"
	"parley/workers/workerstest"
)

// rebuild rebuilds st from the world's log.
func (w *world) rebuild(st persist.RebuildStore, change func(*persist.RebuildConfig)) (persist.RebuildProgress, error) {
	w.t.Helper()
	js := streamstest.JetStream(w.t, w.Connect(w.t, streams.WorkerComponent))
	cfg := persist.RebuildConfig{JetStream: js, Log: streams.NewLog(js, w.Layout), Layout: w.Layout, Store: st}
	if change != nil {
		change(&cfg)
	}
	r, err := persist.NewRebuilder(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	err = r.Run(w.t.Context())
	return r.Progress(), err
}

// A rebuild of an empty store makes what persist makes, gives up what persist
// gives up, once, and persist goes on behind it.
func TestRebuildDoesWhatPersistDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.say(300, 5)
	w.publish(chatNo(0), []byte("unreadable"))
	w.publish(chatNo(1), eventJSON("bad0")) // the store takes it from nobody
	w.say(300, 5)
	st := &refusingStore{RebuildStore: w.store}
	rebuild := func() {
		t.Helper()
		at, err := w.rebuild(st, nil)
		if err != nil || at.Done != at.Total || at.Events != 600 {
			t.Fatalf("%+v, %v; want 600 events", at, err)
		}
		if letters := w.letters(); len(letters) != 2 {
			t.Errorf("%d dead letters, want 2", len(letters))
		}
		w.wantStored()
	}
	rebuild()
	rebuild()
	w.say(100, 5)
	w.start(nil)
	w.wantStored()
}

type refusingStore struct{ persist.RebuildStore }

func (s *refusingStore) Commit(ctx context.Context, b store.Batch) error {
	if hasID(b, "bad0") {
		return fmt.Errorf("not this one: %w", store.ErrBatch)
	}
	return s.RebuildStore.Commit(ctx, b)
}

// Beside a worker nothing is written, be it one that has nothing to do.
func TestRebuildIsRefusedWhileAWorkerOwnsAShard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	p := w.start(nil)
	workerstest.WaitFor(t, "the worker waits for its first event", func() bool {
		consumer, err := w.JetStream.Consumer(t.Context(), w.Layout.At(1).Stream(), streams.PersistConsumer)
		return err == nil && consumer.CachedInfo().NumWaiting > 0
	})
	short := func(c *persist.RebuildConfig) { c.OwnedWithin = time.Millisecond }
	empty := workerstest.OpenStore(t)
	// A pull of the worker may end just as it is looked at: then the next look finds it.
	refused := func() {
		t.Helper()
		workerstest.WaitFor(t, "the rebuild is refused", func() bool {
			_, err := w.rebuild(empty, short)
			return errors.Is(err, persist.ErrOwned) && strings.Contains(err.Error(), "stop all workers")
		})
	}
	refused()
	w.say(20, 5)
	w.wantStored()
	refused()
	p.stop()
	if _, err := w.rebuild(w.store, nil); err != nil { // waits until the pin has ended
		t.Error(err)
	}
}

// A worker that starts in the middle is met by the shard's row.
func TestRebuildStopsWhereAWorkerGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.say(100, 3)
	last := w.last[w.Layout.At(0)]
	st := &overtakenStore{RebuildStore: w.store, row: last}
	if _, err := w.rebuild(st, func(c *persist.RebuildConfig) { c.BatchEventsMax = 10 }); !errors.Is(err, persist.ErrOwned) {
		t.Errorf("%v, want ErrOwned", err)
	}
	if st.commits != 3 {
		t.Errorf("%d commits, want none after the third", st.commits)
	}
}

// overtakenStore has the shard's row raised by another after three commits.
type overtakenStore struct {
	persist.RebuildStore
	row     uint64
	commits int
}

func (s *overtakenStore) Commit(ctx context.Context, b store.Batch) error {
	s.commits++
	err := s.RebuildStore.Commit(ctx, b)
	if err == nil && s.commits == 3 {
		err = s.RebuildStore.Commit(ctx, store.Batch{Shard: b.Shard, Committed: s.row})
	}
	return err
}

func TestRebuildOfAnotherLogIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.say(10, 1)
	shard := w.Layout.At(0)
	if err := w.store.Commit(t.Context(), store.Batch{Shard: shard.Token, Committed: w.last[shard] + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.rebuild(w.store, nil); !errors.Is(err, persist.ErrBeyondLog) {
		t.Errorf("%v, want ErrBeyondLog", err)
	}
}

func TestRebuildConfigIsValidated(t *testing.T) {
	t.Parallel()
	_, err := persist.NewRebuilder(persist.RebuildConfig{ShardsAtOnce: -1, BatchEventsMax: -1, HeadsMax: -2, RetryWithin: -1})
	for _, want := range []string{"no JetStream", "no log", "no store", "no layout", "shards at once", "batches", "heads", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
