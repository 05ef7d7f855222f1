package persist_test

import (
	"context"
	"sync/atomic"
	"testing"

	"parley/workers/persist"
	"parley/workers/store"
	"parley/workers/workerstest"
)

// An owner is paused with a full window: the next takes over once the pin is
// over, and then the first wakes.
func TestPausedOwnerHarmsNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		stored bool // the first commits its window when it wakes
		pause  func(*faultyStore, *gate)
	}{
		{"as it takes over", false, func(s *faultyStore, g *gate) { passAt(s, g, 2) }},
		{"before it compares the row", false, func(s *faultyStore, g *gate) { passAt(s, g, 3) }},
		{"between the row and the commit", true, func(s *faultyStore, g *gate) {
			s.beforeCommit = func(context.Context, store.Batch) error { g.pass(); return nil }
		}},
		{"between the commit and the ack", true, func(s *faultyStore, g *gate) {
			s.afterCommit = func(context.Context) error { g.pass(); return nil }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.Say(2500, 5)
			g := newGate()
			first := w.start(func(cfg *persist.Config) {
				s := &faultyStore{Store: cfg.Store}
				test.pause(s, g)
				cfg.Store = s
			})
			<-g.reached
			second := w.start(nil)
			w.WantStored()
			close(g.open)
			w.Say(500, 5)
			w.WantStored()
			workerstest.WaitFor(t, "the first knows that it is no owner", func() bool { return first.metric("pending") == 0 })
			w.Say(500, 5)
			w.WantStored()
			w.wantAcked()
			if second.metric("takeovers_total") == 0 {
				t.Error("the second never took over")
			}
			if test.stored != (first.metric("events_total") > 0) {
				t.Errorf("the first has committed %v events when it woke", first.metric("events_total"))
			}
			// What the first knew of the chats is old when it is the owner again.
			second.stop()
			w.Say(500, 5)
			w.WantStored()
			w.wantAcked()
		})
	}
}

// The first wakes while the second, with a window of its own, is behind it: the
// first commits and acknowledges beyond what the second has committed.
func TestPausedOwnerWakesAheadOfTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(2500, 5)
	firstGate, secondGate := newGate(), newGate()
	first := w.start(func(cfg *persist.Config) {
		cfg.Store = &faultyStore{Store: cfg.Store, beforeCommit: func(context.Context, store.Batch) error { firstGate.pass(); return nil }}
	})
	<-firstGate.reached
	var commits atomic.Int32
	second := w.start(func(cfg *persist.Config) {
		cfg.BatchEventsMax = 300
		cfg.Store = &faultyStore{Store: cfg.Store, beforeCommit: func(context.Context, store.Batch) error {
			if commits.Add(1) == 2 {
				secondGate.pass()
			}
			return nil
		}}
	})
	<-secondGate.reached // it has committed 300 and holds the next 300
	close(firstGate.open)
	workerstest.WaitFor(t, "the first has committed its window", func() bool { return first.metric("events_total") >= 2000 })
	close(secondGate.open)
	w.Say(500, 5)
	w.WantStored()
	w.wantAcked()
	if second.metric("takeovers_total") == 0 {
		t.Error("the second never took over")
	}
	// It saw that the first was ahead, and did not read the 1,400 that are committed.
	// A few holes may be: a pull that ended while a message was on its way.
	if holes := second.metric("holes_total"); holes > 500 {
		t.Errorf("the second read %v sequences one by one", holes)
	}
}

// passAt stops at the n-th reading of the shard's row: the first is when nobody
// owns the shard, the second at the takeover, the third before the commit.
func passAt(s *faultyStore, g *gate, n int32) {
	var calls atomic.Int32
	s.beforeCommitted = func(context.Context) error {
		if calls.Add(1) == n {
			g.pass()
		}
		return nil
	}
}
