package harness

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/clients/parley"
	"parley/schemas"
	"parley/streams"
)

// Load has users speak in pairs, both at once, while a test breaks things. Every
// client keeps the rules of the protocol: it reconnects, resumes and retries.
type Load struct {
	Pairs []*Pair
	Acks  atomic.Int64 // acknowledged sends

	pause   time.Duration      // of a sender between two sends
	stop    context.CancelFunc // no further sends begin
	end     context.CancelFunc // sends under way are given up
	sending sync.WaitGroup
}

// Pair is one direct chat, with the two who speak in it.
type Pair struct {
	Chat  schemas.Chat
	Sides [2]*Speaker
}

// Speaker is one of the two users of a pair, with what it sent and heard.
type Speaker struct {
	User   string
	Client *parley.Client

	mu      sync.Mutex
	Acked   map[string]uint64 // seq by id
	refused []error
	heard   []Line // in the order of the callbacks
}

// StartLoad begins n talks with inFlight sends at once from each side. The
// clients of a talk connect to places in turn.
func StartLoad(t testing.TB, n, inFlight int, places ...Place) *Load {
	t.Helper()
	return StartPacedLoad(t, n, inFlight, 0, places...)
}

// StartPacedLoad begins a load that leaves the machine time for other things:
// each of the sends at once waits for pause before the next.
func StartPacedLoad(t testing.TB, n, inFlight int, pause time.Duration, places ...Place) *Load {
	t.Helper()
	l := &Load{pause: pause}
	sendCtx, end := context.WithCancel(t.Context())
	stopCtx, stop := context.WithCancel(sendCtx)
	l.stop, l.end = stop, end
	t.Cleanup(func() { end(); l.sending.Wait() })
	for i := range n {
		// The last digit makes neighbours differ in the lowest bit of their hash,
		// and so spreads them over the shards: in i alone that bit is there twice.
		a, b := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d%d", i, i%2)
		talk := &Pair{Chat: MustChat(t, "direct."+a+"."+b)}
		for side, user := range []string{a, b} {
			s := &Speaker{User: user, Acked: map[string]uint64{}}
			s.Client = places[(i+side)%len(places)].Dial(t, user, parley.Options{Reconnect: true, OnEvent: s.Hear})
			talk.Sides[side] = s
		}
		l.Pairs = append(l.Pairs, talk)
	}
	for _, talk := range l.Pairs {
		for _, s := range talk.Sides {
			for worker := range inFlight {
				l.sending.Go(func() { l.speak(stopCtx, sendCtx, talk.Chat, s, worker) })
			}
		}
	}
	return l
}

func (l *Load) speak(stopCtx, sendCtx context.Context, chat schemas.Chat, s *Speaker, worker int) {
	for i := 0; stopCtx.Err() == nil; i++ {
		id, err := schemas.ParseID(fmt.Sprintf("w%d-%d", worker, i))
		if err != nil {
			panic(err)
		}
		ack, err := s.Client.Send(sendCtx, chat, id, parley.Text(s.User+" says "+id.String()))
		s.mu.Lock()
		if err == nil {
			s.Acked[id.String()] = ack.Seq
			l.Acks.Add(1)
		} else {
			s.refused = append(s.refused, fmt.Errorf("%s: %w", id, err))
		}
		s.mu.Unlock()
		if err != nil {
			return // one is enough to fail the test
		}
		if l.pause > 0 {
			select {
			case <-time.After(l.pause):
			case <-stopCtx.Done():
			}
		}
	}
}

// Hear keeps an event: it is the client's callback.
func (s *Speaker) Hear(ev parley.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, Line{ev.Seq, ev.From.String(), ev.ID.String()})
}

// Lines returns what the speaker has heard so far.
func (s *Speaker) Lines() []Line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

// AwaitAcks returns when n more sends were acknowledged.
func (l *Load) AwaitAcks(t testing.TB, n int64) {
	t.Helper()
	want := l.Acks.Load() + n
	EventuallyWithin(t, ChildWithin, fmt.Sprintf("%d more acknowledged sends", n), func() bool { return l.Acks.Load() >= want })
}

// AwaitDelivery returns when each side of each talk has heard a message that is
// later than all that were acknowledged when it began.
func (l *Load) AwaitDelivery(t testing.TB) {
	t.Helper()
	for _, talk := range l.Pairs {
		acked := uint64(0)
		for _, s := range talk.Sides {
			s.mu.Lock()
			for _, seq := range s.Acked {
				acked = max(acked, seq)
			}
			s.mu.Unlock()
		}
		for _, s := range talk.Sides {
			EventuallyWithin(t, ChildWithin, fmt.Sprintf("%s hears %s beyond %d", s.User, talk.Chat, acked), func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return len(s.heard) > 0 && s.heard[len(s.heard)-1].Seq > acked
			})
		}
	}
}

// Finish ends the sending: each send under way is still acknowledged.
func (l *Load) Finish(t testing.TB) {
	t.Helper()
	l.stop()
	giveUp := time.AfterFunc(ChildWithin, l.end)
	defer giveUp.Stop()
	l.sending.Wait()
	for _, talk := range l.Pairs {
		for _, s := range talk.Sides {
			if len(s.refused) > 0 {
				t.Fatalf("%s was not acknowledged: %v", s.User, s.refused[0])
			}
		}
	}
}

// Abandon ends the sending: sends under way are given up.
func (l *Load) Abandon() {
	l.end()
	l.sending.Wait()
}

// Check compares what everybody has of each talk, once the store, a path or a
// URL, has caught up: acknowledged sends ⊆ history = log = store = what each side
// heard. It returns the number of messages.
func (l *Load) Check(t testing.TB, at Place, log *streams.Log, storeAt string) (messages int) {
	t.Helper()
	st := OpenStore(t, storeAt)
	defer st.Close()
	for _, talk := range l.Pairs {
		want := readLeaderLog(t, log, talk.Chat)
		messages += len(want)
		for _, s := range talk.Sides {
			CheckAcked(t, s.User, s.Acked, want)
		}
		if t.Failed() {
			return messages
		}
		last := want[len(want)-1].Seq
		EventuallyWithin(t, ChildWithin, fmt.Sprintf("%s is stored up to %d", talk.Chat, last), func() bool {
			head, _, err := st.Head(t.Context(), talk.Chat)
			return err == nil && head.LastSeq >= last
		})
		CheckSame(t, talk.Chat, "the store", ReadStore(t, st, talk.Chat), want)
		CheckSame(t, talk.Chat, "history", ReadHistory(t, at, talk.Sides[0].User, talk.Chat), want)
		for _, s := range talk.Sides {
			EventuallyWithin(t, ChildWithin, fmt.Sprintf("%s hears %s up to %d", s.User, talk.Chat, last), func() bool {
				heard := s.Lines()
				return len(heard) > 0 && heard[len(heard)-1].Seq >= last
			})
			CheckSame(t, talk.Chat, s.User, s.Lines(), want)
		}
	}
	return messages
}

// WantAckedInHistory finds in history, while the load goes on, all that was
// acknowledged before.
func WantAckedInHistory(t testing.TB, at Place, talk *Pair) {
	t.Helper()
	var before [2]map[string]uint64
	for i, s := range talk.Sides {
		s.mu.Lock()
		before[i] = maps.Clone(s.Acked)
		s.mu.Unlock()
	}
	lines := ReadHistory(t, at, talk.Sides[0].User, talk.Chat)
	for i, s := range talk.Sides {
		CheckAcked(t, s.User, before[i], lines)
	}
}
