package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"parley/schemas"
	"parley/streams"
)

// TestStopWithoutNATS: the sends in flight are answered and the sessions told to
// go elsewhere, though NATS never comes back.
func TestStopWithoutNATS(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	r.env.Server.StopNode(0)
	eventually(t, "the edge has noticed", func() bool { _, ok := r.edge().Ready(); return !ok })
	ann.say(sendFrame(1, "m1", "direct.ann.bea", "hi"))
	ann.barrier()
	r.edge().stop()
	if g := ann.answer(1); g.Code != schemas.Unavailable || g.ID != "m1" {
		t.Errorf("got %v", g)
	}
	ann.closedWith(schemas.CloseDraining)
	bea.closedWith(schemas.CloseDraining)
	r.edge().Stop(t)
}

// TestDrainUnderLoad: what is acknowledged is in the log, and no request that was
// read before the close stays without its answer.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	const senders, sends = 4, 400
	var clients []*client
	started := make(chan struct{}, senders)
	var writers sync.WaitGroup
	for n := range senders {
		c := r.join(t, r.edge(), fmt.Sprintf("u%d", n))
		clients = append(clients, c)
		writers.Go(func() {
			for i := range sends {
				if c.write(websocket.TextMessage, sendFrame(uint64(i), fmt.Sprintf("m%d", i), fmt.Sprintf("direct.u%d.z", n), "hi")) != nil {
					return // the edge has hung up
				}
				if i == sends/4 {
					started <- struct{}{}
				}
			}
		})
	}
	for range senders {
		<-started
	}
	r.edge().stop()
	for n, c := range clients {
		answered, acked := map[uint64]bool{}, map[string]uint64{}
		for g := range c.frames {
			switch {
			case g.T == "event":
				continue
			case g.T == "ack":
				acked[g.ID] = g.Seq
			case g.T != "error" || g.Code != schemas.Unavailable:
				t.Errorf("got %v", g)
			}
			if answered[*g.Ref] {
				t.Errorf("ref %d was answered twice", *g.Ref)
			}
			answered[*g.Ref] = true
		}
		for ref := range uint64(len(answered)) {
			if !answered[ref] {
				t.Fatalf("of u%d, ref %d was passed over: %d were answered", n, ref, len(answered))
			}
		}
		c.closedWith(schemas.CloseDraining)
		log := map[string]uint64{}
		for _, ev := range r.logOf(t, fmt.Sprintf("direct.u%d.z", n)) {
			log[ev.id] = ev.seq
		}
		for id, seq := range acked {
			if log[id] != seq {
				t.Errorf("%s of u%d was acknowledged at %d, the log has it at %d", id, n, seq, log[id])
			}
		}
		t.Logf("u%d: %d answered, %d acknowledged, %d in the log", n, len(answered), len(acked), len(log))
	}
	writers.Wait()
}

func TestHelloWithoutNATSIsSentElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.env.Server.StopNode(0)
	eventually(t, "the edge has noticed", func() bool { _, ok := r.edge().Ready(); return !ok })
	var clients []*client
	for range 3 {
		c := r.connect(t, r.edge())
		c.hello(r.token(t, "ann"), `,"resume":{}`)
		clients = append(clients, c)
	}
	for _, c := range clients {
		if g := c.next(); g.Code != schemas.Unavailable || g.RetryAfter <= 0 {
			t.Errorf("got %v", g)
		}
		c.closedWith(schemas.CloseFull)
		c.hangUp()
	}
	ctx, cancel := context.WithTimeout(t.Context(), failAfter)
	defer cancel()
	if err := r.env.Server.RestartNode(ctx, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the edge is ready", func() bool { _, ok := r.edge().Ready(); return ok })
	r.join(t, r.edge(), "ann").sent("m1", "direct.ann.bea", "hi")
}

// TestOperatorsAskANode is what `parley drain` does.
func TestOperatorsAskANode(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	second := r.addEdge(t, nil)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, second, "bea")
	r.join(t, r.edge(), "ann")
	operator := r.env.Connect(t, streams.OperatorComponent)
	ask := func(node, endpoint string) (stats NodeStats) {
		t.Helper()
		reply, err := operator.Request(streams.NodeSubject(testID(t, node), endpoint), nil, failAfter)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(reply.Data, &stats); err != nil {
			t.Fatal(err)
		}
		return stats
	}
	if s := ask("edge-1", "stats"); s.Node.String() != "edge-1" || s.Connections != 2 || s.Users != 1 || s.Draining {
		t.Errorf("got %+v", s)
	}
	ask("edge-1", "drain")
	ann.closedWith(schemas.CloseDraining)
	if err := <-r.edge().stopped; err != nil { // and nobody has asked Run to end
		t.Error(err)
	}
	close(r.edge().stopped)
	if s := ask("edge-2", "stats"); s.Connections != 1 || s.Draining {
		t.Errorf("got %+v", s)
	}
	bea.quiet()
}

func TestPresenceKeysFollowSessions(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	operator := r.env.Connect(t, streams.OperatorComponent)
	changes := make(chan *nats.Msg, 64)
	if _, err := operator.ChanSubscribe("$KV.presence.>", changes); err != nil {
		t.Fatal(err)
	}
	if err := operator.Flush(); err != nil {
		t.Fatal(err)
	}
	c := r.connect(t, r.edge())
	c.hello(r.token(t, "ann"), `,"device":"web-1"`)
	subject := "$KV.presence.ann." + c.await("welcome").Session
	next := func() *nats.Msg {
		t.Helper()
		select {
		case m := <-changes:
			return m
		case <-time.After(failAfter):
			t.Fatal("no change comes")
		}
		return nil
	}
	m := next()
	if m.Subject != subject || string(m.Data) != `{"node":"edge-1","device":"web-1"}` || m.Header.Get("Nats-TTL") != "1m15s" {
		t.Errorf("got %s %q %v", m.Subject, m.Data, m.Header)
	}
	r.clock.advance(31 * time.Second) // the heartbeat writes it again
	if m := next(); m.Subject != subject || m.Header.Get("Nats-TTL") != "1m15s" || m.Header.Get("KV-Operation") != "" {
		t.Errorf("got %s %v", m.Subject, m.Header)
	}
	c.hangUp()
	if m := next(); m.Subject != subject || m.Header.Get("KV-Operation") != "PURGE" {
		t.Errorf("got %s %v", m.Subject, m.Header)
	}
}

// TestTLS: there is no non-blocking write, helpers do them all.
func TestTLS(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(http.NotFoundHandler())
	defer web.Close()
	r := newRig(t, func(c *Config) {
		c.Listener = tls.NewListener(c.Listener, &tls.Config{Certificates: web.TLS.Certificates})
	})
	dialer := websocket.Dialer{Subprotocols: []string{schemas.Subprotocol}, NetDialTLSContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		return tls.Dial(network, addr, &tls.Config{InsecureSkipVerify: true}) // a certificate of this test
	}}
	join := func(user string) *client {
		t.Helper()
		conn, _, err := dialer.Dial("wss://"+r.edge().addr+"/v1/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{t: t, conn: conn, frames: make(chan got, 1<<16), ended: make(chan struct{}), seen: make(map[string]int)}
		t.Cleanup(c.cut)
		go c.readLoop()
		c.hello(r.token(t, user))
		c.await("welcome")
		return c
	}
	ann, bea := join("ann"), join("bea")
	var atAnn, atBea uint64
	for i := 0; i < 200; { // at most 1 MB is under way, below what a session may be behind
		var ids []string
		for range 50 {
			ids = append(ids, fmt.Sprintf("m%d", i))
			ann.say(sendFrame(uint64(i), ids[len(ids)-1], "direct.ann.bea", strings.Repeat("x", 1+i*100)))
			i++
		}
		atBea = bea.wantEvents("direct.ann.bea", atBea, ids...)
		atAnn = ann.wantEvents("direct.ann.bea", atAnn, ids...)
	}
	_ = ann.write(websocket.TextMessage, strings.Repeat(" ", schemas.FrameBytesMax+1))
	ann.closedWith(schemas.CloseTooLarge)
	r.edge().stop()
	bea.closedWith(schemas.CloseDraining)
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	_, err := New(t.Context(), Config{SessionsMax: -1, Heartbeat: time.Millisecond})
	for _, fault := range []string{"node", "listener", "sessions max is -1", "heartbeat is 1ms"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%q is not in %v", fault, err)
		}
	}
}

func TestSessionsOfALoopStandTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		loops := []*fanoutLoop{{number: 0}, {number: 1}, {number: 2}}
		var sessions []*session
		have := map[*session]bool{}
		for range rapid.IntRange(0, 40).Draw(rt, "steps") {
			before := append([]*session(nil), sessions...)
			kept := sessions
			if len(sessions) > 0 && rapid.Bool().Draw(rt, "remove") {
				s := sessions[rapid.IntRange(0, len(sessions)-1).Draw(rt, "which")]
				sessions = removeSession(sessions, s)
				delete(have, s)
			} else {
				s := &session{loop: loops[rapid.IntRange(0, 2).Draw(rt, "loop")]}
				sessions = insertSession(sessions, s)
				have[s] = true
			}
			for i := range before { // others may be reading the list that was
				if kept[i] != before[i] {
					rt.Fatal("a list was changed in place")
				}
			}
			runs := 0
			for i, s := range sessions {
				if !have[s] {
					rt.Fatal("a session is there that was removed")
				}
				if i == 0 || sessions[i-1].loop != s.loop {
					runs++
				}
			}
			distinct := map[*fanoutLoop]bool{}
			for s := range have {
				distinct[s.loop] = true
			}
			if len(sessions) != len(have) || runs != len(distinct) {
				rt.Fatalf("%d sessions of %d in %d runs of %d loops", len(sessions), len(have), runs, len(distinct))
			}
		}
	})
}

// TestCursorsAreBounded forgets chats past the bound, and none that is being healed.
func TestCursorsAreBounded(t *testing.T) {
	t.Parallel()
	u := &user{audience: audience{live: &liveLoop{}}}
	healing := testChat(t, "direct.ann.healing")
	u.setCursor(healing, cursor{last: 1, healing: true})
	for i := range 2 * cursorsMax {
		u.setCursor(testChat(t, fmt.Sprintf("direct.ann.u%d", i)), cursor{last: uint64(i)})
		if len(u.cursors) > cursorsMax {
			t.Fatalf("%d cursors are kept", len(u.cursors))
		}
	}
	if c := u.cursors[healing]; !c.healing {
		t.Error("the chat that is being healed was forgotten")
	}
}
