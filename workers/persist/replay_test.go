package persist_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
	"parley/workers/persist"
	"parley/workers/store"
	"parley/workers/workerstest"
)

// letters are the letters of persist in the stream DEAD.
func (w *world) letters() (letters []dead.Letter) {
	w.t.Helper()
	for letter, err := range dead.List(w.t.Context(), w.JetStream, streams.PersistConsumer) {
		if err != nil {
			w.t.Fatal(err)
		}
		letters = append(letters, letter)
	}
	return letters
}

// replay replays all letters and returns the errors of those that stay, by seq.
func (w *world) replay(st persist.ReplayStore) map[uint64]error {
	w.t.Helper()
	refused := make(map[uint64]error)
	handlers := map[string]dead.Handler{streams.PersistConsumer: persist.NewReplayer(st, w.Layout)}
	err := dead.Replay(w.t.Context(), w.JetStream, "", handlers, func(l dead.Letter, err error) {
		if err != nil {
			refused[l.Seq] = err
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return refused
}

func TestReplayedEventsStandInTheirPlaceAndAreNotCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var refuses atomic.Bool
	refuses.Store(true)
	start := func() *persister {
		return w.start(func(cfg *persist.Config) {
			cfg.Store = &faultyStore{Store: cfg.Store, beforeCommit: func(_ context.Context, b store.Batch) error {
				for i := range 4 {
					if refuses.Load() && hasID(b, fmt.Sprintf("bad%d", i)) {
						return fmt.Errorf("not yet: %w", store.ErrBatch)
					}
				}
				return nil
			}}
		})
	}
	w.say(10, 1)
	middle := w.publish(chatNo(0), eventJSON("bad0"))
	w.say(10, 1)
	last := w.publish(chatNo(0), eventJSON("bad1"))
	alone := w.publish(chatNo(7), eventJSON("bad2")) // a chat of which nothing else is stored
	early := w.publish(chatNo(1), eventJSON("bad3")) // a chat whose first stored event comes after it
	w.say(4, 2)
	p := start()
	w.wantStored()
	if letters := w.letters(); len(letters) != 4 {
		t.Fatalf("%d letters, want 4", len(letters))
	}
	p.stop()

	refuses.Store(false)
	refused := w.replay(w.store)
	if len(refused) != 1 || refused[early] == nil || !strings.Contains(refused[early].Error(), "before the first one") {
		t.Errorf("refused: %v; want only %d", refused, early)
	}
	if letters := w.letters(); len(letters) != 1 || letters[0].Seq != early {
		t.Errorf("letters that stay: %v, want that of %d", letters, early)
	}
	check := func() {
		t.Helper()
		var seqs []uint64
		rows := w.stored(chatNo(0))
		for i, e := range rows {
			seqs = append(seqs, e.Seq)
			if i > 0 && e.Seq <= rows[i-1].Seq {
				t.Errorf("%d comes after %d", e.Seq, rows[i-1].Seq)
			}
			replayed := e.Seq == middle || e.Seq == last
			if want := rows[max(0, i-1)].N; replayed && (e.N != want || e.Prev != rows[i-1].Seq) {
				t.Errorf("replayed %d has n %d and prev %d, want the n and the seq of the one before it", e.Seq, e.N, e.Prev)
			}
			if i > 0 && !replayed && e.N != rows[i-1].N+1 {
				t.Errorf("%d has n %d after n %d", e.Seq, e.N, rows[i-1].N)
			}
		}
		if len(rows) != len(w.sent[chatNo(0)])+2 {
			t.Errorf("rows are %v; want the %d that were said and two more", seqs, len(w.sent[chatNo(0)]))
		}
		backward, _, err := w.store.Page(t.Context(), chatNo(0), store.Range{Before: middle + 1, Limit: 1})
		if err != nil || len(backward) != 1 || backward[0].Seq != middle {
			t.Errorf("below %d is %v, error %v", middle+1, backward, err)
		}
		if rows := w.stored(chatNo(7)); len(rows) != 1 || rows[0].Seq != alone {
			t.Errorf("the chat of one event has %v", rows)
		}
	}
	check()

	// A letter that could not be removed is replayed again, and nothing changes.
	if err := dead.Bury(t.Context(), w.JetStream, dead.Letter{
		Consumer: streams.PersistConsumer, Stream: w.Layout.At(0).Stream(), Seq: middle,
		Subject: w.Layout.At(0).Timeline(chatNo(0)), Data: eventJSON("bad0"), Reason: "again",
	}); err != nil {
		t.Fatal(err)
	}
	w.replay(w.store)
	check()

	// The chat goes on where it was.
	start()
	w.say(5, 1)
	for shard, last := range w.last {
		workerstest.WaitFor(t, "what was said since is stored", func() bool { return w.committed(shard) == last })
	}
	check()
}

func TestReplayWaitsForPersist(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.say(3, 1)
	chat := chatNo(0)
	letter := dead.Letter{
		Consumer: streams.PersistConsumer, Stream: w.Layout.At(0).Stream(), Seq: w.last[w.Layout.At(0)],
		Subject: w.Layout.At(0).Timeline(chat), Data: eventJSON("x"), Reason: "test",
	}
	if err := dead.Bury(t.Context(), w.JetStream, letter); err != nil {
		t.Fatal(err)
	}
	if err := w.replay(w.store)[letter.Seq]; err == nil || !strings.Contains(err.Error(), "not its turn") {
		t.Errorf("replay of what persist has not passed: %v", err)
	}
	if rows := w.stored(chat); len(rows) != 0 {
		t.Errorf("stored: %v", rows)
	}
}

func TestReplayRefusesWhatIsStillPoison(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.say(3, 1)
	group, err := schemas.ParseChat("group.x")
	if err != nil {
		t.Fatal(err)
	}
	w.publish(chatNo(0), []byte(`{"type":7}`))
	p := w.start(nil)
	w.wantStored()
	workerstest.WaitFor(t, "the letter is counted", func() bool { return p.metric("dead_letters_total") == 1 })
	if err := dead.Bury(t.Context(), w.JetStream, dead.Letter{
		Consumer: streams.PersistConsumer, Stream: "CHAT_9", Seq: 1,
		Subject: "chat.9." + group.String() + ".timeline", Data: eventJSON("x"), Reason: "test",
	}); err != nil {
		t.Fatal(err)
	}
	if refused := w.replay(w.store); len(refused) != 2 {
		t.Errorf("refused: %v; want both", refused)
	}
}
