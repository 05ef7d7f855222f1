package replay_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"parley/repair/replay"
	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/dead"
	"parley/workers/store"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a [workerstest.World] whose tests replay what persist gave up on.
type world struct{ *workerstest.World }

func newWorld(t testing.TB) world {
	t.Helper()
	return world{workerstest.NewWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}})}
}

// persistRefusing persists all of the log, but for the events with these ids.
func (w world) persistRefusing(ids ...string) {
	w.T.Helper()
	stop := workerstest.Persist(w.T, w.Env, &workerstest.Refusing{Store: w.Store, IDs: ids})
	defer stop()
	w.WaitCommitted()
}

// replay replays all letters and returns the errors of those that stay, by seq.
func (w world) replay(st replay.Store) map[uint64]error {
	w.T.Helper()
	refused := make(map[uint64]error)
	handlers := map[string]replay.Handler{streams.PersistConsumer: replay.New(st, w.Layout)}
	err := replay.Letters(w.T.Context(), w.JetStream, "", handlers, func(l dead.Letter, err error) {
		if err != nil {
			refused[l.Seq] = err
		}
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return refused
}

// wantReplayed wants two replayed events in the first chat, which are not counted, and
// one that is alone in its chat.
func (w world) wantReplayed(middle, last, alone uint64) {
	w.T.Helper()
	var seqs []uint64
	rows := workerstest.Stored(w.T, w.Store, workerstest.ChatNo(0))
	for i, e := range rows {
		seqs = append(seqs, e.Seq)
		if i > 0 && e.Seq <= rows[i-1].Seq {
			w.T.Errorf("%d comes after %d", e.Seq, rows[i-1].Seq)
		}
		replayed := e.Seq == middle || e.Seq == last
		if want := rows[max(0, i-1)].N; replayed && (e.N != want || e.Prev != rows[i-1].Seq) {
			w.T.Errorf("replayed %d has n %d and prev %d, want the n and the seq of the one before it", e.Seq, e.N, e.Prev)
		}
		if i > 0 && !replayed && e.N != rows[i-1].N+1 {
			w.T.Errorf("%d has n %d after n %d", e.Seq, e.N, rows[i-1].N)
		}
	}
	if len(rows) != len(w.Sent[workerstest.ChatNo(0)])+2 {
		w.T.Errorf("rows are %v; want the %d that were said and two more", seqs, len(w.Sent[workerstest.ChatNo(0)]))
	}
	backward, _, err := w.Store.Page(w.T.Context(), workerstest.ChatNo(0), store.Range{Before: middle + 1, Limit: 1})
	if err != nil || len(backward) != 1 || backward[0].Seq != middle {
		w.T.Errorf("below %d is %v, error %v", middle+1, backward, err)
	}
	if rows := workerstest.Stored(w.T, w.Store, workerstest.ChatNo(7)); len(rows) != 1 || rows[0].Seq != alone {
		w.T.Errorf("the chat of one event has %v", rows)
	}
}

func TestReplayedEventsStandInTheirPlaceAndAreNotCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Say(10, 1)
	middle := w.Publish(workerstest.ChatNo(0), workerstest.MessageJSON("bad0"))
	w.Say(10, 1)
	last := w.Publish(workerstest.ChatNo(0), workerstest.MessageJSON("bad1"))
	alone := w.Publish(workerstest.ChatNo(7), workerstest.MessageJSON("bad2")) // a chat of which nothing else is stored
	early := w.Publish(workerstest.ChatNo(1), workerstest.MessageJSON("bad3")) // a chat whose first stored event comes after it
	w.Say(4, 2)
	w.persistRefusing("bad0", "bad1", "bad2", "bad3")
	w.WantStored()
	if letters := w.Letters(); len(letters) != 4 {
		t.Fatalf("%d letters, want 4", len(letters))
	}

	refused := w.replay(w.Store)
	if len(refused) != 1 || refused[early] == nil || !strings.Contains(refused[early].Error(), "before the first one") {
		t.Errorf("refused: %v; want only %d", refused, early)
	}
	if letters := w.Letters(); len(letters) != 1 || letters[0].Seq != early {
		t.Errorf("letters that stay: %v, want that of %d", letters, early)
	}
	check := func() { w.wantReplayed(middle, last, alone) }
	check()

	// A letter that could not be removed is replayed again, and nothing changes.
	if err := dead.Bury(t.Context(), w.JetStream, dead.Letter{
		Consumer: streams.PersistConsumer, Stream: w.Layout.At(0).Stream(), Seq: middle,
		Subject: w.Layout.At(0).Timeline(workerstest.ChatNo(0)), Data: workerstest.MessageJSON("bad0"), Reason: "again",
	}); err != nil {
		t.Fatal(err)
	}
	w.replay(w.Store)
	check()

	// The chat goes on where it was.
	w.Persist()
	w.Say(5, 1)
	w.WaitCommitted()
	check()
}

func TestReplayWaitsForPersist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Say(3, 1)
	chat := workerstest.ChatNo(0)
	letter := dead.Letter{
		Consumer: streams.PersistConsumer, Stream: w.Layout.At(0).Stream(), Seq: w.Last[w.Layout.At(0)],
		Subject: w.Layout.At(0).Timeline(chat), Data: workerstest.MessageJSON("x"), Reason: "test",
	}
	if err := dead.Bury(t.Context(), w.JetStream, letter); err != nil {
		t.Fatal(err)
	}
	if err := w.replay(w.Store)[letter.Seq]; err == nil || !strings.Contains(err.Error(), "not its turn") {
		t.Errorf("replay of what persist has not passed: %v", err)
	}
	if rows := workerstest.Stored(w.T, w.Store, chat); len(rows) != 0 {
		t.Errorf("stored: %v", rows)
	}
}

func TestReplayRefusesWhatIsStillPoison(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Say(3, 1)
	group, err := schemas.ParseChat("group.x")
	if err != nil {
		t.Fatal(err)
	}
	w.Publish(workerstest.ChatNo(0), []byte(`{"type":7}`))
	w.PersistAll()
	w.WantStored()
	if letters := w.Letters(); len(letters) != 1 {
		t.Errorf("%d letters, want 1", len(letters))
	}
	if err := dead.Bury(t.Context(), w.JetStream, dead.Letter{
		Consumer: streams.PersistConsumer, Stream: "CHAT_9", Seq: 1,
		Subject: "chat.9." + group.String() + ".timeline", Data: workerstest.MessageJSON("x"), Reason: "test",
	}); err != nil {
		t.Fatal(err)
	}
	if refused := w.replay(w.Store); len(refused) != 2 {
		t.Errorf("refused: %v; want both", refused)
	}
}
