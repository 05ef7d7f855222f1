package persist_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/dead"
	"parley/workers/persist"
	"parley/workers/store"
	"parley/workers/workerstest"
)

func TestEventsAreStoredInTheLogsOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.Say(500, 10)
	p := w.start(nil)
	w.Say(500, 10)
	w.WantStored()
	w.wantAcked()
	workerstest.WaitFor(t, "all events are counted", func() bool { return p.metric("events_total") == 1000 })
	p.wantMetric("takeovers_total", 2)
	p.wantMetric("lost_total", 0)
	p.stop()
	w.Say(10, 3)
	w.start(nil)
	w.WantStored()
}

func TestRedeliveredEventsAreSkippedAndAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(300, 3)
	w.start(nil)
	w.WantStored()
	w.wantAcked()
	// The same owner is given all of it again.
	if _, err := w.JetStream.ResetConsumerToSequence(t.Context(), w.Layout.At(0).Stream(), streams.PersistConsumer, w.Layout.At(0).FirstSeq()); err != nil {
		t.Fatal(err)
	}
	w.Say(10, 3)
	w.WantStored()
	w.wantAcked()
}

func TestAckThatIsLostCostsOnlyARedelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var failures atomic.Int32
	w.Say(300, 3)
	p := w.start(func(cfg *persist.Config) {
		cfg.JetStream = &faultyJetStream{JetStream: cfg.JetStream, failAck: func() bool { return failures.Add(1) <= 3 }}
		cfg.BatchEventsMax = 50
	})
	w.WantStored()
	w.wantAcked()
	if p.metric("takeovers_total") < 2 {
		t.Error("an ack was lost, and the shard was not begun again")
	}
}

// A commit whose outcome is unknown was written: the next try finds the row moved.
func TestCommitThatWasWrittenAndFailedIsNotDoneTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var calls atomic.Int32
	w.Say(300, 3)
	w.start(func(cfg *persist.Config) {
		cfg.BatchEventsMax = 50
		cfg.Store = &faultyStore{Store: cfg.Store, afterCommit: func(context.Context) error {
			if calls.Add(1)%2 == 1 {
				return fmt.Errorf("answer lost: %w", store.ErrUnavailable)
			}
			return nil
		}}
	})
	w.WantStored()
	w.wantAcked()
}

func TestHiddenMessagesAreReadFromTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(300, 7)
	p := w.start(func(cfg *persist.Config) {
		cfg.JetStream = &faultyJetStream{JetStream: cfg.JetStream, hide: func(seq uint64) bool { return seq%7 == 3 }}
		cfg.Log = &faultyLog{Log: cfg.Log, failures: 3} // that the log does not answer says nothing
	})
	w.Say(300, 7)
	w.WantStored()
	if p.metric("holes_total") == 0 {
		t.Error("no hole was counted")
	}
	p.wantMetric("gone_total", 0)
}

// Nothing comes after it that would show the hole, and AckWait is a minute.
func TestLastMessageThatIsLostOnItsWayIsReadFromTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(9, 2)
	last := w.Last[w.Layout.At(0)]
	p := w.start(func(cfg *persist.Config) {
		cfg.JetStream = &faultyJetStream{JetStream: cfg.JetStream, hide: func(seq uint64) bool { return seq == last }}
	})
	w.WantStored()
	w.wantAcked()
	if p.metric("holes_total") == 0 {
		t.Error("it was not read from the log")
	}
}

func TestSequencesThatAreGoneAreSkippedAndCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var gone []uint64
	short := func(id string) {
		gone = append(gone, w.Publish(workerstest.ChatNo(0), workerstest.MessageJSON(id), jetstream.WithMsgTTL(time.Second)))
	}
	short("first")
	short("second")
	w.Say(20, 2)
	short("third")
	short("fourth")
	short("fifth")
	w.Say(20, 2)
	for _, seq := range gone {
		workerstest.WaitFor(t, fmt.Sprintf("%d is gone", seq), func() bool {
			_, err := w.Log().Sequence(context.Background(), w.Layout.At(0), seq)
			return errors.Is(err, streams.ErrGone)
		})
	}
	p := w.start(nil)
	w.WantStored()
	w.wantAcked()
	p.wantMetric("lost_total", 2) // before the log's first
	p.wantMetric("gone_total", 3) // within the log
	p.wantMetric("dead_letters_total", 0)
}

func TestPoisonGoesToDeadAndTheChatGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(20, 2)
	seq := w.Publish(workerstest.ChatNo(0), []byte(`{"type":"message","id":"no.good"}`))
	w.Say(20, 2)
	var refuse atomic.Bool
	refuse.Store(true)
	p := w.start(func(cfg *persist.Config) {
		cfg.JetStream = &faultyJetStream{JetStream: cfg.JetStream, refuseDead: &refuse}
	})
	// While DEAD cannot be written, nothing goes past the event.
	workerstest.WaitFor(t, "DEAD was refused", func() bool { return p.logs.lines("write dead letter") > 0 })
	workerstest.WaitFor(t, "what is before it is stored", func() bool { return w.Committed(w.Layout.At(0)) > 0 })
	if got := w.Committed(w.Layout.At(0)); got != seq-1 {
		t.Errorf("committed up to %d, want %d: before the poison", got, seq-1)
	}
	consumer, err := w.JetStream.Consumer(t.Context(), w.Layout.At(0).Stream(), streams.PersistConsumer)
	if err != nil {
		t.Fatal(err)
	}
	if floor := consumer.CachedInfo().AckFloor.Stream; floor >= seq {
		t.Errorf("acknowledged up to %d: at most %d may be", floor, seq-1)
	}
	refuse.Store(false)
	w.WantStored()
	w.wantAcked()
	p.wantMetric("dead_letters_total", 1)
	for letter, err := range dead.List(t.Context(), w.JetStream, streams.PersistConsumer) {
		if err != nil {
			t.Fatal(err)
		}
		if letter.Seq != seq || letter.Subject != w.Layout.At(0).Timeline(workerstest.ChatNo(0)) || letter.Stream != w.Layout.At(0).Stream() ||
			string(letter.Data) != `{"type":"message","id":"no.good"}` || letter.Reason == "" || letter.Time.IsZero() {
			t.Errorf("letter is %+v", letter)
		}
	}
}

func TestEventOfAStrangerIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(20, 2)
	seq := w.Publish(workerstest.ChatNo(0), []byte(`{"type":"message","id":"m","from":"mallory","body":{"kind":"text","text":"hi"}}`))
	w.Say(20, 2)
	p := w.start(nil)
	w.WantStored()
	w.wantAcked()
	p.wantMetric("dead_letters_total", 1)
	for letter, err := range dead.List(t.Context(), w.JetStream, streams.PersistConsumer) {
		if err != nil || letter.Seq != seq || !strings.Contains(letter.Reason, "mallory") {
			t.Errorf("letter is %+v, %v; want that of %d, naming mallory", letter, err, seq)
		}
	}
}

func TestEventThatTheStoreRefusesIsFoundAmongOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(100, 3)
	w.Publish(workerstest.ChatNo(1), workerstest.MessageJSON("bad"))
	w.Say(100, 3)
	p := w.start(func(cfg *persist.Config) {
		cfg.Store = &faultyStore{Store: cfg.Store, beforeCommit: func(_ context.Context, b store.Batch) error {
			if workerstest.HasID(b, "bad") {
				return fmt.Errorf("no room for it: %w", store.ErrBatch)
			}
			return nil
		}}
	})
	w.WantStored()
	w.wantAcked()
	p.wantMetric("dead_letters_total", 1)
	p.wantMetric("events_total", 200)
}

func TestStoreThatIsDownIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	var down atomic.Bool
	fail := func() error {
		if down.Load() {
			return fmt.Errorf("disk is full: %w", store.ErrUnavailable)
		}
		return nil
	}
	p := w.start(func(cfg *persist.Config) {
		cfg.Store = &faultyStore{Store: cfg.Store,
			beforeCommitted: func(context.Context) error { return fail() },
			beforeCommit:    func(context.Context, store.Batch) error { return fail() },
		}
	})
	w.Say(100, 5)
	w.WantStored()
	down.Store(true)
	w.Say(100, 5)
	workerstest.WaitFor(t, "the store is seen as down", func() bool { return p.metric("store_up") == 0 })
	workerstest.WaitFor(t, "the lag rises", func() bool { return p.metric("lag_seconds") > 0 })
	down.Store(false)
	w.WantStored()
	w.wantAcked()
	workerstest.WaitFor(t, "the store is seen as up", func() bool { return p.metric("store_up") == 1 })
	if n := p.logs.lines("store does not serve"); n != 1 {
		t.Errorf("the failure was logged %d times, want once", n)
	}
}

func TestStopWithTheStoreDownEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Say(10, 1)
	p := w.start(func(cfg *persist.Config) {
		cfg.Store = &faultyStore{Store: cfg.Store, beforeCommit: func(context.Context, store.Batch) error { return store.ErrUnavailable }}
	})
	workerstest.WaitFor(t, "the store is seen as down", func() bool { return p.metric("store_up") == 0 })
	p.stop()
	w.start(nil)
	w.WantStored()
}

func TestStopAndStartUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	for range 3 {
		p := w.start(func(cfg *persist.Config) { cfg.BatchEventsMax = 100 })
		w.Say(700, 10)
		workerstest.WaitFor(t, "something more is stored", func() bool { return p.metric("events_total") > 0 })
		p.stop()
		w.Say(300, 10)
	}
	w.start(nil)
	w.WantStored()
	w.wantAcked()
}

func TestStoreOfAnotherLogIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ahead := w.Layout.At(0).FirstSeq() + 1000
	if err := w.Store.Commit(t.Context(), store.Batch{Shard: w.Layout.At(0).Token, Committed: ahead}); err != nil {
		t.Fatal(err)
	}
	p := w.start(nil)
	w.Say(3, 1)
	workerstest.WaitFor(t, "it is logged", func() bool { return p.logs.lines("the log ends at") > 0 })
	if got := w.Committed(w.Layout.At(0)); got != ahead {
		t.Errorf("committed is %d, want the %d as it was", got, ahead)
	}
}
