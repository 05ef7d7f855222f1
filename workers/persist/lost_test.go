package persist_test

import (
	"maps"
	"testing"
	"time"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/dead"
	"parley/workers/persist"
	"parley/workers/workerstest"
)

// lose deletes the shard's stream, forgets what of it is not stored, and has it
// made anew as `parley migrate --remake-lost` does.
func (w *world) lose(shard streams.Shard) {
	w.t.Helper()
	if err := w.JetStream.DeleteStream(w.t.Context(), shard.Stream()); err != nil {
		w.t.Fatal(err)
	}
	stored, err := w.store.Shards(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if w.Layout, err = streams.Provision(w.t.Context(), w.JetStream, streams.Settings{Stored: stored, RemakeLost: true}); err != nil {
		w.t.Fatal(err)
	}
	delete(w.last, shard)
	maps.DeleteFunc(w.sent, func(chat schemas.Chat, sent []sent) bool {
		return w.Layout.Shard(chat).Index == shard.Index && len(w.stored(chat)) == 0
	})
	for chat, sent := range w.sent {
		if w.Layout.Shard(chat).Index == shard.Index {
			w.sent[chat] = sent[:len(w.stored(chat))]
		}
	}
}

// A shard that is lost with a tail that was not persisted goes on in its next
// generation: the chats' seqs rise, and prev, n and buckets follow on what is stored.
func TestLostShardGoesOnInItsNextGeneration(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, streamstest.Start(t, streamstest.Options{NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 2}}))
	log := w.log()
	start := func() *persister { return w.start(func(cfg *persist.Config) { cfg.Log = log }) }
	lost := w.Layout.Shard(chatNo(0))
	for range 2 {
		p := start()
		w.say(100, 10)
		w.wantStored()
		p.stop()
		w.say(100, 12) // the tail, in new chats too
		last := w.last[w.Layout.At(lost.Index)]

		running := start() // it looks for the stream that is gone until it finds the new one
		w.lose(w.Layout.At(lost.Index))
		if _, err := log.FollowOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.say(100, 12)
		w.wantStored()
		for chat, sent := range w.sent {
			if w.Layout.Shard(chat).Index == lost.Index && sent[len(sent)-1].Seq <= last {
				t.Errorf("%s goes on at %d after %d", chat, sent[len(sent)-1].Seq, last)
			}
		}
		w.wantAcked()
		running.stop()
	}
	if got := w.Layout.At(lost.Index).Generation; got != 3 {
		t.Errorf("generation %d, want 3", got)
	}
}

// An owner is paused with events of the stream that is lost, and wakes when the
// chats have gone on in the next one.
func TestPausedOwnerOfALostShardHarmsNothing(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, streamstest.Start(t, streamstest.Options{NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 1}}))
	p := w.start(nil)
	w.say(10, 5)
	w.wantStored()
	p.stop()
	w.say(100, 5)
	g := newGate()
	first := w.start(func(cfg *persist.Config) {
		s := &faultyStore{Store: cfg.Store}
		passAt(s, g, 3) // before it compares the row
		cfg.Store = s
	})
	<-g.reached
	w.lose(w.Layout.At(0))
	w.start(nil)
	w.say(100, 5)
	w.wantStored()
	close(g.open)
	workerstest.WaitFor(t, "the first knows that it is no owner", func() bool { return first.logs.lines("another owner went on") > 0 })
	w.say(100, 5)
	w.wantStored()
	if events := first.metric("events_total"); events != 0 {
		t.Errorf("the first has stored %v events of the lost stream", events)
	}
}

// What was given up on before the loss can be replayed after it.
func TestLettersOfALostShardAreReplayed(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, streamstest.Start(t, streamstest.Options{NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 2}}))
	p := w.start(nil)
	w.say(10, 1)
	w.wantStored()
	p.stop()
	lost := w.Layout.Shard(chatNo(0))
	seq := w.publish(chatNo(0), eventJSON("late"))
	for _, letter := range []dead.Letter{
		{Seq: seq, Subject: lost.Timeline(chatNo(0)), Data: eventJSON("late")},
		{Seq: seq + 1, Subject: w.Layout.At(1 - lost.Index).Timeline(chatNo(0)), Data: eventJSON("strayed")}, // was never there
	} {
		letter.Consumer, letter.Stream, letter.Reason, letter.Time = streams.PersistConsumer, lost.Stream(), "test", time.Now()
		if err := dead.Bury(t.Context(), w.JetStream, letter); err != nil {
			t.Fatal(err)
		}
	}
	if refused := w.replay(w.store); len(refused) != 2 {
		t.Errorf("refused: %v; want both: persist may come to them", refused)
	}
	w.lose(lost)
	if refused := w.replay(w.store); len(refused) != 1 || refused[seq+1] == nil {
		t.Errorf("refused: %v; want only the one that strayed", refused)
	}
	rows := w.stored(chatNo(0))
	if len(rows) != 11 || rows[10].Seq != seq || rows[10].N != 10 {
		t.Errorf("%d rows, want 11 up to %d, which is not counted", len(rows), seq)
	}
	w.sent[chatNo(0)] = nil
	w.start(nil)
	w.say(5, 1)
	workerstest.WaitFor(t, "the chat goes on", func() bool { return w.committed(w.Layout.Shard(chatNo(0))) == w.last[w.Layout.Shard(chatNo(0))] })
	if rows := w.stored(chatNo(0)); len(rows) != 16 || rows[11].Prev != seq || rows[15].N != 15 {
		t.Errorf("%d rows, want 16 that go on after %d", len(rows), seq)
	}
}
