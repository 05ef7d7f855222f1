package persist_test

import (
	"testing"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/persist"
	"parley/workers/workerstest"
)

// A shard that is lost with a tail that was not persisted goes on in its next
// generation: the chats' seqs rise, and prev, n and buckets follow on what is stored.
func TestLostShardGoesOnInItsNextGeneration(t *testing.T) {
	t.Parallel()
	w := world{workerstest.NewWorld(t, streamstest.Options{Administrator: true, Settings: streams.Settings{Shards: 2}})}
	log := w.Log()
	start := func() *persister { return w.start(func(cfg *persist.Config) { cfg.Log = log }) }
	lost := w.Layout.Shard(workerstest.ChatNo(0))
	for range 2 {
		p := start()
		w.Say(100, 10)
		w.WantStored()
		p.stop()
		w.Say(100, 12) // the tail, in new chats too
		last := w.Last[w.Layout.At(lost.Index)]

		running := start() // it looks for the stream that is gone until it finds the new one
		w.Lose(w.Layout.At(lost.Index))
		if _, err := log.FollowOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Say(100, 12)
		w.WantStored()
		for chat, sent := range w.Sent {
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
	w := world{workerstest.NewWorld(t, streamstest.Options{Administrator: true, Settings: streams.Settings{Shards: 1}})}
	p := w.start(nil)
	w.Say(10, 5)
	w.WantStored()
	p.stop()
	w.Say(100, 5)
	g := newGate()
	first := w.start(func(cfg *persist.Config) {
		s := &faultyStore{Store: cfg.Store}
		passAt(s, g, 3) // before it compares the row
		cfg.Store = s
	})
	<-g.reached
	w.Lose(w.Layout.At(0))
	w.start(nil)
	w.Say(100, 5)
	w.WantStored()
	close(g.open)
	workerstest.WaitFor(t, "the first knows that it is no owner", func() bool { return first.logs.lines("another owner went on") > 0 })
	w.Say(100, 5)
	w.WantStored()
	if events := first.metric("events_total"); events != 0 {
		t.Errorf("the first has stored %v events of the lost stream", events)
	}
}
