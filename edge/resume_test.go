package edge

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

func resumeOf(pairs ...any) string {
	var list []string
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, fmt.Sprintf("%q:%d", pairs[i], pairs[i+1]))
	}
	return `,"resume":{` + strings.Join(list, ",") + `}`
}

// wantResumed reads until the resume ends, and checks its sums and the events, as <chat>/<id>.
func (c *client) wantResumed(chats int, events []string, resets ...string) {
	c.t.Helper()
	var have, reset []string
	for {
		g := c.next()
		if g.T == "event" {
			have = append(have, g.Chat+"/"+g.Event.ID)
			continue
		}
		if g.T != "resumed" || g.Chats != chats {
			c.t.Fatalf("got %v, want %d chats resumed", g, chats)
		}
		if !strings.Contains(g.raw, `"reset":[`) {
			c.t.Errorf("got %v", g)
		}
		for _, r := range g.Reset {
			reset = append(reset, r.Chat.String()+" "+string(r.Reason))
		}
		break
	}
	if strings.Join(have, " ") != strings.Join(events, " ") {
		c.t.Errorf("resumed with %v, want %v", have, events)
	}
	for _, want := range resets {
		if !strings.Contains(strings.Join(reset, ",")+",", want+",") {
			c.t.Errorf("reset %v, want %v", reset, want)
		}
	}
	if len(reset) != len(resets) {
		c.t.Errorf("reset %v, want %v", reset, resets)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	const ab, ac, ad = "direct.ann.bea", "direct.ann.cat", "direct.ann.dan"
	b0 := r.logged(t, nc, ab, "bea", "b0", "hi")
	c0 := r.logged(t, nc, ac, "cat", "c0", "hi")
	b1 := r.logged(t, nc, ab, "ann", "b1", "hi")
	r.logged(t, nc, ab, "bea", "b2", "hi")
	c1 := r.logged(t, nc, ac, "cat", "c1", "hi")
	d0 := r.logged(t, nc, ad, "dan", "d0", "hi")
	r.logged(t, nc, "direct.bea.cat", "bea", "secret", "hi")

	for _, tt := range []struct {
		name, resume string
		chats        int
		events       []string
		resets       []string
	}{
		{"nothing held", `,"resume":{}`, 0, nil, nil},
		{"all held", resumeOf(ad, d0, ac, c1), 0, nil, nil},
		{"one chat", resumeOf(ab, b0), 1, []string{ab + "/b1", ab + "/b2"}, nil},
		{"from the beginning", resumeOf(ab, 0), 1, []string{ab + "/b0", ab + "/b1", ab + "/b2"}, nil},
		{"several", resumeOf(ac, c0, ad, d0, ab, b1), 2, []string{ab + "/b2", ac + "/c1"}, nil},
		{"a seq of another chat", resumeOf(ab, c0), 1, []string{ab + "/b1", ab + "/b2"}, nil},
		{"a chat without events", resumeOf("direct.ann.eve", 0), 0, nil, nil},
		{"ahead", resumeOf(ad, d0+1000), 0, nil, []string{ad + " ahead"}},
		{"ahead of nothing", resumeOf("direct.ann.eve", uint64(1)<<41), 0, nil, []string{"direct.ann.eve ahead"}},
		{"others' chats", resumeOf("direct.bea.cat", 0, "direct.bea.dan", 7, "group.x", 7, ab, b1), 1, []string{ab + "/b2"},
			[]string{"direct.bea.cat not_member", "direct.bea.dan not_member", "group.x not_member"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.join(t, r.edge(), "ann", tt.resume)
			c.wantResumed(tt.chats, tt.events, tt.resets...)
			c.quiet()
			c.cut()
		})
	}
	t.Run("live events follow", func(t *testing.T) { wantLiveAfterResume(t, r, nc, ab, b0) })
}

// wantLiveAfterResume checks that live events follow a resume, whatever the client held.
func wantLiveAfterResume(t *testing.T, r *rig, nc *nats.Conn, chat string, behind uint64) {
	t.Helper()
	for _, held := range []uint64{behind, r.logOf(t, chat)[2].seq, 1 << 41} { // behind, current, ahead
		c := r.join(t, r.edge(), "ann", resumeOf(chat, held))
		c.await("resumed")
		seq := r.logged(t, nc, chat, "bea", fmt.Sprintf("live%d", held), "hi")
		if g := c.next(); g.T != "event" || g.Seq != seq {
			t.Errorf("got %v, want the event at %d", g, seq)
		}
		c.quiet()
		c.cut()
	}
}

func TestResumeGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	const many, most, large = "direct.ann.bea", "direct.ann.cat", "direct.ann.dan"
	r.loggedMany(t, nc, most, "m", schemas.ResumeEventsMax)
	r.loggedMany(t, nc, many, "m", schemas.ResumeEventsMax+1)
	for i := range 12 {
		r.logged(t, nc, large, "dan", fmt.Sprintf("m%d", i), strings.Repeat("x", 100_000))
	}
	c := r.join(t, r.edge(), "ann", resumeOf(most, 0))
	for i := range schemas.ResumeEventsMax {
		if g := c.next(); g.T != "event" || g.Event.ID != fmt.Sprintf("m%d", i) {
			t.Fatalf("got %v, want m%d", g, i)
		}
	}
	c.wantResumed(1, nil)
	c = r.join(t, r.edge(), "ann", resumeOf(many, 0, large, 0))
	c.wantResumed(0, nil, many+" gap", large+" gap")
	seq := r.logged(t, nc, many, "bea", "live", "hi")
	if g := c.next(); g.T != "event" || g.Seq != seq {
		t.Errorf("got %v, want the live event after a gap", g)
	}
	// Just within.
	c = r.join(t, r.edge(), "ann", resumeOf(many, r.logOf(t, many)[0].seq))
	c.wantResumed(0, nil, many+" gap") // the live one made it 1,001 again
	c = r.join(t, r.edge(), "ann", resumeOf(large, r.logOf(t, large)[2].seq))
	c.wantResumed(1, []string{large + "/m3", large + "/m4", large + "/m5", large + "/m6", large + "/m7", large + "/m8", large + "/m9", large + "/m10", large + "/m11"})
}

func TestResumeIsBoundedOverAllChats(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	var pairs []any
	for i := range 12 { // 12 × 0.9 MB
		chat := fmt.Sprintf("direct.ann.u%02d", i)
		for n := range 9 {
			r.logged(t, nc, chat, "ann", fmt.Sprintf("m%d", n), strings.Repeat("x", 100_000))
		}
		pairs = append(pairs, chat, 0)
	}
	// The client reads only when no more goes out: a resume waits for it.
	c := dialClient(t, r.edge(), smallBuffers())
	c.hello(r.token(t, "ann"), resumeOf(pairs...))
	eventually(t, "the connection takes no more", func() bool { return r.edge().metric(t, "helper_writes_total", "") > 0 })
	go c.readLoop()
	c.await("welcome")
	bytes, events, chats := 0, 0, map[string]int{}
	g := c.next()
	for ; g.T == "event"; g = c.next() {
		bytes += len(g.raw)
		events++
		chats[g.Chat]++
	}
	if g.T != "resumed" || g.Chats != len(chats) || g.Chats+len(g.Reset) != 12 || len(chats) != 9 || events != 81 {
		t.Errorf("%d events of %d bytes in %d chats; got %v", events, bytes, len(chats), g)
	}
	for _, reset := range g.Reset {
		if reset.Reason != schemas.ResetGap || chats[reset.Chat.String()] > 0 {
			t.Errorf("%v, and it got %d events", reset, chats[reset.Chat.String()])
		}
	}
}

// TestResumeUnderLoad has sends going on while sessions come and go: each sees
// every event after what it named, in order, once.
func TestResumeUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	second := r.addEdge(t, nil)
	_ = second
	ab, ac := "direct.ann.bea", "direct.ann.cat"
	ctx, cancel := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for _, chat := range []string{ab, ac} {
		c := r.join(t, r.edge(), "ann")
		senders.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				c.sent(fmt.Sprintf("m%d", i), chat, "hi")
			}
		})
	}
	held := map[string]uint64{ab: 0, ac: 0}
	for round := range 30 {
		pair := [2]*client{}
		for i := range pair { // two sessions resume at once
			pair[i] = r.connect(t, r.edges[i])
			pair[i].hello(r.token(t, "ann"), resumeOf(ab, held[ab], ac, held[ac]))
		}
		var lasts [2]map[string]uint64
		for i, c := range pair {
			lasts[i] = map[string]uint64{ab: held[ab], ac: held[ac]}
			live := 0
			for resumed := false; !resumed || live < 20; {
				switch g := c.next(); g.T {
				case "welcome":
				case "resumed":
					resumed = true
					if len(g.Reset) > 0 {
						t.Fatalf("round %d: %v", round, g)
					}
				case "event":
					last := lasts[i][g.Chat]
					if g.Seq <= last || last > 0 && g.Prev != last {
						t.Fatalf("round %d: session %d got %v after %d", round, i, g, last)
					}
					lasts[i][g.Chat] = g.Seq
					if resumed {
						live++
					}
				default:
					t.Fatalf("round %d: got %v", round, g)
				}
			}
			c.cut()
		}
		held = lasts[0]
	}
	cancel()
	senders.Wait()
}

// TestResumeAsksTheLogAlone: the store is not there, and the edge has just started.
func TestResumeAsksTheLogAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nc := r.asEdge(t)
	seq := r.logged(t, nc, "direct.ann.bea", "bea", "m0", "hi")
	r.logged(t, nc, "direct.ann.bea", "bea", "m1", "hi")
	asked := r.historyWorker(t, nil)
	e := r.addEdge(t, nil)
	for range 20 {
		c := r.join(t, e, "ann", resumeOf("direct.ann.bea", seq, "direct.ann.cat", 0))
		c.wantResumed(1, []string{"direct.ann.bea/m1"})
		c.cut()
	}
	if n := len(asked); n > 0 {
		t.Errorf("the history worker was asked %d times", n)
	}
}

// historyWorker answers history requests with answer, and tells of each.
func (r *rig) historyWorker(t testing.TB, answer func(schemas.History) string) chan struct{} {
	t.Helper()
	asked := make(chan struct{}, 1024)
	nc := r.env.Connect(t, streams.WorkerComponent)
	service, err := micro.AddService(nc, micro.Config{Name: "history", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop() })
	handler := micro.HandlerFunc(func(req micro.Request) {
		asked <- struct{}{}
		text := `{"events":[],"more":false}`
		if answer != nil {
			var history schemas.History
			if err := json.Unmarshal(req.Data(), &history); err != nil {
				t.Error(err)
			}
			text = answer(history)
		}
		_ = req.Respond([]byte(text))
	})
	if err := service.AddEndpoint("history", handler, micro.WithEndpointSubject(streams.HistorySubject)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return asked
}

// TestResumeWaitsForWhatIsKnownToExist: a replica that lags does not have the
// chat's last event yet, of which another one has told.
func TestResumeWaitsForWhatIsKnownToExist(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	r.setRepublish(t, false) // nothing comes live: it passed before the session was there
	nc := r.asEdge(t)
	chat := testChat(t, "direct.ann.bea")
	m0 := r.logged(t, nc, chat.String(), "bea", "m0", "hi")
	m1 := r.logged(t, nc, chat.String(), "bea", "m1", "hi")
	c := r.join(t, r.edge(), "ann")
	s := r.sessionOf(t, "ann")
	holdGate := func() {
		held := make(chan struct{})
		s.loop.push(item{do: func(*fanoutLoop) {
			s.out.gates = map[schemas.Chat]*gate{chat: {held: true}}
			close(held)
		}})
		<-held
	}
	ctx, cancel := context.WithTimeout(t.Context(), failAfter)
	defer cancel()
	var resumes sync.WaitGroup

	t.Run("told by the last seqs", func(t *testing.T) {
		holdGate()
		resumes.Go(func() {
			resume := newResume(r.edge().members, s)
			resume.chat(ctx, chat, m0, m1+1)
		})
		if g := c.next(); g.Seq != m1 {
			t.Fatalf("got %v", g)
		}
		m2 := r.logged(t, nc, chat.String(), "bea", "m2", "hi")
		if g := c.next(); g.Seq != m2 {
			t.Fatalf("got %v", g)
		}
		resumes.Wait()
	})
	t.Run("told to another session of the user", func(t *testing.T) {
		holdGate()
		v := s.user.live
		told := make(chan struct{})
		v.call(func() { s.user.setCursor(chat, cursor{last: m1 + 2}); close(told) })
		<-told
		resumes.Go(func() {
			resume := newResume(r.edge().members, s)
			lasts := map[schemas.Chat]uint64{chat: m1 + 1} // of a replica
			resume.raise(ctx, []schemas.Chat{chat}, lasts)
			if lasts[chat] != m1+2 {
				t.Errorf("the last seq is %d, want %d", lasts[chat], m1+2)
			}
			resume.chat(ctx, chat, m1+1, lasts[chat])
		})
		m3 := r.logged(t, nc, chat.String(), "bea", "m3", "hi")
		if g := c.next(); g.Seq != m3 {
			t.Fatalf("got %v", g)
		}
		resumes.Wait()
		c.quiet()
	})
}

// TestEventBeforeTheWelcomeIsNotLost: what a session's gate holds back before
// its welcome is remembered, as after it.
func TestEventBeforeTheWelcomeIsNotLost(t *testing.T) {
	t.Parallel()
	chat := testChat(t, "direct.ann.bea")
	l := newFanoutLoop(0, newMetrics(prometheus.NewRegistry()), time.Minute, time.Hour, func(*session) {}, time.Now)
	s := &session{loop: l, out: outbox{gates: map[schemas.Chat]*gate{chat: {held: true}}}}
	l.push(item{frame: resyncFrame, chat: chat, seq: 7, to: []*session{s}})
	l.passOnce()
	if g := s.out.gates[chat]; g.skipped != 7 {
		t.Errorf("the gate remembers seq %d, want 7", g.skipped)
	}
}

// TestResumeFromTheStore: what the log no longer holds comes from the history worker, the tail from the log.
func TestResumeFromTheStore(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	nc := r.asEdge(t)
	const chat = "direct.ann.bea"
	m0 := r.logged(t, nc, chat, "bea", "m0", "hi")
	m1 := r.logged(t, nc, chat, "bea", "m1", "hi")
	shard := r.env.Layout.Shard(testChat(t, chat))
	asked := r.historyWorker(t, func(h schemas.History) string {
		seq, id := m0, "m0"
		if *h.After >= m0 {
			seq, id = m1, "m1"
		}
		return fmt.Sprintf(`{"events":[{"seq":%d,"prev":0,"time":"2026-11-24T03:00:00Z","n":1,"event":{"type":"message","id":%q,"from":"bea","body":{"kind":"text","text":"hi"}}}],"more":%t}`, seq, id, seq == m0)
	})
	stream, err := r.env.JetStream.Stream(t.Context(), shard.Stream())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(m1)); err != nil {
		t.Fatal(err)
	}
	if err := r.edge().logWatch.watchShard(t.Context(), shard); err != nil {
		t.Fatal(err)
	}
	c := r.join(t, r.edge(), "ann", resumeOf(chat, 5))
	c.wantResumed(1, []string{chat + "/m0", chat + "/m1"})
	if len(asked) != 1 {
		t.Errorf("the history worker was asked %d times", len(asked))
	}
	// What the log holds is not asked of the store.
	c = r.join(t, r.edge(), "ann", resumeOf(chat, m0))
	c.wantResumed(1, []string{chat + "/m1"})
	// A retry that goes back further than the log asks the store too, as far as it has to.
	c.say(sendFrame(1, "m0", chat, "hi", `,"retry":true`))
	if g := c.answer(1); g.T != "ack" || g.Duplicate { // m0 is bea's
		t.Errorf("got %v", g)
	}
	if len(asked) != 2 { // one page more; what follows it the log holds
		t.Errorf("the history worker was asked %d times", len(asked))
	}
}
