package edge

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

// wantEvents checks that the next events of a chat are those with ids, in
// order and without a gap that the client would see, and returns the last seq.
func (c *client) wantEvents(chat string, last uint64, ids ...string) uint64 {
	c.t.Helper()
	for _, id := range ids {
		g := c.await("event")
		if g.Chat != chat || g.Event.ID != id || g.Seq <= last || last != 0 && g.Prev > last {
			c.t.Fatalf("got %v, want %s after %d", g, id, last)
		}
		last = g.Seq
	}
	return last
}

func TestLiveIsCompleteUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	second := r.addEdge(t, nil)
	const users, sends = 6, 150
	type session struct {
		*client
		user string
	}
	var sessions []session
	for i := range users {
		user := fmt.Sprintf("u%d", i)
		for n := range 3 {
			sessions = append(sessions, session{r.join(t, r.edges[n%2], user), user})
		}
	}
	_ = second
	// Everybody writes to everybody at once, from all sessions.
	want := map[string]int{} // events by user
	for i, s := range sessions {
		for n := range sends {
			other := fmt.Sprintf("u%d", n%users)
			want[s.user]++
			if other != s.user {
				want[other]++
			}
			s.say(sendFrame(uint64(n), fmt.Sprintf("m%d-%d", i, n), schemas.DirectChat(testUser(t, s.user), testUser(t, other)).String(), "hi"))
		}
	}
	for _, s := range sessions {
		lasts := map[string]uint64{}
		events, acks := 0, 0
		for events < want[s.user] || acks < sends {
			switch g := s.next(); g.T {
			case "event":
				if g.Seq <= lasts[g.Chat] || g.Prev > lasts[g.Chat] {
					t.Fatalf("%s got %v after %d", s.user, g, lasts[g.Chat])
				}
				lasts[g.Chat] = g.Seq
				events++
			case "ack":
				acks++
			default:
				t.Fatalf("%s got %v", s.user, g)
			}
		}
		s.quiet()
	}
}

// TestSessionsComeAndGo has sessions of the same users join and leave at once:
// those that stay miss nothing.
func TestSessionsComeAndGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	const chat, sends = "direct.ann.bea", 300
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	ctx, cancel := context.WithCancel(t.Context())
	var visitors sync.WaitGroup
	for i := range 6 {
		visitors.Go(func() {
			user := []string{"ann", "bea", "cat"}[i%3] // cat has no other session
			for ctx.Err() == nil {
				c := r.connect(t, r.edge())
				c.hello(r.token(t, user), resumeOf(chat, 0))
				if i < 3 { // the others do not wait for their answers
					c.await("resumed")
				}
				c.hangUp()
			}
		})
	}
	var ids []string
	for i := range sends {
		ids = append(ids, fmt.Sprintf("m%d", i))
		ann.say(sendFrame(uint64(i), ids[i], chat, "hi"))
	}
	bea.wantEvents(chat, 0, ids...)
	cancel()
	visitors.Wait()
	bea.quiet()
	eventually(t, "the visitors are gone", func() bool { return r.edge().stats() == NodeStats{Node: r.edge().cfg.Node, Connections: 2, Users: 2} })
}

func TestGapIsHealedFromTheLog(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	nc := r.asEdge(t)
	chat := "direct.ann.bea"
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	ann.sent("m0", chat, "seen")
	last := bea.wantEvents(chat, 0, "m0")
	// What nobody republishes is missed until the next event tells of it.
	r.setRepublish(t, false)
	for i := range 5 {
		r.logged(t, nc, chat, "ann", fmt.Sprintf("hidden%d", i), "missed")
	}
	bea.quiet()
	r.setRepublish(t, true)
	r.logged(t, nc, chat, "ann", "m1", "seen")
	last = bea.wantEvents(chat, last, "hidden0", "hidden1", "hidden2", "hidden3", "hidden4", "m1")
	if n := r.edge().metric(t, "heals_total", "gap"); n == 0 {
		t.Error("no gap was healed")
	}
	r.logged(t, nc, chat, "ann", "m2", "goes on")
	bea.wantEvents(chat, last, "m2")
	bea.quiet()
}

func TestGapOfManyPagesIsHealed(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	nc := r.asEdge(t)
	chat := "direct.ann.bea"
	bea := r.join(t, r.edge(), "bea")
	r.logged(t, nc, chat, "ann", "m0", "seen")
	last := bea.wantEvents(chat, 0, "m0")
	r.setRepublish(t, false)
	const hidden = 2*schemas.ResumeEventsMax + 10
	ids := r.loggedMany(t, nc, chat, "hidden", hidden)
	r.setRepublish(t, true)
	r.logged(t, nc, chat, "ann", "m1", "seen")
	bea.wantEvents(chat, last, append(ids, "m1")...)
}

// loggedMany appends n events to a chat's log and returns their ids.
func (r *rig) loggedMany(t testing.TB, nc *nats.Conn, chat, prefix string, n int) (ids []string) {
	t.Helper()
	js := streamstest.JetStream(t, nc)
	c := testChat(t, chat)
	from, _, _ := c.Users()
	for i := range n {
		ids = append(ids, fmt.Sprintf("%s%d", prefix, i))
		data, err := schemas.EncodeEvent(&schemas.Event{Type: schemas.Message, ID: testID(t, ids[i]), From: from, Body: textBody("hi")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishAsync(r.env.Layout.Shard(c).Timeline(c), data); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(failAfter):
		t.Fatal("the log does not take the events")
	}
	return ids
}

func TestHintIsHealedFromTheLog(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	nc := r.asEdge(t)
	chat := "direct.ann.bea"
	bea, other := r.join(t, r.edge(), "bea"), r.join(t, r.edge(), "bea")
	r.logged(t, nc, chat, "ann", "m0", "seen")
	last := bea.wantEvents(chat, 0, "m0")
	other.wantEvents(chat, 0, "m0")
	r.setRepublish(t, false)
	r.logged(t, nc, chat, "ann", "h0", "missed")
	seq := r.logged(t, nc, chat, "ann", "h1", "missed")
	bea.quiet()
	if err := nc.PublishMsg(streams.Hint(testChat(t, chat), seq)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{bea, other} {
		c.wantEvents(chat, last, "h0", "h1")
	}
	// Again, and one that is lower: there is nothing to heal.
	for _, at := range []uint64{seq, seq - 1, 1} {
		if err := nc.PublishMsg(streams.Hint(testChat(t, chat), at)); err != nil {
			t.Fatal(err)
		}
	}
	r.setRepublish(t, true)
	r.logged(t, nc, chat, "ann", "m1", "goes on")
	bea.wantEvents(chat, seq, "m1")
	bea.quiet()
	if n := r.edge().metric(t, "heals_total", ""); n != 1 {
		t.Errorf("%g heals, want 1", n)
	}
}

// hints subscribes to the hints on a chat, as an operator would.
func (r *rig) hints(t testing.TB, chat string) chan uint64 {
	t.Helper()
	nc := r.env.Connect(t, streams.OperatorComponent)
	hints := make(chan uint64, 1024)
	if _, err := nc.Subscribe("live."+chat+".timeline", func(m *nats.Msg) {
		if stored, ok := streams.ParseStored(testChat(t, chat), m.Header); ok && stored.Hint {
			hints <- stored.Seq
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return hints
}

func TestEchoThatDoesNotComeIsHinted(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	second := r.addEdge(t, nil)
	chat := "direct.ann.bea"
	hints := r.hints(t, chat)
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, second, "bea")
	ann.sent("m0", chat, "seen")
	last := bea.wantEvents(chat, 0, "m0")
	r.setRepublish(t, false)
	var ids []string
	for i := range 10 { // one hint is enough for all of them
		ids = append(ids, fmt.Sprintf("lost%d", i))
		ann.say(sendFrame(uint64(i), ids[i], chat, "hi"))
	}
	bea.wantEvents(chat, last, ids...)
	ann.barrier()
	log := r.logOf(t, chat)
	if seq := receive(t, hints); seq < log[1].seq || seq > log[10].seq {
		t.Errorf("hinted at %d, which is none of %v", seq, log[1:])
	}
	if n := len(hints); n > 2 {
		t.Errorf("%d more hints", n)
	}
	r.setRepublish(t, true)
	ann.sent("m1", chat, "goes on")
	bea.wantEvents(chat, log[10].seq, "m1")
}

// inLoop has a live loop run f, and waits for it.
func inLoop(v *liveLoop, f func()) {
	done := make(chan struct{})
	v.call(func() { f(); close(done) })
	<-done
}

func TestEchoWatchHintsOncePerChatAndSecond(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat, other := testChat(t, "direct.ann.bea"), testChat(t, "direct.ann.cat")
	hints := r.hints(t, chat.String())
	ann := r.join(t, r.edge(), "ann")
	v := r.edge().lives.of("ann")
	u := r.sessionOf(t, "ann").user
	start := r.clock.Now()
	inLoop(v, func() {
		const seq = 1 << 40
		// Cursors past what a hint could heal: the hints themselves come back here.
		u.setCursor(chat, cursor{last: seq})
		u.setCursor(other, cursor{last: seq})
		hintsBefore := r.edge().metric(t, "hints_total", "")
		wantHints := func(what string, n float64) {
			t.Helper()
			if have := r.edge().metric(t, "hints_total", "") - hintsBefore; have != n {
				t.Errorf("%s: %g hints, want %g", what, have, n)
			}
		}
		for i := range uint64(5) {
			u.expectEcho(chat, seq+1+i, start)
		}
		u.expectEcho(other, seq, start) // its event has come
		v.checkEchoes(start.Add(echoWithin - 1))
		wantHints("before its time", 0)
		v.checkEchoes(start.Add(echoWithin))
		wantHints("in its time", 1)
		u.expectEcho(chat, seq+9, start.Add(echoWithin/2))
		v.checkEchoes(start.Add(echoWithin * 3 / 2))
		wantHints("half a second later", 1)
		u.expectEcho(chat, seq+10, start.Add(echoWithin))
		v.checkEchoes(start.Add(echoWithin * 2))
		wantHints("a second later", 2)
		if len(v.echoes.queue) != 0 || len(v.echoes.hinted) != 1 {
			t.Errorf("%d echoes and %d hints are kept", len(v.echoes.queue), len(v.echoes.hinted))
		}
		v.checkEchoes(start.Add(echoWithin * 4))
		if len(v.echoes.hinted) != 0 {
			t.Errorf("%d hints are kept", len(v.echoes.hinted))
		}
		u.setCursor(chat, cursor{last: 1 << 50}) // nothing to heal
	})
	for range 2 {
		receive(t, hints)
	}
	ann.barrier()
}

func TestNATSRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chat := "direct.ann.bea"
	ann, bea := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "bea")
	var all []*client
	all = append(all, ann, bea)
	for i := range 5 {
		all = append(all, r.join(t, r.edge(), fmt.Sprintf("u%d", i)))
	}
	ann.sent("m0", chat, "before")
	last := bea.wantEvents(chat, 0, "m0")

	r.env.Server.StopNode(0)
	eventually(t, "the edge is not ready", func() bool { reason, ok := r.edge().Ready(); return !ok && reason == "NATS is away" })
	// At first a send waits for NATS to come back; then it is refused at once.
	ann.say(sendFrame(1, "m1", chat, "while away"))
	ann.barrier()
	r.clock.advance(natsGrace + time.Second)
	ann.say(sendFrame(2, "m2", chat, "while away"))
	if g := ann.answer(2); g.Code != schemas.Unavailable || g.ID != "m2" || g.RetryAfter <= 0 {
		t.Errorf("a send without NATS was answered with %v", g)
	}
	ann.say(`{"t":"history","ref":3,"chat":"direct.ann.bea"}`)
	if g := ann.answer(3); g.Code != schemas.Unavailable {
		t.Errorf("a history without NATS was answered with %v", g)
	}
	ann.say(`{"t":"typing","ref":4,"chat":"direct.ann.bea"}`)
	if g := ann.answer(4); g.Code != schemas.Unavailable {
		t.Errorf("typing without NATS was answered with %v", g)
	}

	ctx, cancel := context.WithTimeout(t.Context(), failAfter)
	defer cancel()
	if err := r.env.Server.RestartNode(ctx, 0); err != nil {
		t.Fatal(err)
	}
	// Acknowledged, or refused as unavailable because its time ran out on a slow machine; then it is tried again.
	g := ann.answer(1)
	for try := uint64(10); g.T != "ack"; try++ {
		if g.Code != schemas.Unavailable {
			t.Fatalf("got %v", g)
		}
		ann.say(sendFrame(try, "m1", chat, "while away", `,"retry":true`))
		g = ann.answer(try)
	}
	eventually(t, "the edge is ready", func() bool { _, ok := r.edge().Ready(); return ok })
	last = bea.wantEvents(chat, last, "m1")
	for _, c := range all {
		c.awaitSeen("resync")
	}
	ann.say(sendFrame(50, "m3", chat, "after"))
	if g := ann.answer(50); g.T != "ack" {
		t.Errorf("got %v", g)
	}
	bea.wantEvents(chat, last, "m3")
	r.wantLogged(t, chat, "m0", "m1", "m3")
}

// TestMissedWhileNATSWasAway hides an event by cutting only the edge off.
func TestMissedWhileNATSWasAwayIsRepaired(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	chat := "direct.ann.bea"
	bea := r.join(t, r.edge(), "bea")
	r.logged(t, nc, chat, "ann", "m0", "seen")
	last := bea.wantEvents(chat, 0, "m0")
	// The loop is held up, so that it has lost its messages when it goes on.
	v := r.edge().lives.of("bea")
	held, goOn := make(chan struct{}), make(chan struct{})
	v.call(func() { close(held); <-goOn })
	<-held
	hidden := r.loggedMany(t, nc, chat, "hidden", 3)
	eventually(t, "the events are in the channel", func() bool { return len(v.channel) == 3 })
	for range 3 {
		<-v.channel
	}
	if err := r.edge().conn.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	bea.wantEvents(chat, last, hidden...)
	bea.awaitSeen("resync")
}

func TestOverflowOfALiveChannelEndsInResync(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	chat := testChat(t, "direct.ann.bea")
	bea := r.join(t, r.edge(), "bea")
	r.logged(t, nc, chat.String(), "ann", "m0", "seen")
	last := bea.wantEvents(chat.String(), 0, "m0")
	v := r.edge().lives.of("bea")
	held, goOn := make(chan struct{}), make(chan struct{})
	v.call(func() { close(held); <-goOn })
	<-held
	// Hints that tell of nothing fill the channel; what comes behind them is dropped.
	for range liveChannelMax {
		if err := nc.PublishMsg(streams.Hint(chat, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the channel is full", func() bool { return len(v.channel) == liveChannelMax })
	hidden := r.loggedMany(t, nc, chat.String(), "hidden", 3)
	eventually(t, "NATS has dropped", func() bool { return r.edge().metric(t, "live_overflows_total", "") > 0 })
	close(goOn)
	bea.wantEvents(chat.String(), last, hidden...)
	bea.awaitSeen("resync")
	bea.quiet()
}

func TestHealThatFindsNothingEndsInResync(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	chat := testChat(t, "direct.ann.bea")
	bea := r.join(t, r.edge(), "bea")
	last := r.logged(t, nc, chat.String(), "ann", "m0", "seen")
	bea.wantEvents(chat.String(), 0, "m0")
	if err := nc.PublishMsg(streams.Hint(chat, last+100)); err != nil { // of what the log never had
		t.Fatal(err)
	}
	if g := bea.next(); g.T != "resync" {
		t.Errorf("got %v", g)
	}
}

func TestHealsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	bea := r.join(t, r.edge(), "bea")
	for i := range healsMax + 10 {
		chat := schemas.DirectChat(testUser(t, fmt.Sprintf("u%d", i)), testUser(t, "bea"))
		if err := nc.PublishMsg(streams.Hint(chat, 1<<40)); err != nil { // nothing of it is in the log
			t.Fatal(err)
		}
	}
	for range healsMax + 10 { // those in flight give up later
		if g := bea.next(); g.T != "resync" {
			t.Fatalf("got %v", g)
		}
	}
	bea.quiet()
}

func TestUnknownLiveSubjectsAreSkipped(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	bea := r.join(t, r.edge(), "bea")
	for _, m := range []*nats.Msg{
		{Subject: "live.direct.ann.bea.timeline", Data: []byte("no headers")},
		{Subject: "live.direct.ann.bea.timeline", Header: nats.Header{jetstream.SequenceHeader: {"x"}}},
		{Subject: "live.direct.ann.bea.timeline", Header: nats.Header{jetstream.SequenceHeader: {"5"}}},
		{Subject: "live.direct.bea.ann.timeline", Header: nats.Header{jetstream.SequenceHeader: {"5"}, jetstream.LastSequenceHeader: {"4"}}},
		{Subject: "live.direct.ann.bea.typing." + strings.Repeat("x", 65)},
	} {
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	seq := r.logged(t, nc, "direct.ann.bea", "ann", "m1", "hi")
	if g := bea.next(); g.Seq != seq {
		t.Errorf("got %v", g)
	}
	bea.quiet()
}
