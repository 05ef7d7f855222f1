package persist_test

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/persist"
)

// pinned returns the pin of who owns the first shard.
func (w world) pinned() string {
	w.T.Helper()
	consumer, err := w.JetStream.Consumer(w.T.Context(), w.Layout.At(0).Stream(), streams.PersistConsumer)
	if err != nil {
		w.T.Fatal(err)
	}
	for _, group := range consumer.CachedInfo().PriorityGroups {
		return group.PinnedClientID
	}
	return ""
}

// Who ends leaves no pin behind, and who waits owns the shard with the next message.
func TestShardIsHandedOverAtAnOrderlyStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	owner := w.start(nil)
	w.Say(10, 5)
	w.WantStored()
	const rounds = 3
	for range rounds {
		next := w.start(nil)
		had := w.pinned()
		stopping := time.Now()
		owner.stop()
		if pin := w.pinned(); pin == had {
			t.Errorf("the pin %s stays", pin)
		}
		w.Say(10, 5)
		w.WantStored()
		t.Logf("stopped, and the next owner has stored, within %v", time.Since(stopping).Round(time.Millisecond))
		owner = next
	}
	w.wantAcked()
}

// A process that ends may unpin another, when the pin passes on as it looks.
func TestUnpinnedOwnerTakesOverAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	first := w.start(func(cfg *persist.Config) { cfg.BatchEventsMax = 50 })
	second := w.start(func(cfg *persist.Config) { cfg.BatchEventsMax = 50 })
	stream, err := w.JetStream.Stream(t.Context(), w.Layout.At(0).Stream())
	if err != nil {
		t.Fatal(err)
	}
	saying := make(chan struct{})
	var unpinning sync.WaitGroup
	unpinned := 0
	unpinning.Go(func() {
		for tick := time.Tick(50 * time.Millisecond); ; {
			select {
			case <-saying:
				return
			case <-tick:
			}
			if err := stream.UnpinConsumer(t.Context(), streams.PersistConsumer, streams.PinGroup); err != nil {
				t.Error(err)
			}
			unpinned++
		}
	})
	for range 60 {
		w.Say(100, 5)
	}
	close(saying)
	unpinning.Wait()
	w.WantStored()
	w.wantAcked()
	takeovers := first.metric("takeovers_total") + second.metric("takeovers_total")
	if takeovers < 2 {
		t.Errorf("%v takeovers", takeovers)
	}
	t.Logf("unpinned %d times, %v takeovers, %d events: 0 lost, 0 twice", unpinned, takeovers, w.Said())
}

// Without a stop the pin ends by itself.
func TestShardOfAKilledOwnerIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	conn := w.Connect(t, streams.WorkerComponent)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	w.start(func(cfg *persist.Config) { cfg.JetStream, cfg.Log = js, streams.NewLog(js, w.Layout) })
	w.Say(10, 5)
	w.WantStored()
	w.start(nil)
	killed := time.Now()
	conn.Close()
	w.Say(10, 5)
	w.WantStored()
	t.Logf("taken over within %v of the owner's end; a pin is over after %v", time.Since(killed).Round(time.Millisecond), streams.PinnedTTL)
}
