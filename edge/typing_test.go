package edge

import (
	"fmt"
	"testing"
	"time"

	"parley/schemas"
)

func TestTypingIsToldToTheOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	second := r.addEdge(t, nil)
	ann, annToo := r.join(t, r.edge(), "ann"), r.join(t, second, "ann")
	bea, beaToo := r.join(t, r.edge(), "bea"), r.join(t, second, "bea")
	const frame = `{"t":"typing","chat":"direct.ann.bea","user":"ann"}`
	wantTold := func() {
		t.Helper()
		for _, c := range []*client{bea, beaToo} {
			if g := c.next(); g.raw != frame {
				t.Errorf("got %v", g)
			}
		}
	}
	ann.say(`{"t":"typing","ref":1,"chat":"direct.ann.bea"}`)
	if g := ann.next(); g.raw != `{"t":"done","ref":1}` {
		t.Errorf("got %v", g)
	}
	wantTold()

	// Within 3 s of the same chat: answered, and not told again.
	r.clock.advance(schemas.TypingEvery - time.Second)
	ann.say(`{"t":"typing","ref":2,"chat":"direct.ann.bea"}`)
	if g := ann.next(); g.raw != `{"t":"done","ref":2}` {
		t.Errorf("got %v", g)
	}
	// Another chat has its own time, and so has the other member.
	ann.say(`{"t":"typing","ref":3,"chat":"direct.ann.ann"}`)
	if g := ann.next(); g.raw != `{"t":"done","ref":3}` {
		t.Errorf("got %v", g)
	}
	bea.say(`{"t":"typing","chat":"direct.ann.bea"}`)
	for _, c := range []*client{ann, annToo} {
		if g := c.next(); g.T != "typing" || g.User != "bea" {
			t.Errorf("got %v", g)
		}
	}
	r.clock.advance(time.Second)
	ann.say(`{"t":"typing","chat":"direct.ann.bea"}`)
	wantTold() // and the one within 3 s did not come before it
	for _, c := range []*client{ann, annToo, bea, beaToo} {
		c.quiet()
	}
}

func TestTypingIsRememberedForFewChats(t *testing.T) {
	t.Parallel()
	u := &user{}
	for i := range 10 * typingChatsMax {
		if !u.mayType(testChat(t, fmt.Sprintf("direct.ann.u%d", i)), testNow) {
			t.Errorf("chat %d may not be typed in", i)
		}
		if len(u.typingAt) > typingChatsMax {
			t.Fatalf("%d chats are remembered", len(u.typingAt))
		}
	}
}

// TestTypingOnTwoEdgesIsToldOnce: each edge limits what is said to it, and what is told
// to its sessions.
func TestTypingOnTwoEdgesIsToldOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	second := r.addEdge(t, nil)
	ann, annToo, bea := r.join(t, r.edge(), "ann"), r.join(t, second, "ann"), r.join(t, r.edge(), "bea")
	typing := func(c *client) {
		t.Helper()
		c.say(`{"t":"typing","ref":1,"chat":"direct.ann.bea"}`)
		c.answer(1)
	}
	typing(ann)
	bea.await("typing")
	typing(annToo)
	seq := annToo.sent("m", "direct.ann.bea", "hi")
	for g := bea.next(); g.Seq != seq; g = bea.next() {
		if g.T == "typing" {
			t.Errorf("told again: %v", g)
		}
	}
	r.clock.advance(schemas.TypingEvery)
	typing(annToo)
	bea.await("typing")
	r.clock.advance(schemas.TypingEvery)
	eventually(t, "who types no more is forgotten", func() bool {
		forgotten := make(chan bool, 1)
		v := r.edge().lives.of("bea")
		v.call(func() { forgotten <- len(v.typists.at) == 0 })
		return <-forgotten
	})
}
