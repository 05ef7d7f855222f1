//go:build unix

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"parley/clients/parley"
	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/store/sqlite"
)

// startFragileParts is startParts with a NATS whose streams the test may delete.
func startFragileParts(t testing.TB, shards int) *parts {
	t.Helper()
	env := streamstest.Start(t, streamstest.Options{NoProvision: true, Administrator: true, Log: slog.New(slog.DiscardHandler)})
	p := startPartsAt(t, env.Server.URLs(), env.Passwords, shards)
	p.env = env
	return p
}

// losses are the streams that a test has deleted.
type losses struct {
	parts  *parts
	layout streams.Layout // of the beginning: where chats live stays
	lost   []loss
}

type loss struct {
	shard  streams.Shard
	stored uint64 // what the store had of it for sure
}

// lose deletes the streams of the shards with these indexes.
func (l *losses) lose(t testing.TB, indexes ...int) {
	t.Helper()
	stored, err := l.parts.reader(t).Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	layout, err := streams.LoadLayout(t.Context(), l.parts.env.JetStream)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range indexes {
		if err := l.parts.env.JetStream.DeleteStream(t.Context(), layout.At(i).Stream()); err != nil {
			t.Fatal(err)
		}
		l.lost = append(l.lost, loss{layout.At(i), stored[layout.At(i).Token]})
	}
}

// remake runs `parley migrate --remake-lost` on two machines at once.
func (l *losses) remake(t testing.TB) {
	t.Helper()
	var both []*child
	for range 2 {
		both = append(both, startChild(t, l.parts.environment(), "migrate", "--remake-lost"))
	}
	for _, migrate := range both {
		if state := migrate.waitExit(t); !state.Success() {
			t.Errorf("%s: %s: %s", migrate.name, state, migrate.stderr)
		}
	}
}

// refused wants the command to say what to do.
func (l *losses) refused(t testing.TB, args ...string) {
	t.Helper()
	c := startChild(t, l.parts.environment(), args...)
	if state := c.waitExit(t); state.Success() || !strings.Contains(c.stderr.String(), "--remake-lost") || !strings.Contains(c.stderr.String(), "backup") {
		t.Errorf("%s: %s: %s", c.name, state, c.stderr)
	}
}

// check is load.check for a log that was lost in part: what was acknowledged and
// is neither in the store nor in the log was in a lost stream behind what the
// store had of it. Everybody agrees on the rest, and its order.
func (l *losses) check(t testing.TB, load *load, at place, st *sqlite.Reader) (messages, lost int) {
	t.Helper()
	for _, talk := range load.talks {
		var want []line
		for _, s := range talk.sides {
			for id, seq := range s.acked {
				eventuallyWithin(t, childWithin, fmt.Sprintf("%s of %s is stored, or lost", id, s.user), func() bool {
					return l.isLost(talk.chat, seq) || isStored(t, st, talk.chat, seq)
				})
			}
		}
		want = readStore(t, st, talk.chat)
		checkSame(t, talk.chat, "history", readHistory(t, at, talk.sides[0].user, talk.chat), want)
		for _, s := range talk.sides {
			for id, seq := range s.acked {
				if !slices.Contains(want, line{seq, s.user, id}) {
					lost++
					if !l.isLost(talk.chat, seq) {
						t.Errorf("%s of %s was acknowledged at %d, and is nowhere", id, s.user, seq)
					}
				}
			}
			eventuallyWithin(t, childWithin, fmt.Sprintf("%s hears the last of %s", s.user, talk.chat), func() bool {
				heard := s.lines()
				return len(heard) > 0 && heard[len(heard)-1].seq >= want[len(want)-1].seq
			})
			l.checkHeard(t, talk.chat, s, want)
		}
		messages += len(want)
	}
	return messages, lost
}

// checkHeard wants a client to have heard all of want, in its order, and beside
// it nothing but what was lost.
func (l *losses) checkHeard(t testing.TB, chat schemas.Chat, s *speaker, want []line) {
	t.Helper()
	var kept []line
	last := uint64(0)
	for _, heard := range s.lines() {
		if heard.seq <= last {
			t.Errorf("%s heard %v of %s after %d", s.user, heard, chat, last)
		}
		last = heard.seq
		if slices.Contains(want, heard) {
			kept = append(kept, heard)
		} else if !l.isLost(chat, heard.seq) {
			t.Errorf("%s heard %v of %s, which is nowhere", s.user, heard, chat)
		}
	}
	checkSame(t, chat, s.user, kept, want)
}

// isLost tells whether seq was given out by a stream of chat that was deleted,
// and was not in the store then.
func (l *losses) isLost(chat schemas.Chat, seq uint64) bool {
	index := l.layout.Shard(chat).Index
	return slices.ContainsFunc(l.lost, func(l loss) bool {
		return l.shard.Index == index && seq>>40 == uint64(l.shard.Generation) && seq > l.stored
	})
}

func isStored(t testing.TB, st *sqlite.Reader, chat schemas.Chat, seq uint64) bool {
	t.Helper()
	head, _, err := st.Head(t.Context(), chat)
	if err != nil {
		t.Fatal(err)
	}
	return head.LastSeq >= seq
}

// One of two streams is lost under load, with events that the store does not have,
// and again, and then all of them. Edges, workers and clients run on.
func TestLostStreamsAreRemadeUnderLoad(t *testing.T) {
	t.Parallel()
	p := startFragileParts(t, 2)
	first, second := p.startEdge(t, "first"), p.startEdge(t, "second")
	worker := p.startWorker(t, "persist,query,chats,users")
	load := startLoad(t, 4, 2, first.place, second.place)
	l := &losses{parts: p, layout: streams.NewLayout(2)}
	for round := range *faultRounds {
		for _, indexes := range [][]int{{0}, {0}, {0, 1}} {
			load.awaitAcks(t, 100)
			worker.pause(t) // what is said from now on is in the log only
			load.awaitAcks(t, 100)
			l.lose(t, indexes...)
			worker.signal(t, syscall.SIGCONT)
			if round == 0 {
				l.refused(t, "migrate")
			}
			l.remake(t)
		}
	}
	load.awaitAcks(t, 200)
	load.finish(t)
	st := p.reader(t)
	messages, lost := l.check(t, load, first.place, st)
	t.Logf("%d rounds, %d streams lost and remade: %d messages, 0 missing of those that were stored, 0 twice, 0 out of order; %d of %d acknowledged were in the log only and are lost",
		3**faultRounds, len(l.lost), messages, lost, load.acks.Load())
}

// A worker that finds another log than that of its store says what to do, and
// that helps: the streams are laid anew above what the store has.
func TestStoreAheadOfItsLogIsHealed(t *testing.T) {
	t.Parallel()
	p := startFragileParts(t, 2)
	edge, worker := p.startEdge(t, "first"), p.startWorker(t, "persist,query,chats,users")
	load := startLoad(t, 2, 2, edge.place)
	load.awaitAcks(t, 50)
	load.finish(t)
	_, log := p.log(t)
	stored := load.check(t, edge.place, log, p.store)
	worker.kill()
	edge.kill()

	// Somebody makes the streams anew with another store.
	l := &losses{parts: p, layout: streams.NewLayout(2)}
	l.lose(t, 0, 1)
	other := *p
	other.store = p.store + ".other"
	if state := startChild(t, other.environment(), "migrate", "--shards=2", "--max-bytes=67108864").waitExit(t); !state.Success() {
		t.Fatal(state)
	}
	t.Cleanup(func() { os.Remove(other.store) })
	l.refused(t, "worker", "--admin="+freeAddress(t))
	l.refused(t, "migrate")
	l.remake(t)

	edge = p.startEdge(t, "first")
	p.startWorker(t, "persist,query,chats,users")
	client := edge.dial(t, "a0", parley.Options{})
	chat := load.talks[0].chat
	before := readHistory(t, edge.place, "a0", chat)
	ack, err := client.Send(t.Context(), chat, mustID(t, "after"), parley.Text("hi"))
	if err != nil || ack.Seq <= before[len(before)-1].seq {
		t.Errorf("sent at %d after %d, %v", ack.Seq, before[len(before)-1].seq, err)
	}
	if after := readHistory(t, edge.place, "a0", chat); len(after) != len(before)+1 {
		t.Errorf("history has %d messages, want the %d from before and one", len(after), len(before))
	}
	t.Logf("1 round, %d messages stored: 0 missing", stored)
}

// A development server whose log was deleted refuses its store, until it is told
// to lay the log anew.
func TestDevServerRemakesItsLog(t *testing.T) {
	t.Parallel()
	d := startDevChild(t, "")
	load := startLoad(t, 1, 1, d.place(t))
	load.awaitAcks(t, 10)
	load.finish(t)
	stored := load.check(t, d.place(t), d.log(t), filepath.Join(d.data, storeFile))
	d.kill()
	if err := os.RemoveAll(filepath.Join(d.data, natsDir)); err != nil {
		t.Fatal(err)
	}
	d.start(t)
	if state := d.waitExit(t); state.Success() || !strings.Contains(d.stderr.String(), "--remake-lost") {
		t.Fatalf("%s: %s", state, d.stderr)
	}
	d.flags = []string{"--remake-lost"}
	d.start(t)
	d.waitReady(t)
	chat := load.talks[0].chat
	client := d.place(t).dial(t, load.talks[0].sides[0].user, parley.Options{})
	if _, err := client.Send(t.Context(), chat, mustID(t, "after"), parley.Text("hi")); err != nil {
		t.Error(err)
	}
	if after := readHistory(t, d.place(t), load.talks[0].sides[0].user, chat); len(after) != stored+1 {
		t.Errorf("history has %d messages, want the %d from before and one", len(after), stored)
	}
}
