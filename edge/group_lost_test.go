package edge

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

// userOf is a connected user.
func (e *testEdge) userOf(name string) *user {
	v := e.lives.of(name)
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.users[name]
}

// giveUp has the live loop go on in a group without what it could not read.
func (e *testEdge) giveUp(g *group, seen uint64) {
	done := make(chan struct{})
	g.live.call(func() {
		defer close(done)
		g.live.giveUp(&g.audience, g.chat, cursor{last: seen, seen: seen})
	})
	<-done
}

// A removal is missed, and the store is behind the log when it is asked: it still
// names who was removed.
func TestReloadEndsAMembershipWhoseEndWasMissed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, _ := r.workers.create("team", "ann", "bea")
	ann := r.join(t, r.addEdge(t, nil), "ann")
	bea, e := r.join(t, r.edge(), "bea"), r.edge()
	r.workers.freeze("bea")
	g := e.members.groupOf(chat)
	unsubscribe(g.sub)
	if err := e.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	removed := r.workers.change(chat, "ann", "removed", "bea")
	e.giveUp(g, removed)
	for g := bea.await("chat"); g.Change != "removed"; {
		g = bea.await("chat")
	}
	ann.sent("m1", chat.String(), "she is gone")
	bea.say(sendFrame(1, "m1", chat.String(), "am I in?"))
	if g := bea.answer(1); g.Code != schemas.NotMember {
		t.Errorf("who was removed was answered with %v", g)
	}
}

// What is read from the log for a group goes to those alone who were in it then.
func TestHealShowsNothingFromBeforeAJoin(t *testing.T) {
	t.Parallel()
	for _, cause := range []string{"hint", "repair"} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			chat, _ := r.workers.create("team", "ann", "cat")
			ann := r.join(t, r.addEdge(t, nil), "ann")
			r.workers.freeze("cat") // as of the creation: its edge reads on from there
			secret := ann.sent("m0", chat.String(), "before bea")
			joined := r.workers.change(chat, "ann", "added", "bea")
			cat, bea := r.join(t, r.edge(), "cat"), r.join(t, r.edge(), "bea")
			if cause == "hint" {
				if err := r.asEdge(t).PublishMsg(streams.Hint(chat, joined)); err != nil {
					t.Fatal(err)
				}
			} else {
				r.edge().repairAll()
			}
			if got := cat.events(chat, joined); !slices.Contains(got, fmt.Sprint(secret)) {
				t.Fatalf("cat got %v: nothing was healed", got)
			}
			after := ann.sent("m1", chat.String(), "after")
			if got := bea.events(chat, after); slices.Contains(got, fmt.Sprint(secret)) {
				t.Errorf("bea got %v, and %d is from before it came in", got, secret)
			}
		})
	}
}

// The log stores a removal and its leader dies before it tells of it.
func TestChangeThatIsNotRepublishedIsHinted(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	chat, _ := r.workers.create("team", "ann", "bea")
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	sub, err := r.workers.conn.QueueSubscribe(streams.AskSubject(schemas.TRemove), "q", func(m *nats.Msg) {
		seq := r.workers.change(chat, "ann", "removed", "bea")
		_ = m.Respond(fmt.Appendf(nil, `{"chat":"group.team","seq":%d}`, seq))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := r.workers.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	r.setRepublish(t, false)
	ann.say(`{"t":"remove","ref":7,"chat":"group.team","users":["bea"]}`)
	if g := ann.answer(7); g.T != "done" {
		t.Fatalf("got %v", g)
	}
	if g := bea.await("chat"); g.Change != "removed" {
		t.Errorf("got %v", g)
	}
}

// A block comes while its user is being loaded, by an answer that is older.
func TestBlockThatComesWhileItsUserIsLoaded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	w := r.workers
	if err := w.subs[0].Unsubscribe(); err != nil { // joined
		t.Fatal(err)
	}
	asked := make(chan *nats.Msg, 1)
	sub, err := w.conn.QueueSubscribe(streams.JoinedSubject, "q", func(m *nats.Msg) { asked <- m })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := w.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	joining := r.connect(t, r.edge())
	joining.hello(r.token(t, "bea"))
	joined := receive(t, asked)
	eventually(t, "blocks were asked", func() bool { return w.timesAsked(streams.PrivacySubject) == 1 })
	w.setBlocks("bea", "ann")
	if err := w.conn.Publish(streams.Personal(testUser(t, "bea")), []byte(`{"t":"chat","chat":"direct.ann.bea","change":"blocked","hidden":true}`)); err != nil {
		t.Fatal(err)
	}
	if err := joined.Respond([]byte(`{"groups":[],"stored":{}}`)); err != nil {
		t.Fatal(err)
	}
	joining.await("welcome")
	eventually(t, "who is blocked cannot send", func() bool {
		joining.refs++
		joining.say(sendFrame(joining.refs, fmt.Sprintf("n%d", joining.refs), "direct.ann.bea", "hi"))
		return joining.answer(joining.refs).Code == schemas.Forbidden
	})
	if n := w.timesAsked(streams.PrivacySubject); n < 2 {
		t.Errorf("blocks were asked %d times", n)
	}
}

// A user's last session leaves, and the user connects anew before its groups are left.
func TestUserWhoLeavesAndComesAtOnceIsInItsGroups(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, _ := r.workers.create("team", "ann", "bea")
	r.join(t, r.edge(), "ann")
	r.join(t, r.edge(), "bea")
	e := r.edge()
	g, old := e.members.groupOf(chat), e.userOf("bea")
	old.live.mu.Lock() // leave, as far as it goes under the lock
	delete(old.live.users, "bea")
	groups := old.endGroups()
	old.live.mu.Unlock()
	bea := r.join(t, e, "bea")
	if in, _, _ := g.admit(old, member{role: schemas.Member, since: 1}, 1<<50); in {
		t.Error("who has left was let in")
	}
	for _, s := range old.everySession() {
		s.gone.Store(true)
	}
	for _, g := range groups { // and the rest of leave
		g.drop(old)
	}
	bea.sent("m1", chat.String(), "I am in")
	for _, s := range g.everySession() {
		if s.user == old {
			t.Error("a session of who has left is in the group")
		}
	}
}

// A hint of what disappeared meanwhile is no gap that the sessions have to mend.
func TestHintOfWhatDisappearedIsNoGap(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	chat, _ := r.workers.create("team", "ann", "bea")
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	bea.wantInChat(chat, ann.sent("m0", chat.String(), "hi"))
	r.setRepublish(t, false)
	seq := ann.sent("m1", chat.String(), "gone soon", `,"ttl":1`)
	log := r.edge().logReader
	eventually(t, "it is gone from the log", func() bool {
		_, err := log.Sequence(t.Context(), log.Layout().Shard(chat), seq)
		return errors.Is(err, streams.ErrGone)
	})
	if err := r.asEdge(t).PublishMsg(streams.Hint(chat, seq)); err != nil {
		t.Fatal(err)
	}
	r.setRepublish(t, true)
	heals := func() float64 { return r.edge().metric(t, "heals_total", "") }
	eventually(t, "the hint is heeded", func() bool { return heals() > 0 })
	bea.wantInChat(chat, ann.sent("m2", chat.String(), "and now"))
	if n := r.edge().metric(t, "resyncs_total", ""); n > 0 {
		t.Errorf("%v sessions were told to resync", n)
	}
}

func TestHTTPRatesHoldForEveryMethod(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.UserRate, c.UserBurst = 1, 1 })
	r.workers.create("team", "ann", "bea")
	for _, method := range []string{"GET", "HEAD", "POST"} {
		limited := 0
		for range 10 {
			body := strings.NewReader(`{"type":"message","body":{"kind":"text","text":"x"}}`)
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.edge().addr+"/v1/chats/group.team/messages", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+r.token(t, "eve"+strings.ToLower(method)))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusTooManyRequests {
				limited++
			}
		}
		if limited < 8 {
			t.Errorf("%s: %d of 10 requests at once were limited to 1 a second", method, limited)
		}
	}
	if n := r.workers.timesAsked(streams.StandingSubject); n > 6 {
		t.Errorf("workers were asked %d times for 30 requests of which most are over the rate", n)
	}
}
