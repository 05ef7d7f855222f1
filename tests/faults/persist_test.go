//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/tests/harness"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

// A persister that is stopped with a full window is taken over, and when it is
// woken nothing is skipped, nothing goes back and n is right.
func TestStoppedPersisterIsTakenOver(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 1)
	author := p.Author(t, 10)
	js, log := p.Log(t)
	st := p.Reader(t)
	watch := watchCommitted(t, st)
	// The one persister is stopped, the other takes over; then they change places.
	owner, next := p.StartWorker(t, "persist"), (*harness.WorkerChild)(nil)
	for range *harness.FaultRounds {
		pauseWithWindow(t, p, owner, author, js, st)
		stopped := committed(t, st)
		if next == nil {
			next = p.StartWorker(t, "persist")
		}
		// It wakes while the other is on its way, or when that one is done.
		last := lastSeq(t, js)
		wake := stopped + 1 + rand.Uint64N(last-stopped)
		awaitCommitted(t, st, wake)
		owner.Signal(t, syscall.SIGCONT)
		author.Say(t, 500)
		awaitCommitted(t, st, lastSeq(t, js))
		awaitPulls(t, js, 2)
		owner, next = next, owner
	}
	watch()
	messages := 0
	for _, chat := range author.Chats {
		want := harness.ReadLog(t, log, chat)
		harness.CheckSame(t, chat, "the store", harness.ReadStore(t, st, chat), want)
		messages += len(want)
	}
	if messages != author.Said {
		t.Errorf("the log has %d messages, %d were said", messages, author.Said)
	}
	t.Logf("%d rounds, %d messages: 0 skipped, 0 back, n right", *harness.FaultRounds, messages)
}

// A persister that is killed is taken over once its pin is over, and one that is
// told to end hands its shard over.
func TestEndedPersisterIsTakenOver(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 1)
	author := p.Author(t, 10)
	js, log := p.Log(t)
	st := p.Reader(t)
	watch := watchCommitted(t, st)
	owner := p.StartWorker(t, "persist")
	for range *harness.FaultRounds {
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			author.Say(t, 500)
			awaitCommitted(t, st, lastSeq(t, js))
			next := p.StartWorker(t, "persist")
			awaitPulls(t, js, 2)
			ended := time.Now()
			owner.Signal(t, signal)
			author.Say(t, 500)
			awaitCommitted(t, st, lastSeq(t, js))
			t.Logf("%s: taken over and caught up within %v", signal, time.Since(ended).Round(time.Millisecond))
			owner.WaitExit(t)
			owner = next
		}
	}
	watch()
	for _, chat := range author.Chats {
		harness.CheckSame(t, chat, "the store", harness.ReadStore(t, st, chat), harness.ReadLog(t, log, chat))
	}
	t.Logf("%d rounds, %d messages: 0 skipped, 0 twice", 2**harness.FaultRounds, author.Said)
}

// windowMin is what a stopped persister holds at least, of at most 2,000.
const windowMin = 500

// pauseWithWindow stops w while it was given messages that it has not committed,
// and while it does not hold SQLite's write lock: with that nobody could go on.
func pauseWithWindow(t testing.TB, p *harness.Parts, w *harness.WorkerChild, author *harness.Author, js jetstream.JetStream, st *sqlite.Reader) {
	t.Helper()
	for range 100 {
		// The first messages begin a round; what comes after them, the server
		// gives to the stopped process as long as its pull lasts.
		author.Say(t, 1+rand.N(200))
		w.Pause(t)
		author.Say(t, 1000)
		at, delivered := committed(t, st), persistInfo(t, js).Delivered.Stream
		if delivered >= at+windowMin && storeIsFree(t, p.Store) {
			t.Logf("stopped at %d, with %d delivered and not committed, of %d", at, delivered-at, lastSeq(t, js)-at)
			return
		}
		w.Signal(t, syscall.SIGCONT)
		awaitCommitted(t, st, lastSeq(t, js))
	}
	t.Fatal("the persister was never stopped with a window")
}

func storeIsFree(t testing.TB, path string) bool {
	t.Helper()
	st, err := sqlite.Open(t.Context(), path, sqlite.BusyTimeout(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	err = st.Migrate(t.Context()) // takes the write lock and changes nothing
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		t.Fatal(err)
	}
	return err == nil
}

// watchCommitted looks at the shard's row until the returned function is called:
// it never goes back.
func watchCommitted(t testing.TB, st *sqlite.Reader) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		highest := uint64(0)
		for ctx.Err() == nil {
			at, err := st.Committed(ctx, "0")
			if err == nil && at < highest {
				t.Errorf("the shard's row went back from %d to %d", highest, at)
			}
			highest = max(highest, at)
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	stop = func() { cancel(); watching.Wait() }
	t.Cleanup(stop)
	return stop
}

// committed returns the last stored sequence, that before the log's first where there is none.
func committed(t testing.TB, st *sqlite.Reader) uint64 {
	t.Helper()
	at, err := st.Committed(t.Context(), "0")
	if err != nil {
		t.Fatal(err)
	}
	return max(at, streams.NewShard(streams.FirstGeneration, 0).FirstSeq()-1)
}

func awaitCommitted(t testing.TB, st *sqlite.Reader, seq uint64) {
	t.Helper()
	harness.EventuallyWithin(t, harness.ChildWithin, fmt.Sprintf("the store has all up to %d", seq), func() bool { return committed(t, st) >= seq })
}

func persistInfo(t testing.TB, js jetstream.JetStream) *jetstream.ConsumerInfo {
	t.Helper()
	consumer, err := js.Consumer(t.Context(), "CHAT_0", streams.PersistConsumer)
	if err != nil {
		t.Fatal(err)
	}
	return consumer.CachedInfo()
}

// awaitPulls returns when n persisters wait for messages: what they held before is done.
func awaitPulls(t testing.TB, js jetstream.JetStream, n int) {
	t.Helper()
	harness.EventuallyWithin(t, harness.ChildWithin, fmt.Sprintf("%d persisters wait for messages", n), func() bool {
		return persistInfo(t, js).NumWaiting >= n
	})
}

func lastSeq(t testing.TB, js jetstream.JetStream) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), "CHAT_0")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}
