package edge

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
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

func TestBadHello(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chats := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"direct.ann.u%d":0`, i))
		}
		return `,"resume":{` + strings.Join(list, ",") + `}`
	}
	token := r.token(t, "ann")
	for _, tt := range []struct {
		name, frame string
		code        schemas.Code
		close       schemas.CloseCode
	}{
		{"another frame", `{"t":"ping"}`, schemas.BadFrame, schemas.CloseProtocol},
		{"a send", sendFrame(1, "m1", "direct.ann.bea", "hi"), schemas.BadFrame, schemas.CloseProtocol},
		{"no JSON", `hello`, schemas.BadFrame, schemas.CloseProtocol},
		{"token is a number", `{"t":"hello","token":1}`, schemas.BadFrame, schemas.CloseProtocol},
		{"malformed device", `{"t":"hello","token":"` + token + `","device":"a b"}`, schemas.BadFrame, schemas.CloseProtocol},
		{"resume is a list", `{"t":"hello","token":"` + token + `","resume":[]}`, schemas.BadFrame, schemas.CloseProtocol},
		{"malformed chat in resume", `{"t":"hello","token":"` + token + `","resume":{"direct.bea.ann":1}}`, schemas.BadFrame, schemas.CloseProtocol},
		{"seq of resume is a string", `{"t":"hello","token":"` + token + `","resume":{"direct.ann.bea":"1"}}`, schemas.BadFrame, schemas.CloseProtocol},
		{"resume of 201 chats", `{"t":"hello","token":"` + token + `"` + chats(201) + `}`, schemas.BadFrame, schemas.CloseProtocol},
		{"no token", `{"t":"hello"}`, schemas.Unauthenticated, schemas.CloseUnauthenticated},
		{"empty token", `{"t":"hello","token":""}`, schemas.Unauthenticated, schemas.CloseUnauthenticated},
		{"bad token", `{"t":"hello","token":"x.y.z"}`, schemas.Unauthenticated, schemas.CloseUnauthenticated},
		{"token over its bound", `{"t":"hello","token":"` + strings.Repeat("x", schemas.JWTBytesMax+1) + `"}`, schemas.Unauthenticated, schemas.CloseUnauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := r.connect(t, r.edge())
			c.say(tt.frame)
			if g := c.next(); g.T != "error" || g.Code != tt.code {
				t.Errorf("got %v, want %s", g, tt.code)
			}
			c.closedWith(tt.close)
		})
	}
	t.Run("binary", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		if err := c.write(websocket.BinaryMessage, `{"t":"hello","token":"`+token+`"}`); err != nil {
			t.Fatal(err)
		}
		if g := c.next(); g.Code != schemas.BadFrame {
			t.Errorf("got %v", g)
		}
		c.closedWith(schemas.CloseProtocol)
	})
	t.Run("none within its time", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		if g := c.next(); g.Code != schemas.Unauthenticated {
			t.Errorf("got %v", g)
		}
		c.closedWith(schemas.CloseUnauthenticated)
	})
	t.Run("a close instead", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		if err := c.write(websocket.CloseMessage, string(websocket.FormatCloseMessage(1000, ""))); err != nil {
			t.Fatal(err)
		}
		c.awaitEnd()
	})
	t.Run("200 chats", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		c.hello(token, chats(200))
		c.await("welcome")
		if g := c.next(); g.T != "resumed" || g.Chats != 0 || len(g.Reset) != 0 {
			t.Errorf("got %v", g)
		}
	})
	t.Run("the hello's ref comes back", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		c.say(`{"t":"hello","ref":77,"token":"x.y.z"}`)
		if g := c.next(); g.Ref == nil || *g.Ref != 77 {
			t.Errorf("got %v, want ref 77", g)
		}
	})
}

func TestTokenExpiresAndIsRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.connect(t, r.edge())
	c.hello(r.tokenFor(t, "ann", 10*time.Minute))
	welcome := c.await("welcome")
	if welcome.Heartbeat != 30 {
		t.Errorf("got %v", welcome)
	}
	other := r.token(t, "bea")
	c.say(`{"t":"renew","ref":1,"token":"` + other + `"}`)
	if g := c.next(); g.T != "error" || g.Code != schemas.Forbidden || *g.Ref != 1 {
		t.Errorf("another user's token was answered with %v", g)
	}
	c.say(`{"t":"renew","ref":2,"token":"` + r.tokenFor(t, "ann", 20*time.Minute) + `"}`)
	renewed := c.next()
	if renewed.T != "renewed" || *renewed.Ref != 2 || !renewed.Expires.After(welcome.Expires) {
		t.Errorf("a later token was answered with %v", renewed)
	}

	// Silence would close it too: it speaks after each step.
	for at := time.Duration(0); at < 11*time.Minute; at += time.Minute {
		r.clock.advance(time.Minute)
		c.barrier()
	}
	if now := r.clock.Now(); !now.After(welcome.Expires) {
		t.Fatalf("it is %s, not past %s", now, welcome.Expires)
	}
	for r.clock.Now().Add(time.Minute).Before(renewed.Expires) {
		r.clock.advance(time.Minute)
		c.barrier()
	}
	r.clock.advance(time.Minute)
	c.closedWith(schemas.CloseExpired)

	late := r.connect(t, r.edge())
	late.hello(other)
	r.clock.advance(time.Hour)
	again := r.connect(t, r.edge())
	again.hello(other)
	if g := again.next(); g.Code != schemas.Unauthenticated {
		t.Errorf("an expired token was answered with %v", g)
	}
	again.closedWith(schemas.CloseUnauthenticated)
}

func TestSweepFindsExpiryInTime(t *testing.T) {
	t.Parallel()
	// exp is in whole seconds and a sweep looks at whole seconds: so it is seen within one sweep.
	if sweepEvery > time.Second {
		t.Errorf("a sweep each %s cannot close within 2 s of the token's end", sweepEvery)
	}
}

func TestPingPong(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := dialClient(t, r.edge(), websocket.Dialer{})
	pongs := make(chan string, 1)
	c.conn.SetPongHandler(func(payload string) error { pongs <- payload; return nil })
	go c.readLoop()
	c.hello(r.token(t, "ann"))
	c.await("welcome")

	c.say(`{"t":"ping","ref":9007199254740991}`)
	if g := c.next(); g.raw != `{"t":"pong","ref":9007199254740991}` {
		t.Errorf("got %v", g)
	}
	c.say(`{"t":"ping"}`)
	if g := c.next(); g.raw != `{"t":"pong"}` {
		t.Errorf("got %v", g)
	}
	if err := c.conn.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(failAfter)); err != nil {
		t.Fatal(err)
	}
	if payload := receive(t, pongs); payload != "are you there" {
		t.Errorf("a control ping was answered with %q", payload)
	}
	if err := c.write(websocket.CloseMessage, string(websocket.FormatCloseMessage(1001, "bye"))); err != nil {
		t.Fatal(err)
	}
	c.closedWith(schemas.CloseNormal)
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	pings := make(chan struct{}, 16)
	quiet := dialClient(t, r.edge(), websocket.Dialer{})
	quiet.conn.SetPingHandler(func(string) error { pings <- struct{}{}; return nil }) // and no pong
	go quiet.readLoop()
	quiet.hello(r.token(t, "ann"))
	quiet.await("welcome")
	polite := r.join(t, r.edge(), "bea") // answers control pings, and says nothing else

	for range 2 {
		r.clock.advance(31 * time.Second)
		receive(t, pings)
		heard := r.sessionOf(t, "bea")
		eventually(t, "the pong is heard", func() bool { return r.clock.Now().Unix()-heard.heardAt.Load() < 30 })
	}
	quiet.quietly(t)
	r.clock.advance(15 * time.Second) // 77 s since ann spoke
	quiet.closedWith(schemas.CloseSilent)
	polite.quiet()
}

// quietly checks that the connection is still there, without a word.
func (c *client) quietly(t *testing.T) {
	t.Helper()
	select {
	case <-c.ended:
		t.Fatalf("the connection ended: %v", c.err)
	default:
	}
}

// sessionOf returns the session of a user that has one.
func (r *rig) sessionOf(t testing.TB, user string) *session {
	t.Helper()
	v := r.edge().lives.of(user)
	v.mu.Lock()
	defer v.mu.Unlock()
	u := v.users[user]
	if u == nil || len(u.sessions) != 1 {
		t.Fatalf("%s has not one session", user)
	}
	return u.sessions[0]
}

func TestFullNodeSendsElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.SessionsMax = 2 })
	first, second := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	r.connect(t, r.edge()).closedWith(schemas.CloseFull)
	third := r.connect(t, r.edge())
	third.closedWith(schemas.CloseFull) // and it does not hang up
	first.quiet()
	second.quiet()
	v := r.edge().lives.of("bea")
	second.hangUp()
	eventually(t, "bea has left", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.users["bea"] == nil
	})
	eventually(t, "there is room for one", func() bool {
		c := r.connect(t, r.edge())
		_ = c.write(websocket.TextMessage, `{"t":"hello","token":"`+r.token(t, "bea")+`"}`) // or it is refused before
		select {
		case g, ok := <-c.frames:
			return ok && g.T == "welcome"
		case <-time.After(failAfter):
			return false
		}
	})
	// Those that were refused take no place, though they have not hung up.
	if n := r.edge().stats().Connections; n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestHandshakesOverTheAddressRate(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.AddressRate = 0.5; c.Now = func() time.Time { return testNow } })
	for range 2 { // the burst of 5 s at 0.5 a second
		if resp := handshake(t, r.edge(), nil); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("got %s", resp.Status)
		}
	}
	wantHTTPError(t, handshake(t, r.edge(), nil), http.StatusTooManyRequests, schemas.RateLimited)
}

func wantHTTPError(t *testing.T, resp *http.Response, status int, code schemas.Code) {
	t.Helper()
	var e schemas.Error
	if err := json.UnmarshalRead(resp.Body, &e); err != nil {
		t.Fatalf("status %s: its body is no error: %v", resp.Status, err)
	}
	if resp.StatusCode != status || e.Code != code || e.Message == "" {
		t.Errorf("got %s with %+v, want %d with %s", resp.Status, e, status, code)
	}
	if later := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable; later != (resp.Header.Get("Retry-After") != "") {
		t.Errorf("%s has Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Origins = []string{"https://chat.example.com/"} })
	for origin, want := range map[string]int{
		"":                                 http.StatusSwitchingProtocols,
		"http://" + r.edge().addr:          http.StatusSwitchingProtocols,
		"https://" + r.edge().addr:         http.StatusSwitchingProtocols,
		"https://chat.example.com":         http.StatusSwitchingProtocols,
		"https://CHAT.example.com":         http.StatusSwitchingProtocols,
		"http://chat.example.com":          http.StatusForbidden,
		"https://chat.example.com:444":     http.StatusForbidden,
		"https://chat.example.com.evil.eu": http.StatusForbidden,
		"https://evil.eu":                  http.StatusForbidden,
		"null":                             http.StatusForbidden,
		"http://127.0.0.1":                 http.StatusForbidden,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		resp := handshake(t, r.edge(), header)
		if resp.StatusCode != want {
			t.Errorf("origin %q gets %s, want %d", origin, resp.Status, want)
		}
		if want == http.StatusForbidden {
			wantHTTPError(t, resp, want, schemas.Forbidden)
		}
	}
}

func TestPublicPort(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	defer http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]int{
		"/v1/nothing": http.StatusNotFound, "/healthz": http.StatusNotFound, "/readyz": http.StatusNotFound,
		"/metrics": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound, "/v1/ws": http.StatusBadRequest,
	} {
		resp, err := http.Get("http://" + r.edge().addr + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s gets %s, want %d", path, resp.Status, want)
		}
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.DrainSpread = 3 * time.Second })
	var clients []*client
	for i := range 8 {
		clients = append(clients, r.join(t, r.edge(), fmt.Sprintf("u%d", i)))
	}
	waiting := r.connect(t, r.edge()) // upgraded, and without its hello at the drain
	if _, ok := r.edge().Ready(); !ok {
		t.Error("not ready before the drain")
	}
	sent := make(chan struct{})
	go func() { // a send that was read before the drain is acknowledged before the close
		defer close(sent)
		clients[0].say(sendFrame(1, "m1", "direct.u0.u1", "hi"))
	}()
	if g := clients[0].await("ack"); g.ID != "m1" {
		t.Errorf("got %v", g)
	}
	<-sent
	r.edge().askDrain()
	delays := map[int64]bool{}
	for _, c := range clients {
		var reason schemas.DrainReason
		text := c.closedWith(schemas.CloseDraining)
		if err := json.Unmarshal([]byte(text), &reason); err != nil || reason.Delay < 0 || reason.Delay >= 3000 {
			t.Errorf("the close's reason is %q: %v", text, err)
		}
		delays[reason.Delay] = true
	}
	if len(delays) < 3 {
		t.Errorf("the delays are not spread: %v", delays)
	}
	if reason, ok := r.edge().Ready(); ok || reason != "draining" {
		t.Errorf("ready %v, %q", ok, reason)
	}
	waiting.hello(r.token(t, "late"))
	waiting.closedWith(schemas.CloseDraining)
	r.edge().Stop(t)
	if _, err := net.Dial("tcp", r.edge().addr); err == nil {
		t.Error("the port is still open")
	}
}

func TestDrainingNodeRefusesRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.edge().draining.Store(true)
	wantHTTPError(t, handshake(t, r.edge(), nil), http.StatusServiceUnavailable, schemas.Unavailable)
	r.edge().draining.Store(false)
}
