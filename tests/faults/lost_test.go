//go:build unix

package faults

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
	"parley/tests/harness"
	"parley/workers/store/sqlite"
)

// startFragileParts is StartParts with a NATS whose streams the test may delete.
func startFragileParts(t testing.TB, shards int) *harness.Parts {
	t.Helper()
	env := streamstest.Start(t, streamstest.Options{NoProvision: true, Administrator: true, Log: slog.New(slog.DiscardHandler)})
	p := harness.StartPartsAt(t, env.Server.URLs(), env.Passwords, shards)
	p.Env = env
	return p
}

// losses are the streams that a test has deleted.
type losses struct {
	parts  *harness.Parts
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
	stored, err := l.parts.Reader(t).Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	layout, err := streams.LoadLayout(t.Context(), l.parts.Env.JetStream)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range indexes {
		if err := l.parts.Env.JetStream.DeleteStream(t.Context(), layout.At(i).Stream()); err != nil {
			t.Fatal(err)
		}
		l.lost = append(l.lost, loss{layout.At(i), stored[layout.At(i).Token]})
	}
}

// remake runs `parley migrate --remake-lost` on two machines at once.
func (l *losses) remake(t testing.TB) {
	t.Helper()
	var both []*harness.Child
	for range 2 {
		both = append(both, harness.StartChild(t, l.parts.Environment(), "migrate", "--remake-lost"))
	}
	for _, migrate := range both {
		if state := migrate.WaitExit(t); !state.Success() {
			t.Errorf("%s: %s: %s", migrate.Name, state, migrate.Stderr)
		}
	}
}

// refused wants the command to say what to do.
func (l *losses) refused(t testing.TB, args ...string) {
	t.Helper()
	c := harness.StartChild(t, l.parts.Environment(), args...)
	if state := c.WaitExit(t); state.Success() || !strings.Contains(c.Stderr.String(), "--remake-lost") || !strings.Contains(c.Stderr.String(), "backup") {
		t.Errorf("%s: %s: %s", c.Name, state, c.Stderr)
	}
}

// check is load.check for a log that was lost in part: what was acknowledged and
// is neither in the store nor in the log was in a lost stream behind what the
// store had of it. Everybody agrees on the rest, and its order.
func (l *losses) check(t testing.TB, load *harness.Load, at harness.Place, st *sqlite.Reader) (messages, lost int) {
	t.Helper()
	for _, talk := range load.Pairs {
		var want []harness.Line
		for _, s := range talk.Sides {
			for id, seq := range s.Acked {
				harness.EventuallyWithin(t, harness.ChildWithin, fmt.Sprintf("%s of %s is stored, or lost", id, s.User), func() bool {
					return l.isLost(talk.Chat, seq) || isStored(t, st, talk.Chat, seq)
				})
			}
		}
		want = harness.ReadStore(t, st, talk.Chat)
		harness.CheckSame(t, talk.Chat, "history", harness.ReadHistory(t, at, talk.Sides[0].User, talk.Chat), want)
		for _, s := range talk.Sides {
			for id, seq := range s.Acked {
				if !slices.Contains(want, harness.Line{Seq: seq, From: s.User, ID: id}) {
					lost++
					if !l.isLost(talk.Chat, seq) {
						t.Errorf("%s of %s was acknowledged at %d, and is nowhere", id, s.User, seq)
					}
				}
			}
			harness.EventuallyWithin(t, harness.ChildWithin, fmt.Sprintf("%s hears the last of %s", s.User, talk.Chat), func() bool {
				heard := s.Lines()
				return len(heard) > 0 && heard[len(heard)-1].Seq >= want[len(want)-1].Seq
			})
			l.checkHeard(t, talk.Chat, s, want)
		}
		messages += len(want)
	}
	return messages, lost
}

// checkHeard wants a client to have heard all of want, in its order, and beside
// it nothing but what was lost.
func (l *losses) checkHeard(t testing.TB, chat schemas.Chat, s *harness.Speaker, want []harness.Line) {
	t.Helper()
	var kept []harness.Line
	last := uint64(0)
	for _, heard := range s.Lines() {
		if heard.Seq <= last {
			t.Errorf("%s heard %v of %s after %d", s.User, heard, chat, last)
		}
		last = heard.Seq
		if slices.Contains(want, heard) {
			kept = append(kept, heard)
		} else if !l.isLost(chat, heard.Seq) {
			t.Errorf("%s heard %v of %s, which is nowhere", s.User, heard, chat)
		}
	}
	harness.CheckSame(t, chat, s.User, kept, want)
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
	first, second := p.StartEdge(t, "first"), p.StartEdge(t, "second")
	worker := p.StartWorker(t, "persist,query,chats,users")
	load := harness.StartLoad(t, 4, 2, first.Place, second.Place)
	l := &losses{parts: p, layout: streams.NewLayout(2)}
	for round := range *harness.FaultRounds {
		for _, indexes := range [][]int{{0}, {0}, {0, 1}} {
			load.AwaitAcks(t, 100)
			worker.Pause(t) // what is said from now on is in the log only
			load.AwaitAcks(t, 100)
			l.lose(t, indexes...)
			worker.Signal(t, syscall.SIGCONT)
			if round == 0 {
				l.refused(t, "migrate")
			}
			l.remake(t)
		}
	}
	load.AwaitAcks(t, 200)
	load.Finish(t)
	st := p.Reader(t)
	messages, lost := l.check(t, load, first.Place, st)
	t.Logf("%d rounds, %d streams lost and remade: %d messages, 0 missing of those that were stored, 0 twice, 0 out of order; %d of %d acknowledged were in the log only and are lost",
		3**harness.FaultRounds, len(l.lost), messages, lost, load.Acks.Load())
}

// A worker that finds another log than that of its store says what to do, and
// that helps: the streams are laid anew above what the store has.
func TestStoreAheadOfItsLogIsHealed(t *testing.T) {
	t.Parallel()
	p := startFragileParts(t, 2)
	edge, worker := p.StartEdge(t, "first"), p.StartWorker(t, "persist,query,chats,users")
	load := harness.StartLoad(t, 2, 2, edge.Place)
	load.AwaitAcks(t, 50)
	load.Finish(t)
	_, log := p.Log(t)
	stored := load.Check(t, edge.Place, log, p.Store)
	worker.Kill()
	edge.Kill()

	// Somebody makes the streams anew with another store.
	l := &losses{parts: p, layout: streams.NewLayout(2)}
	l.lose(t, 0, 1)
	other := *p
	other.Store = p.Store + ".other"
	if state := harness.StartChild(t, other.Environment(), "migrate", "--shards=2", "--max-bytes=67108864").WaitExit(t); !state.Success() {
		t.Fatal(state)
	}
	t.Cleanup(func() { os.Remove(other.Store) })
	l.refused(t, "worker", "--admin="+harness.FreeAddress(t))
	l.refused(t, "migrate")
	l.remake(t)

	edge = p.StartEdge(t, "first")
	p.StartWorker(t, "persist,query,chats,users")
	client := edge.Dial(t, "a0", parley.Options{})
	chat := load.Pairs[0].Chat
	before := harness.ReadHistory(t, edge.Place, "a0", chat)
	ack, err := client.Send(t.Context(), chat, harness.MustID(t, "after"), parley.Text("hi"))
	if err != nil || ack.Seq <= before[len(before)-1].Seq {
		t.Errorf("sent at %d after %d, %v", ack.Seq, before[len(before)-1].Seq, err)
	}
	if after := harness.ReadHistory(t, edge.Place, "a0", chat); len(after) != len(before)+1 {
		t.Errorf("history has %d messages, want the %d from before and one", len(after), len(before))
	}
	t.Logf("1 round, %d messages stored: 0 missing", stored)
}

// A development server whose log was deleted refuses its store, until it is told
// to lay the log anew.
func TestDevServerRemakesItsLog(t *testing.T) {
	t.Parallel()
	d := harness.StartDevChild(t, "")
	load := harness.StartLoad(t, 1, 1, d.Place(t))
	load.AwaitAcks(t, 10)
	load.Finish(t)
	stored := load.Check(t, d.Place(t), d.Log(t), filepath.Join(d.Data, harness.StoreFile))
	d.Kill()
	if err := os.RemoveAll(filepath.Join(d.Data, harness.NATSDir)); err != nil {
		t.Fatal(err)
	}
	d.Start(t)
	if state := d.WaitExit(t); state.Success() || !strings.Contains(d.Stderr.String(), "--remake-lost") {
		t.Fatalf("%s: %s", state, d.Stderr)
	}
	d.Flags = []string{"--remake-lost"}
	d.Start(t)
	d.WaitReady(t)
	chat := load.Pairs[0].Chat
	client := d.Place(t).Dial(t, load.Pairs[0].Sides[0].User, parley.Options{})
	if _, err := client.Send(t.Context(), chat, harness.MustID(t, "after"), parley.Text("hi")); err != nil {
		t.Error(err)
	}
	if after := harness.ReadHistory(t, d.Place(t), load.Pairs[0].Sides[0].User, chat); len(after) != stored+1 {
		t.Errorf("history has %d messages, want the %d from before and one", len(after), stored)
	}
}
