package edge

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

func TestSendIsAcknowledgedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	ann.say(sendFrame(7, "m1", "direct.ann.bea", "hi", `,"mentions":["bea"],"replyTo":5`))
	var ack, event got
	for ack.T == "" || event.T == "" { // either may come first
		switch g := ann.next(); g.T {
		case "ack":
			ack = g
		case "event":
			event = g
		default:
			t.Fatalf("got %v", g)
		}
	}
	if *ack.Ref != 7 || ack.ID != "m1" || ack.Chat != "direct.ann.bea" || ack.Seq < 1<<40 || ack.Duplicate {
		t.Errorf("got %v", ack)
	}
	if event.Seq != ack.Seq || event.Prev != 0 || event.Event.ID != "m1" || event.Event.From != "ann" || string(event.Event.Body) != string(textBody("hi")) {
		t.Errorf("got %v", event)
	}
	if !strings.Contains(event.raw, `"replyTo":5,"mentions":["bea"]`) {
		t.Errorf("got %v", event)
	}
	if g := bea.next(); g.raw != event.raw {
		t.Errorf("bea got %v, ann %v", g, event)
	}

	// The same id again is the same send, whatever it says; in another chat it is another.
	ann.say(sendFrame(8, "m1", "direct.ann.bea", "something else"))
	if again := ann.answer(8); again.T != "ack" || again.Seq != ack.Seq || !again.Duplicate {
		t.Errorf("the same id was answered with %v, want seq %d", again, ack.Seq)
	}
	ann.quiet()
	if other := ann.sent("m1", "direct.ann.ann", "hi"); other == 0 {
		t.Error("the same id in another chat is no message")
	}
	// The other member's ids are its own.
	if seq := bea.sent("m1", "direct.ann.bea", "hi too"); seq <= ack.Seq {
		t.Errorf("bea's m1 is %d, ann's %d", seq, ack.Seq)
	}
}

func TestEveryFrameWithoutRefIsServed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	ann.say(`{"body":{"kind":"text","text":"hi"},"type":"message","chat":"direct.ann.bea","id":"m1","t":"send"}`)
	if g := ann.await("ack"); g.Ref != nil || g.ID != "m1" {
		t.Errorf("got %v", g)
	}
}

func TestPipelineKeepsItsOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	second := r.addEdge(t, nil)
	const sends = 1000
	chat := "direct.ann.bea"
	ann := r.join(t, r.edge(), "ann")
	watchers := map[string]*client{
		"the sender":                   ann,
		"its other session":            r.join(t, r.edge(), "ann"),
		"the other member":             r.join(t, r.edge(), "bea"),
		"the other member, edge 2":     r.join(t, second, "bea"),
		"its second session on edge 2": r.join(t, second, "bea"),
	}
	for i := range sends {
		ann.say(sendFrame(uint64(i), fmt.Sprintf("m%d", i), chat, "hi"))
	}
	for name, c := range watchers {
		acks, events, last := uint64(0), 0, uint64(0)
		for events < sends || c == ann && acks < sends {
			switch g := c.next(); g.T {
			case "ack":
				if *g.Ref != acks {
					t.Fatalf("the ack of %d came, want %d", *g.Ref, acks)
				}
				acks++
			case "event":
				if want := fmt.Sprintf("m%d", events); g.Event.ID != want || g.Seq <= last || g.Prev != last {
					t.Fatalf("%s got %v, want %s after %d", name, g, want, last)
				}
				last = g.Seq
				events++
			default:
				t.Fatalf("%s got %v", name, g)
			}
		}
		c.quiet()
	}
}

func TestSendsOverTheRate(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.UserRate, c.UserBurst = 0.001, 3 })
	ann, other := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "ann")
	for i := range 3 {
		ann.sent(fmt.Sprintf("m%d", i), "direct.ann.bea", "hi")
	}
	// The rate is the user's, not the session's.
	other.say(sendFrame(1, "m4", "direct.ann.bea", "hi"))
	g := other.answer(1)
	if g.Code != schemas.RateLimited || g.ID != "m4" || g.RetryAfter < 900 || g.RetryAfter > 1000 {
		t.Fatalf("got %v", g)
	}
	r.clock.advance(time.Duration(g.RetryAfter*float64(time.Second)) + time.Millisecond)
	bea := r.join(t, r.edge(), "bea") // hers is untouched
	bea.sent("m1", "direct.ann.bea", "hi")
	ann = r.join(t, r.edge(), "ann") // the clock has closed those that were silent
	ann.sent("m4", "direct.ann.bea", "hi")
}

func TestRetryAfterIsWhenTheNextIsTaken(t *testing.T) {
	t.Parallel()
	for _, perSecond := range []float64{0.5, 1, 20, 20.5} {
		sends := newLimits[schemas.User](perSecond, 7)
		ann, now := testUser(t, "ann"), testNow
		for range 7 {
			if _, ok := sends.take(ann, now); !ok {
				t.Fatalf("rate %g: refused within the burst", perSecond)
			}
		}
		for range 3 {
			wait, ok := sends.take(ann, now)
			if ok {
				t.Fatalf("rate %g: taken past the burst", perSecond)
			}
			if math.Abs(wait.Seconds()-1/perSecond) > 0.011 {
				t.Errorf("rate %g: wait %s", perSecond, wait)
			}
			if _, ok := sends.take(ann, now.Add(wait*9/10)); ok {
				t.Errorf("rate %g: taken before its time", perSecond)
			}
			now = now.Add(wait + time.Microsecond)
			if _, ok := sends.take(ann, now); !ok {
				t.Errorf("rate %g: refused after the wait", perSecond)
			}
		}
	}
}

func TestForeignAndAbsentChatsAnswerAlike(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.join(t, r.edge(), "bea").sent("m1", "direct.bea.cat", "a secret")
	ann := r.join(t, r.edge(), "ann")
	for _, frame := range []string{
		sendFrame(1, "m1", "CHAT", "hi"), `{"t":"typing","ref":1,"chat":"CHAT"}`, `{"t":"history","ref":1,"chat":"CHAT"}`,
	} {
		var answers []string
		for _, chat := range []string{"direct.bea.cat", "direct.bea.dan", "group.cat"} {
			ann.say(strings.ReplaceAll(frame, "CHAT", chat))
			answers = append(answers, strings.ReplaceAll(ann.answer(1).raw, chat, "CHAT"))
		}
		if answers[0] != answers[1] || answers[0] != answers[2] || !strings.Contains(answers[0], `"code":"not_member"`) {
			t.Errorf("the answers differ: %q", answers)
		}
	}
}

func TestLargestBody(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	text := strings.Repeat("x", schemas.BodyBytesMax-len(textBody("")))
	seq := ann.sent("m1", "direct.ann.bea", text)
	if g := bea.next(); g.Seq != seq || len(g.Event.Body) != schemas.BodyBytesMax {
		t.Errorf("got seq %d and a body of %d", g.Seq, len(g.Event.Body))
	}
	ann.say(sendFrame(9, "m2", "direct.ann.bea", text+"x"))
	if g := ann.answer(9); g.Code != schemas.TooLarge || g.ID != "m2" {
		t.Errorf("got %v", g)
	}
	// White space does not count.
	ann.say(strings.Replace(sendFrame(10, "m3", "direct.ann.bea", text), `{"kind"`, `{ "kind"`, 1))
	if g := ann.answer(10); g.T != "ack" {
		t.Errorf("got %v", g)
	}
	bea.await("event")
	bea.quiet()
}

func TestRetryFindsTheEarlierTryBeyondTheDedupWindow(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Settings: streams.Settings{Duplicates: 100 * time.Millisecond}}, nil)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	chat := "direct.ann.bea"
	known := bea.sent("b1", chat, "before")
	first := ann.sent("m1", chat, "hi")
	bea.sent("m1", chat, "the same id, of another user")
	for i := range 3 {
		bea.sent(fmt.Sprintf("b%d", i+2), chat, "after, and it quotes m1")
	}
	ann.sent("probe", "direct.ann.cat", "when is this forgotten?")
	eventually(t, "the dedup window is over", func() bool {
		return ann.forgets(t, "probe", "direct.ann.cat")
	})

	retry := fmt.Sprintf(`,"retry":true,"after":%d`, known)
	ann.barrier()
	ann.say(sendFrame(1, "m1", chat, "hi", retry))
	if g := ann.answer(1); g.T != "ack" || g.Seq != first || !g.Duplicate {
		t.Errorf("the retry was answered with %v, want the duplicate of %d", g, first)
	}
	ann.say(sendFrame(2, "m1", chat, "hi", `,"retry":true`)) // after 0
	if g := ann.answer(2); g.Seq != first || !g.Duplicate {
		t.Errorf("the retry was answered with %v, want the duplicate of %d", g, first)
	}
	ann.quiet()

	// No earlier try is there: it is published, once.
	seq := ann.sent("m2", chat, "new", retry)
	if again := ann.sent("m2", chat, "new", retry); again != seq {
		t.Errorf("m2 is at %d and at %d", seq, again)
	}
	r.wantLogged(t, chat, "b1", "m1", "m1", "b2", "b3", "b4", "m2")
}

// forgets tells whether the log no longer knows the id: then it is a new message.
func (c *client) forgets(t *testing.T, id, chat string) bool {
	t.Helper()
	c.refs++
	c.say(sendFrame(c.refs, id, chat, "again"))
	return !c.answer(c.refs).Duplicate
}

// wantLogged checks the ids of a chat in the log, in order.
func (r *rig) wantLogged(t testing.TB, chat string, ids ...string) {
	t.Helper()
	var have []string
	for _, ev := range r.logOf(t, chat) {
		have = append(have, ev.id)
	}
	if strings.Join(have, " ") != strings.Join(ids, " ") {
		t.Errorf("%s holds %v, want %v", chat, have, ids)
	}
}

type logged struct {
	seq  uint64
	id   string
	from string
}

// logOf reads a chat's log.
func (r *rig) logOf(t testing.TB, chat string) (all []logged) {
	t.Helper()
	log := streams.NewLog(r.env.JetStream, r.env.Layout)
	for after, more := uint64(0), true; more; {
		events, further, err := log.After(t.Context(), testChat(t, chat), after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, stored := range events {
			ev, err := schemas.DecodeEvent(stored.JSON)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, logged{stored.Seq, ev.ID.String(), ev.From.String()})
			after = stored.Seq
		}
		more = further
	}
	return all
}

func TestNotesToOneselfComeOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, other := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "ann")
	bea := r.join(t, r.edge(), "bea")
	const notes = 20
	for i := range notes {
		ann.say(sendFrame(uint64(i), fmt.Sprintf("m%d", i), "direct.ann.ann", "remember"))
	}
	for name, c := range map[string]*client{"the sender": ann, "its other session": other} {
		for i := range notes {
			if g := c.await("event"); g.Event.ID != fmt.Sprintf("m%d", i) {
				t.Errorf("%s got %v, want m%d", name, g, i)
			}
		}
		for _, g := range c.barrier() {
			if g.T != "ack" {
				t.Errorf("%s got %v", name, g)
			}
		}
	}
	bea.quiet()
}
