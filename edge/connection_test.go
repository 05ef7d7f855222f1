package edge

import (
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"parley/schemas"
)

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
