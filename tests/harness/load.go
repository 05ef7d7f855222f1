//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/clients/parley"
	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

// load has users speak in pairs, both at once, while a test breaks things. Every
// client keeps the rules of the protocol: it reconnects, resumes and retries.
type load struct {
	talks []*talk
	pause time.Duration
	acks  atomic.Int64

	stop    context.CancelFunc // no further sends begin
	end     context.CancelFunc // sends under way are given up
	sending sync.WaitGroup
}

// talk is one direct chat.
type talk struct {
	chat  schemas.Chat
	sides [2]*speaker
}

type speaker struct {
	user   string
	client *parley.Client

	mu      sync.Mutex
	acked   map[string]uint64 // seq by id
	refused []error
	heard   []line // in the order of the callbacks
}

// line is one message of a chat, as far as everybody has to agree on it.
type line struct {
	seq  uint64
	from string
	id   string
}

func (l line) String() string { return fmt.Sprintf("%d %s/%s", l.seq, l.from, l.id) }

// startLoad begins n talks with inFlight sends at once from each side. The
// clients of a talk connect to places in turn.
func startLoad(t testing.TB, n, inFlight int, places ...place) *load {
	t.Helper()
	return startPacedLoad(t, n, inFlight, 0, places...)
}

// startPacedLoad begins a load that leaves the machine time for other things:
// each of the sends at once waits for pause before the next.
func startPacedLoad(t testing.TB, n, inFlight int, pause time.Duration, places ...place) *load {
	t.Helper()
	l := &load{pause: pause}
	sendCtx, end := context.WithCancel(t.Context())
	stopCtx, stop := context.WithCancel(sendCtx)
	l.stop, l.end = stop, end
	t.Cleanup(func() { end(); l.sending.Wait() })
	for i := range n {
		// The last digit makes neighbours differ in the lowest bit of their hash,
		// and so spreads them over the shards: in i alone that bit is there twice.
		a, b := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d%d", i, i%2)
		talk := &talk{chat: mustChat(t, "direct."+a+"."+b)}
		for side, user := range []string{a, b} {
			s := &speaker{user: user, acked: map[string]uint64{}}
			s.client = places[(i+side)%len(places)].dial(t, user, parley.Options{Reconnect: true, OnEvent: s.hear})
			talk.sides[side] = s
		}
		l.talks = append(l.talks, talk)
	}
	for _, talk := range l.talks {
		for _, s := range talk.sides {
			for worker := range inFlight {
				l.sending.Go(func() { l.speak(stopCtx, sendCtx, talk.chat, s, worker) })
			}
		}
	}
	return l
}

func (l *load) speak(stopCtx, sendCtx context.Context, chat schemas.Chat, s *speaker, worker int) {
	for i := 0; stopCtx.Err() == nil; i++ {
		id, err := schemas.ParseID(fmt.Sprintf("w%d-%d", worker, i))
		if err != nil {
			panic(err)
		}
		ack, err := s.client.Send(sendCtx, chat, id, parley.Text(s.user+" says "+id.String()))
		s.mu.Lock()
		if err == nil {
			s.acked[id.String()] = ack.Seq
			l.acks.Add(1)
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

func (s *speaker) hear(ev parley.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, line{ev.Seq, ev.From.String(), ev.ID.String()})
}

func (s *speaker) lines() []line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

// awaitAcks returns when n more sends were acknowledged.
func (l *load) awaitAcks(t testing.TB, n int64) {
	t.Helper()
	want := l.acks.Load() + n
	eventuallyWithin(t, childWithin, fmt.Sprintf("%d more acknowledged sends", n), func() bool { return l.acks.Load() >= want })
}

// awaitDelivery returns when each side of each talk has heard a message that is
// later than all that were acknowledged when it began.
func (l *load) awaitDelivery(t testing.TB) {
	t.Helper()
	for _, talk := range l.talks {
		acked := uint64(0)
		for _, s := range talk.sides {
			s.mu.Lock()
			for _, seq := range s.acked {
				acked = max(acked, seq)
			}
			s.mu.Unlock()
		}
		for _, s := range talk.sides {
			eventuallyWithin(t, childWithin, fmt.Sprintf("%s hears %s beyond %d", s.user, talk.chat, acked), func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return len(s.heard) > 0 && s.heard[len(s.heard)-1].seq > acked
			})
		}
	}
}

// finish ends the sending: each send under way is still acknowledged.
func (l *load) finish(t testing.TB) {
	t.Helper()
	l.stop()
	giveUp := time.AfterFunc(childWithin, l.end)
	defer giveUp.Stop()
	l.sending.Wait()
	for _, talk := range l.talks {
		for _, s := range talk.sides {
			if len(s.refused) > 0 {
				t.Fatalf("%s was not acknowledged: %v", s.user, s.refused[0])
			}
		}
	}
}

// check compares what everybody has of each talk, once the store, a path or a
// URL, has caught up: acknowledged sends ⊆ history = log = store = what each side
// heard. It returns the number of messages.
func (l *load) check(t testing.TB, at place, log *streams.Log, storeAt string) (messages int) {
	t.Helper()
	st := openStore(t, storeAt)
	defer st.Close()
	for _, talk := range l.talks {
		want := readLeaderLog(t, log, talk.chat)
		messages += len(want)
		for _, s := range talk.sides {
			checkAcked(t, s.user, s.acked, want)
		}
		if t.Failed() {
			return messages
		}
		last := want[len(want)-1].seq
		eventuallyWithin(t, childWithin, fmt.Sprintf("%s is stored up to %d", talk.chat, last), func() bool {
			head, _, err := st.Head(t.Context(), talk.chat)
			return err == nil && head.LastSeq >= last
		})
		checkSame(t, talk.chat, "the store", readStore(t, st, talk.chat), want)
		checkSame(t, talk.chat, "history", readHistory(t, at, talk.sides[0].user, talk.chat), want)
		for _, s := range talk.sides {
			eventuallyWithin(t, childWithin, fmt.Sprintf("%s hears %s up to %d", s.user, talk.chat, last), func() bool {
				heard := s.lines()
				return len(heard) > 0 && heard[len(heard)-1].seq >= last
			})
			checkSame(t, talk.chat, s.user, s.lines(), want)
		}
	}
	return messages
}

// checkAcked finds every acknowledged send of user, once, at the acknowledged seq.
func checkAcked(t testing.TB, user string, acked map[string]uint64, all []line) {
	t.Helper()
	found := map[string]uint64{}
	for _, l := range all {
		if l.from != user {
			continue
		}
		if first, twice := found[l.id]; twice {
			t.Errorf("%s of %s is there twice: at %d and %d", l.id, user, first, l.seq)
		}
		found[l.id] = l.seq
	}
	for id, seq := range acked {
		if found[id] != seq {
			t.Errorf("%s of %s was acknowledged at %d, and is at %d (0: nowhere)", id, user, seq, found[id])
		}
	}
}

// wantAckedInHistory finds in history, while the load goes on, all that was
// acknowledged before.
func wantAckedInHistory(t testing.TB, at place, talk *talk) {
	t.Helper()
	var before [2]map[string]uint64
	for i, s := range talk.sides {
		s.mu.Lock()
		before[i] = maps.Clone(s.acked)
		s.mu.Unlock()
	}
	lines := readHistory(t, at, talk.sides[0].user, talk.chat)
	for i, s := range talk.sides {
		checkAcked(t, s.user, before[i], lines)
	}
}

func checkSame(t testing.TB, chat schemas.Chat, who string, got, want []line) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	show := func(lines []line) string {
		return strings.Trim(fmt.Sprint(lines[min(max(at-2, 0), len(lines)):min(at+3, len(lines))]), "[]")
	}
	t.Errorf("%s: %s has %d messages, the log %d; they part at %d:\n%s\n%s", chat, who, len(got), len(want), at, show(got), show(want))
}

// readLog returns all of a chat's log, which has something.
func readLog(t testing.TB, log *streams.Log, chat schemas.Chat) (lines []line) {
	t.Helper()
	if lines = logged(t, log, chat); len(lines) == 0 {
		t.Fatalf("the log has nothing of %s", chat)
	}
	return lines
}

// readLeaderLog is readLog up to what the stream's leader has: a replica that
// answers may still be behind it.
func readLeaderLog(t testing.TB, log *streams.Log, chat schemas.Chat) (lines []line) {
	t.Helper()
	eventuallyWithin(t, childWithin, fmt.Sprintf("the log of %s is read to its end", chat), func() bool {
		last, _, err := log.Last(t.Context(), chat)
		if err != nil {
			return false
		}
		lines = readLog(t, log, chat)
		return lines[len(lines)-1].seq >= last
	})
	return lines
}

func logged(t testing.TB, log *streams.Log, chat schemas.Chat) (lines []line) {
	t.Helper()
	after := uint64(0)
	for {
		events, more, err := log.After(t.Context(), chat, after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			lines = append(lines, lineOf(t, ev.Seq, ev.JSON))
			after = ev.Seq
		}
		if !more {
			return lines
		}
	}
}

// storeReader is what the checks ask of a store, whichever it is.
type storeReader interface {
	Committed(ctx context.Context, shard string) (uint64, error)
	Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error)
	Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error)
	Close() error
}

// openStore opens the store at a path or a URL.
func openStore(t testing.TB, at string) storeReader {
	t.Helper()
	path, file := strings.CutPrefix(storeURL(at), sqliteScheme)
	var st storeReader
	var err error
	if file {
		st, err = sqlite.OpenReader(t.Context(), path)
	} else {
		st, err = storeFlag{Store: at}.openMigrated(t.Context(), slog.New(slog.DiscardHandler))
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// readStore returns all that the store has of a chat, and checks prev and n.
func readStore(t testing.TB, st storeReader, chat schemas.Chat) (lines []line) {
	t.Helper()
	ask := store.Range{Forward: true, Limit: 1000}
	for {
		events, more, err := st.Page(t.Context(), chat, ask)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			checkPlace(t, chat, "the store", ev.Seq, ev.Prev, ev.N, lines)
			lines = append(lines, lineOf(t, ev.Seq, ev.JSON))
			ask.After = ev.Seq
		}
		if !more {
			return lines
		}
	}
}

// readHistory returns all of a chat as a client reads it, and checks prev and n.
func readHistory(t testing.TB, at place, user string, chat schemas.Chat) (lines []line) {
	t.Helper()
	client := at.dial(t, user, parley.Options{})
	defer client.Close()
	for after := uint64(0); ; {
		page, err := client.History(t.Context(), schemas.History{Chat: chat, After: &after, Limit: new(int64(schemas.PageEventsMax))})
		if err != nil {
			t.Fatalf("history of %s after %d: %v", chat, after, err)
		}
		for _, ev := range page.Events {
			checkPlace(t, chat, "history", ev.Seq, ev.Prev, ev.N, lines)
			lines = append(lines, lineOf(t, ev.Seq, ev.JSON))
			after = ev.Seq
		}
		if !page.More {
			return lines
		}
	}
}

// checkPlace wants the next message after before to be numbered so.
func checkPlace(t testing.TB, chat schemas.Chat, who string, seq, prev, n uint64, before []line) {
	t.Helper()
	wantPrev := uint64(0)
	if len(before) > 0 {
		wantPrev = before[len(before)-1].seq
	}
	if prev != wantPrev || seq <= wantPrev || n != uint64(len(before))+1 {
		t.Fatalf("%s: %s has seq %d, prev %d, n %d after %d messages up to %d", chat, who, seq, prev, n, len(before), wantPrev)
	}
}

func lineOf(t testing.TB, seq uint64, text []byte) line {
	t.Helper()
	ev, err := schemas.DecodeEvent(text)
	if err != nil {
		t.Fatal(err)
	}
	return line{seq, ev.From.String(), ev.ID.String()}
}

// openLog connects as an operator, who may read the log.
func openLog(t testing.TB, urls []string, passwords streams.Passwords) (jetstream.JetStream, *streams.Log) {
	t.Helper()
	js := openJetStream(t, urls, passwords)
	layout, err := streams.LoadLayout(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return js, streams.NewLog(js, layout)
}

func openJetStream(t testing.TB, urls []string, passwords streams.Passwords) jetstream.JetStream {
	t.Helper()
	conn, err := streams.Connect(t.Context(), streams.ConnectConfig{
		Component: streams.OperatorComponent, URLs: urls, Password: passwords.Operator, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// log reads a dev server's log.
func (d *devChild) log(t testing.TB) *streams.Log {
	t.Helper()
	passwords, err := streams.ReadPasswords(d.data)
	if err != nil {
		t.Fatal(err)
	}
	_, log := openLog(t, []string{"nats://" + d.nats}, passwords)
	return log
}

// eventuallyWithin is eventually with a bound of its own.
func eventuallyWithin(t testing.TB, bound time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", bound, what)
		}
		<-time.After(10 * time.Millisecond)
	}
}
