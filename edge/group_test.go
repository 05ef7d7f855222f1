package edge

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
)

// events takes frames until the event at seq has come, and returns the seqs of
// the events of its chat; another frame of the chat is in it as its t.
func (c *client) events(chat schemas.Chat, upto uint64) (seen []string) {
	c.t.Helper()
	for {
		g := c.next()
		switch {
		case g.Chat != chat.String():
		case g.T == "event":
			seen = append(seen, fmt.Sprint(g.Seq))
			if g.Seq >= upto {
				return seen
			}
		case g.T == "chat":
			seen = append(seen, g.Change)
		default:
			seen = append(seen, g.T)
		}
	}
}

func (c *client) wantInChat(chat schemas.Chat, want ...any) {
	c.t.Helper()
	var texts []string
	var last uint64
	for _, w := range want {
		texts = append(texts, fmt.Sprint(w))
		if seq, ok := w.(uint64); ok {
			last = seq
		}
	}
	got := c.events(chat, last)
	got = slices.DeleteFunc(got, func(s string) bool { return s == "ack" || s == "typing" })
	if !slices.Equal(got, texts) {
		c.t.Fatalf("of %s came %v, want %v", chat, got, texts)
	}
}

func TestGroupMembersAndNobodyElseGetWhatIsSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, _ := r.workers.create("team", "ann", "bea", "cat")
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	bea2, dan := r.join(t, r.edge(), "bea"), r.join(t, r.edge(), "dan")
	cat := r.join(t, r.addEdge(t, nil), "cat")
	seq := ann.sent("m1", chat.String(), "hi")
	for _, c := range []*client{bea, bea2, cat} {
		c.wantInChat(chat, seq)
	}
	own := ann.sent("m2", chat.String(), "again")
	bea.wantInChat(chat, own)
	dan.say(sendFrame(1, "m1", chat.String(), "may I?"))
	if g := dan.answer(1); g.Code != schemas.NotMember {
		t.Errorf("a stranger was answered with %v", g)
	}
	dan.quiet()
	if n := r.edge().subscriptionsOf(t, chat); n != 1 {
		t.Errorf("the edge has %d subscriptions of the group, want 1", n)
	}
	for _, c := range []*client{ann, bea, bea2} {
		c.hangUp()
	}
	eventually(t, "the group ends with its last member here", func() bool { return r.edge().members.groupOf(chat) == nil })
	if n := r.edge().subscriptionsOf(t, chat); n != 0 {
		t.Errorf("the edge has %d subscriptions of a group that it does not serve", n)
	}
}

// subscriptionsOf counts what the server has of an edge's subscriptions to a group.
func (e *testEdge) subscriptionsOf(t testing.TB, chat schemas.Chat) int {
	t.Helper()
	if g := e.members.groupOf(chat); g != nil && g.sub != nil {
		if !g.sub.IsValid() || g.sub.Subject != streams.LiveOfGroup(chat) {
			t.Errorf("subscription %q, valid %t", g.sub.Subject, g.sub.IsValid())
		}
		return 1
	}
	return 0
}

func TestWhoIsAddedGetsItsOwnJoinFirst(t *testing.T) {
	t.Parallel()
	for _, served := range []bool{true, false} { // by the edge, before
		t.Run(fmt.Sprintf("served=%t", served), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			ann := r.join(t, r.addEdge(t, nil), "ann")
			chat, _ := r.workers.create("team", "ann", "cat")
			ann.await("chat")
			if served {
				cat := r.join(t, r.edge(), "cat")
				first := ann.sent("m0", chat.String(), "before")
				cat.wantInChat(chat, first)
			}
			bea := r.join(t, r.edge(), "bea")
			ann.sent("m1", chat.String(), "before bea")
			joined := r.workers.change(chat, "ann", "added", "bea")
			after := ann.sent("m2", chat.String(), "hello bea")
			bea.wantInChat(chat, "added", joined, after)
			reply := bea.sent("m1", chat.String(), "hello all")
			ann.events(chat, reply)
		})
	}
}

func TestCreatedGroupReachesItsMembers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, bea, bea2 := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea"), r.join(t, r.edge(), "bea")
	chat, seq := r.workers.create("team", "ann", "bea")
	for _, c := range []*client{ann, bea, bea2} {
		c.wantInChat(chat, "added", seq)
	}
	hi := bea.sent("m1", chat.String(), "hi")
	for _, c := range []*client{ann, bea2} {
		c.wantInChat(chat, hi)
	}
}

func TestWhoIsRemovedSeesItsRemovalAndNothingAfter(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, _ := r.workers.create("team", "ann", "bea", "cat")
	ann, bea, cat := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea"), r.join(t, r.edge(), "cat")
	hi := ann.sent("m1", chat.String(), "hi")
	removed := r.workers.change(chat, "ann", "removed", "bea")
	bea.wantInChat(chat, hi, removed)
	if g := bea.next(); g.T != "chat" || g.Change != "removed" || g.Seq != removed {
		t.Fatalf("behind its removal came %v", g)
	}
	after := ann.sent("m2", chat.String(), "she is gone")
	cat.wantInChat(chat, hi, removed, after)
	bea.quiet()
	bea.say(sendFrame(1, "m1", chat.String(), "let me in"))
	if g := bea.answer(1); g.Code != schemas.NotMember {
		t.Errorf("who was removed was answered with %v", g)
	}
	again := r.workers.change(chat, "ann", "added", "bea")
	bea.wantInChat(chat, "added", again)
}

// A worker that is killed after it changed a group has persist tell of it later:
// word may come twice, and when its user is out again.
func TestOldWordOfAGroupLetsNobodyIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	chat, _ := r.workers.create("team", "ann")
	ann.await("chat")
	added := r.workers.change(chat, "ann", "added", "bea")
	bea.wantInChat(chat, "added", added)
	removed := r.workers.change(chat, "ann", "removed", "bea")
	bea.wantInChat(chat, removed)
	bea.await("chat")
	ann.hangUp()
	eventually(t, "nobody here is in the group", func() bool { return r.edge().members.groupOf(chat) == nil })
	tell := func() {
		r.workers.mu.Lock()
		defer r.workers.mu.Unlock()
		ev := &schemas.Event{Type: schemas.MemberEvent, Change: schemas.Added, Users: []schemas.User{testUser(t, "bea")}}
		r.workers.tellLocked(chat, added, ev)
		if err := r.workers.conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		tell()
	}
	// A notice that is heeded comes behind them, and what each begins ends in order.
	other, seq := r.workers.create("other", "bea")
	bea.wantInChat(other, "added", seq)
	bea.say(sendFrame(1, "m1", chat.String(), "let me in"))
	if g := bea.answer(1); g.Code != schemas.NotMember {
		t.Errorf("who is out was answered with %v", g)
	}
}

// What joined tells is as of what is stored, and the log is ahead of it.
func TestConnectingKnowsWhatIsNotStoredYet(t *testing.T) {
	t.Parallel()
	for _, served := range []bool{true, false} {
		t.Run(fmt.Sprintf("served=%t", served), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			chat, _ := r.workers.create("team", "ann", "bea", "cat")
			ann := r.join(t, r.addEdge(t, nil), "ann")
			if served {
				r.join(t, r.edge(), "cat")
			}
			r.workers.freeze("bea")
			r.workers.change(chat, "ann", "removed", "bea")
			for i := range 2 * changesMax { // more than a group remembers
				r.workers.change(chat, "ann", "added", fmt.Sprintf("u%d", i))
			}
			bea := r.join(t, r.edge(), "bea")
			bea.say(sendFrame(1, "m1", chat.String(), "I am in, am I?"))
			if g := bea.answer(1); g.Code != schemas.NotMember {
				t.Errorf("who was removed was answered with %v", g)
			}
			ann.sent("m1", chat.String(), "she is gone")
			bea.quiet()
		})
	}
}

func TestTypingInAGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, _ := r.workers.create("team", "ann", "bea")
	ann, ann2, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	ann.say(`{"t":"typing","ref":1,"chat":"` + chat.String() + `"}`)
	ann.answer(1)
	if g := bea.await("typing"); g.User != "ann" || g.Chat != chat.String() {
		t.Errorf("got %v", g)
	}
	ann.quiet()
	ann2.quiet()
}

func TestGroupsComeWhenAWorkerIsBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, _ := r.workers.create("team", "ann", "bea")
	ann := r.join(t, r.edge(), "ann")
	r.workers.away(true)
	bea := r.join(t, r.edge(), "bea")
	direct := bea.sent("m1", "direct.ann.bea", "can you hear me?")
	ann.wantInChat(testChat(t, "direct.ann.bea"), direct)
	bea.say(sendFrame(7, "m1", chat.String(), "and here?"))
	if g := bea.answer(7); g.Code != schemas.Unavailable || g.RetryAfter <= 0 {
		t.Errorf("without a worker: %v", g)
	}
	r.workers.away(false)
	bea.await("resync")
	bea.sent("m1", chat.String(), "and here?")
}

// away has the stand-in answer nothing about groups.
func (w *standIn) away(away bool) {
	w.t.Helper()
	if away {
		for _, sub := range w.subs {
			if err := sub.Unsubscribe(); err != nil {
				w.t.Fatal(err)
			}
		}
		w.subs = nil
	} else {
		w.serveAll()
	}
	if err := w.conn.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

func TestBlockedUsersDoNotTalk(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.workers.blocks[testUser(t, "ann")] = []schemas.User{testUser(t, "bea")}
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	ann.say(sendFrame(1, "m1", "direct.ann.bea", "hi"))
	if g := ann.answer(1); g.Code != schemas.Forbidden {
		t.Errorf("got %v", g)
	}
	notice := func(user, change string, hidden bool) {
		data := fmt.Sprintf(`{"t":"chat","chat":"direct.ann.bea","change":%q,"hidden":%t}`, change, hidden)
		if err := r.workers.conn.PublishMsg(&nats.Msg{Subject: streams.Personal(testUser(t, user)), Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	r.workers.setBlocks("ann")
	notice("ann", "unblocked", true)
	notice("ann", "unblocked", false)
	if g := ann.await("chat"); g.Change != "unblocked" {
		t.Errorf("got %v", g)
	}
	answer := func(c *client) schemas.Code {
		c.refs++
		c.say(sendFrame(c.refs, fmt.Sprintf("n%d", c.refs), "direct.ann.bea", "hi"))
		return c.answer(c.refs).Code
	}
	eventually(t, "ann can send", func() bool { return answer(ann) == "" })
	r.workers.setBlocks("bea", "ann")
	notice("bea", "blocked", true)
	eventually(t, "bea cannot answer", func() bool { return answer(bea) == schemas.Forbidden })
	if bea.seen["chat"] > 0 {
		t.Error("who is blocked was told")
	}
}

// An edge that begins to follow a group reads what changed it since it was stored,
// and sends none of that: its members were welcomed after it.
func TestFreshGroupIsSentNothingFromBeforeTheWelcome(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, _ := r.workers.create("team", "ann", "bea")
	ann := r.join(t, r.addEdge(t, nil), "ann")
	r.workers.freeze("bea")
	for i := range 5 {
		ann.sent(fmt.Sprintf("m%d", i), chat.String(), "before")
	}
	bea := r.join(t, r.edge(), "bea")
	bea.quiet()
	seq := ann.sent("m9", chat.String(), "after")
	bea.wantInChat(chat, seq)
}
