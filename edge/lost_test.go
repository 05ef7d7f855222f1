package edge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

// row is an event that the permanent store has.
type row struct {
	seq      uint64
	id, from string
}

// lose deletes the stream of chat's shard.
func (r *rig) lose(t testing.TB, chat string) {
	t.Helper()
	if err := r.env.JetStream.DeleteStream(t.Context(), r.env.Layout.Shard(testChat(t, chat)).Stream()); err != nil {
		t.Fatal(err)
	}
}

// remake makes the stream of chat's shard anew, of which the store has the rows.
func (r *rig) remake(t testing.TB, chat string, stored ...row) {
	t.Helper()
	rows := map[string]uint64{}
	for _, row := range stored {
		rows[r.env.Layout.Shard(testChat(t, chat)).Token] = row.seq
	}
	var err error
	if r.env.Layout, err = streams.Provision(t.Context(), r.env.JetStream, streams.Settings{Stored: rows, RemakeLost: true}); err != nil {
		t.Fatal(err)
	}
}

// storedHistory answers as a history worker does: with the store's rows, and the log's events behind them.
func (r *rig) storedHistory(t testing.TB, stored ...row) func(schemas.History) string {
	return func(h schemas.History) string {
		all := slices.Clone(stored)
		for _, ev := range r.logOf(t, h.Chat.String()) {
			all = append(all, row(ev))
		}
		var events []string
		for n, row := range all {
			if row.seq > *h.After {
				events = append(events, fmt.Sprintf(`{"seq":%d,"prev":0,"time":"2026-11-24T03:00:00Z","n":%d,"event":{"type":"message","id":%q,"from":%q,"body":{"kind":"text","text":"hi"}}}`,
					row.seq, n+1, row.id, row.from))
			}
		}
		return `{"events":[` + strings.Join(events, ",") + `],"more":false}`
	}
}

// A stream is lost with a tail that the store does not have, and made anew in the
// next generation: who was connected goes on, and who comes back resumes across it.
func TestClientsGoOnAfterALostShard(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	const chat, other = "direct.ann.bea", "direct.ann.dan"
	if r.env.Layout.Shard(testChat(t, chat)) == r.env.Layout.Shard(testChat(t, other)) {
		t.Fatal("the chats share a shard")
	}
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	kept := row{ann.sent("m1", chat, "stored"), "m1", "ann"}
	tail := ann.sent("m2", chat, "in the log only")
	far := ann.sent("o1", other, "elsewhere")
	r.lose(t, chat)
	// Who comes now is told that this chat cannot be read; the others can.
	r.join(t, r.edge(), "ann", resumeOf(chat, kept.seq, other, far-1)).wantResumed(1, []string{other + "/o1"}, chat+" gap")
	r.remake(t, chat, kept)
	r.historyWorker(t, r.storedHistory(t, kept))

	// This edge does not know yet: the send finds no stream. The rest goes on.
	ann.say(sendFrame(1<<20, "m3", chat, "hi"))
	ann.say(sendFrame(1<<20+1, "o2", other, "elsewhere"))
	if g := ann.answer(1<<20 + 1); g.T != "ack" || g.Seq != far+1 {
		t.Errorf("a send to another shard was answered with %v", g)
	}
	if g := ann.answer(1 << 20); g.Code != schemas.Unavailable || g.RetryAfter <= 0 {
		t.Errorf("a send to the lost shard was answered with %v", g)
	}
	eventually(t, "the edge follows", func() bool { return r.edge().logReader.Layout().Equal(r.env.Layout) })

	// A retry finds the first try in the store where there is one.
	ann.say(sendFrame(2, "m1", chat, "stored", `,"retry":true`))
	if g := ann.answer(2); g.T != "ack" || !g.Duplicate || g.Seq != kept.seq {
		t.Errorf("the retry of a stored send was answered with %v", g)
	}
	ann.say(sendFrame(3, "m3", chat, "hi", fmt.Sprintf(`,"retry":true,"after":%d`, tail)))
	m3 := ann.answer(3)
	if m3.T != "ack" || m3.Duplicate || m3.Seq != 2<<40 {
		t.Errorf("the retry of a send that was not stored was answered with %v", m3)
	}
	ann.say(sendFrame(4, "m3", chat, "hi", fmt.Sprintf(`,"retry":true,"after":%d`, tail)))
	if g := ann.answer(4); !g.Duplicate || g.Seq != m3.Seq {
		t.Errorf("its second retry was answered with %v", g)
	}
	var heard []string
	for len(heard) < 3 {
		g := bea.await("event")
		heard = append(heard, g.Event.ID)
	}
	if strings.Join(heard, " ") != "m1 m2 m3" {
		t.Errorf("who was connected heard %v", heard)
	}

	// What was lost is held by who heard it: its seq is above the store's last.
	missed := r.join(t, r.edge(), "bea", resumeOf(chat, tail))
	missed.wantResumed(1, []string{chat + "/m3"})
	missed = r.join(t, r.edge(), "bea", resumeOf(chat, kept.seq-1))
	missed.wantResumed(1, []string{chat + "/m1", chat + "/m3"})
	ann.sent("m4", chat, "and live again")
	if g := missed.await("event"); g.Event.ID != "m4" || g.Prev != m3.Seq {
		t.Errorf("got %v", g)
	}
	current := r.join(t, r.edge(), "bea", resumeOf(chat, m3.Seq+1))
	current.wantResumed(0, nil)
}

// Nothing was said in the new stream yet when they come back.
func TestResumeIntoAnEmptyShard(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	const chat = "direct.ann.bea"
	ann := r.join(t, r.edge(), "ann")
	kept := row{ann.sent("m1", chat, "stored"), "m1", "ann"}
	tail := ann.sent("m2", chat, "in the log only")
	r.lose(t, chat)
	r.remake(t, chat, kept)
	r.historyWorker(t, r.storedHistory(t, kept))
	if _, err := r.edge().logReader.FollowOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.edge().logWatch.watchOnce(t.Context())
	for after, want := range map[uint64][]string{kept.seq - 1: {chat + "/m1"}, tail: nil} {
		bea := r.join(t, r.edge(), "bea", resumeOf(chat, after))
		bea.wantResumed(len(want), want)
		seq := ann.sent(fmt.Sprintf("m%d", after), chat, "hi")
		if g := bea.await("event"); g.Seq != seq {
			t.Errorf("got %v, want seq %d", g, seq)
		}
		r.lose(t, chat)
		r.remake(t, chat, kept, row{seq: seq})
		if _, err := r.edge().logReader.FollowOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
