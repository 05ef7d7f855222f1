package edge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"parley/schemas"
)

// badFrames are frames that are answered and leave the connection up.
var badFrames = []struct {
	name, frame string
	binary      bool
	ref         uint64 // 0: the answer has none
	id          string
	code        schemas.Code
}{
	{name: "empty", frame: ``, code: schemas.BadFrame},
	{name: "white space", frame: "  \n", code: schemas.BadFrame},
	{name: "no JSON", frame: `hello`, code: schemas.BadFrame},
	{name: "not an object", frame: `[{"t":"ping"}]`, code: schemas.BadFrame},
	{name: "a string", frame: `"ping"`, code: schemas.BadFrame},
	{name: "null", frame: `null`, code: schemas.BadFrame},
	{name: "not UTF-8", frame: "{\"t\":\"ping\",\"ref\":3,\"x\":\"\xff\"}", ref: 3, code: schemas.BadFrame},
	{name: "cut short", frame: `{"t":"ping","ref":3`, ref: 3, code: schemas.BadFrame},
	{name: "two objects", frame: `{"t":"ping","ref":3}{"t":"ping"}`, ref: 3, code: schemas.BadFrame},
	{name: "binary", frame: `{"t":"ping","ref":3}`, binary: true, code: schemas.BadFrame},
	{name: "member twice", frame: `{"t":"ping","ref":3,"t":"ping"}`, ref: 3, code: schemas.BadFrame},
	{name: "member twice in body", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea","type":"message","body":{"kind":"text","text":"a","text":"b"}}`, ref: 3, id: "m1", code: schemas.BadFrame},
	{name: "wrongly cased member", frame: `{"t":"send","ref":3,"Id":"m1","chat":"direct.ann.bea","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, code: schemas.BadFrame},
	{name: "wrongly cased member in body", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea","type":"message","body":{"kind":"text","Text":"a"}}`, ref: 3, id: "m1", code: schemas.BadFrame},
	{name: "wrongly cased t", frame: `{"T":"ping","ref":3}`, ref: 3, code: schemas.BadFrame},
	{name: "no t", frame: `{"ref":3}`, ref: 3, code: schemas.BadFrame},
	{name: "t is a number", frame: `{"t":1,"ref":3}`, ref: 3, code: schemas.BadFrame},
	{name: "unknown t", frame: `{"t":"frobnicate","ref":3}`, ref: 3, code: schemas.BadFrame},
	{name: "a server's frame", frame: `{"t":"welcome","ref":3}`, ref: 3, code: schemas.BadFrame},
	{name: "ref is a string", frame: `{"t":"ping","ref":"3"}`, code: schemas.BadFrame},
	{name: "ref is negative", frame: `{"t":"ping","ref":-3}`, code: schemas.BadFrame},
	{name: "ref is a fraction", frame: `{"t":"ping","ref":3.5}`, code: schemas.BadFrame},
	{name: "ref is 2^53", frame: `{"t":"ping","ref":9007199254740992}`, code: schemas.BadFrame},
	{name: "ref is null", frame: `{"t":"ping","ref":null}`, code: schemas.BadFrame},
	{name: "second hello", frame: `{"t":"hello","ref":3,"token":"x"}`, ref: 3, code: schemas.BadFrame},
	{name: "second hello, malformed", frame: `{"t":"hello","ref":3,"token":7}`, ref: 3, code: schemas.BadFrame},

	{name: "no id", frame: `{"t":"send","ref":3,"chat":"direct.ann.bea","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, code: schemas.Invalid},
	{name: "malformed id", frame: `{"t":"send","ref":3,"id":"a.b","chat":"direct.ann.bea","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, code: schemas.Invalid},
	{name: "id of 65", frame: `{"t":"send","ref":3,"id":"` + strings.Repeat("a", 65) + `","chat":"direct.ann.bea","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, code: schemas.Invalid},
	{name: "no chat", frame: `{"t":"send","ref":3,"id":"m1","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "chat with a wildcard", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.*","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "chat with a tail", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea.timeline","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "chat in the wrong order", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.bea.ann","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "unknown type", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea","type":"member","body":{"kind":"text","text":"a"}}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "no body", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea","type":"message"}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "empty text", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea","type":"message","body":{"kind":"text","text":""}}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "null body", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea","type":"message","body":null}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "after is a string", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea","type":"message","body":{"kind":"text","text":"a"},"after":"1"}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "101 mentions", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.ann.bea","type":"message","body":{"kind":"text","text":"a"},"mentions":["a"` + strings.Repeat(`,"a"`, 100) + `]}`, ref: 3, id: "m1", code: schemas.Invalid},
	{name: "history of no chat", frame: `{"t":"history","ref":3}`, ref: 3, code: schemas.Invalid},
	{name: "history before and after", frame: `{"t":"history","ref":3,"chat":"direct.ann.bea","before":5,"after":1}`, ref: 3, code: schemas.Invalid},
	{name: "history limit 0", frame: `{"t":"history","ref":3,"chat":"direct.ann.bea","limit":0}`, ref: 3, code: schemas.Invalid},
	{name: "history limit -1", frame: `{"t":"history","ref":3,"chat":"direct.ann.bea","limit":-1}`, ref: 3, code: schemas.Invalid},
	{name: "typing in no chat", frame: `{"t":"typing","ref":3}`, ref: 3, code: schemas.Invalid},
	{name: "typing with a number", frame: `{"t":"typing","ref":3,"chat":7}`, ref: 3, code: schemas.Invalid},
	{name: "renew without token", frame: `{"t":"renew","ref":3}`, ref: 3, code: schemas.Invalid},
	{name: "renew with a bad token", frame: `{"t":"renew","ref":3,"token":"x.y.z"}`, ref: 3, code: schemas.Unauthenticated},

	{name: "send to a chat of others", frame: `{"t":"send","ref":3,"id":"m1","chat":"direct.bea.cat","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, id: "m1", code: schemas.NotMember},
	{name: "send to a group", frame: `{"t":"send","ref":3,"id":"m1","chat":"group.x","type":"message","body":{"kind":"text","text":"a"}}`, ref: 3, id: "m1", code: schemas.NotMember},
	{name: "history of others", frame: `{"t":"history","ref":3,"chat":"direct.bea.cat"}`, ref: 3, code: schemas.NotMember},
	{name: "typing at others", frame: `{"t":"typing","ref":3,"chat":"direct.bea.cat"}`, ref: 3, code: schemas.NotMember},
}

func TestBadFramesAreAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for i, tt := range badFrames {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			c := r.join(t, r.edge(), "ann", fmt.Sprintf(`,"device":"d%d"`, i))
			kind := websocket.TextMessage
			if tt.binary {
				kind = websocket.BinaryMessage
			}
			if err := c.write(kind, tt.frame); err != nil {
				t.Fatal(err)
			}
			g := c.next()
			switch {
			case g.T != "error" || g.Code != tt.code || g.ID != tt.id || g.Message == "":
				t.Errorf("%.200s was answered with %v, want %s with id %q", tt.frame, g, tt.code, tt.id)
			case (tt.ref != 0) != (g.Ref != nil), g.Ref != nil && *g.Ref != tt.ref:
				t.Errorf("%.200s was answered with %v, want ref %d", tt.frame, g, tt.ref)
			}
			c.quiet() // one answer, and the connection is up
			c.cut()
		})
	}
}

func TestTenthBadFrameWithinAMinuteCloses(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	bad := func(c *client, n int) {
		for range n {
			c.say(`{"t":"nonsense"}`)
			if g := c.next(); g.Code != schemas.BadFrame {
				t.Fatalf("got %v", g)
			}
		}
	}
	t.Run("ten", func(t *testing.T) {
		c := r.join(t, r.edge(), "ann")
		bad(c, 10)
		c.closedWith(schemas.CloseProtocol)
	})
	t.Run("nine and another kind of error", func(t *testing.T) {
		c := r.join(t, r.edge(), "ann")
		bad(c, 9)
		c.say(`{"t":"typing","ref":1,"chat":"direct.x.y"}`)
		if g := c.next(); g.Code != schemas.NotMember {
			t.Fatalf("got %v", g)
		}
		c.quiet()
	})
	t.Run("nine a minute", func(t *testing.T) {
		c := r.join(t, r.edge(), "ann")
		bad(c, 9)
		r.clock.advance(61 * time.Second)
		bad(c, 9)
		c.quiet()
		bad(c, 1)
		c.closedWith(schemas.CloseProtocol)
	})
}

func TestFrameBound(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	padded := func(bytes int) string {
		frame := `{"t":"ping","ref":1,"x":""}`
		return strings.Replace(frame, `""`, `"`+strings.Repeat("x", bytes-len(frame))+`"`, 1)
	}
	t.Run("largest", func(t *testing.T) {
		c := r.join(t, r.edge(), "ann")
		c.say(padded(schemas.FrameBytesMax))
		if g := c.next(); g.T != "pong" {
			t.Fatalf("got %v", g)
		}
	})
	for name, bytes := range map[string]int{"one more": schemas.FrameBytesMax + 1, "eight MiB": 8 << 20} {
		t.Run(name, func(t *testing.T) {
			c := r.join(t, r.edge(), "ann")
			_ = c.write(websocket.TextMessage, padded(bytes)) // the edge may hang up before it has all
			c.closedWith(schemas.CloseTooLarge)
		})
		t.Run(name+" in fragments", func(t *testing.T) {
			c := r.join(t, r.edge(), "ann")
			w, err := c.conn.NextWriter(websocket.TextMessage) // writes a fragment for each 4 KiB
			if err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write([]byte(padded(bytes)))
			_ = w.Close()
			c.closedWith(schemas.CloseTooLarge)
		})
		t.Run(name+" as hello", func(t *testing.T) {
			c := r.connect(t, r.edge())
			_ = c.write(websocket.TextMessage, padded(bytes))
			c.closedWith(schemas.CloseTooLarge)
		})
	}
}
