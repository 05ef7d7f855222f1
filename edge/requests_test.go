package edge

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

// historyAnswers serves history requests with a function of the test.
func (r *rig) historyAnswers(t testing.TB, answer func(micro.Request)) {
	t.Helper()
	nc := r.env.Connect(t, streams.WorkerComponent)
	service, err := micro.AddService(nc, micro.Config{Name: "history", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop() })
	handle := micro.HandlerFunc(func(req micro.Request) { go answer(req) })
	if err := service.AddEndpoint("history", handle, micro.WithEndpointSubject(streams.HistorySubject)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestHistoryIsTheWorkersAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	const ask = `{"t":"history","ref":1,"chat":"direct.ann.bea","after":5,"limit":500}`
	ann.say(ask)
	if g := ann.answer(1); g.Code != schemas.Unavailable || g.RetryAfter <= 0 {
		t.Errorf("without a worker it was answered with %v", g)
	}
	answers := []struct {
		answer func(micro.Request)
		want   string
	}{
		{func(req micro.Request) {
			if string(req.Data()) != `{"chat":"direct.ann.bea","after":5,"limit":200}` {
				t.Errorf("the worker was asked %s", req.Data())
			}
			_ = req.Respond([]byte(`{"events":[],"more":true}`))
		}, `{"t":"page","ref":1,"chat":"direct.ann.bea","events":[],"more":true}`},
		{func(req micro.Request) { _ = req.Error("invalid", "after is above the chat", nil) },
			`{"t":"error","ref":1,"code":"invalid","message":"after is above the chat"}`},
		{func(req micro.Request) { _ = req.Error("unavailable", "the store is away", nil) },
			`{"t":"error","ref":1,"code":"unavailable","message":"the store is away"}`},
		{func(req micro.Request) { _ = req.Respond(nil) },
			`{"t":"error","ref":1,"code":"internal","message":"the worker's answer is empty"}`},
	}
	next := make(chan func(micro.Request), 1)
	r.historyAnswers(t, func(req micro.Request) { (<-next)(req) })
	for _, tt := range answers {
		next <- tt.answer
		ann.say(ask)
		if g := ann.answer(1); g.raw != tt.want {
			t.Errorf("got %s, want %s", g.raw, tt.want)
		}
	}
}

func TestHistoryRequestsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	waiting, answer := make(chan struct{}, requestsMax), make(chan struct{})
	r.historyAnswers(t, func(req micro.Request) {
		waiting <- struct{}{}
		<-answer
		_ = req.Respond([]byte(`{"events":[],"more":false}`))
	})
	ann, other := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "ann")
	ask := func(c *client, ref int) {
		c.say(`{"t":"history","ref":` + strconv.Itoa(ref) + `,"chat":"direct.ann.bea"}`)
	}
	for i := range requestsMax {
		ask(ann, i)
	}
	for range requestsMax {
		receive(t, waiting)
	}
	ask(ann, 100)
	if g := ann.answer(100); g.Code != schemas.RateLimited || g.RetryAfter <= 0 {
		t.Errorf("got %v", g)
	}
	ann.quiet() // it is read on meanwhile
	ask(other, 1)
	receive(t, waiting)
	close(answer)
	other.answer(1)
	answered := map[uint64]bool{}
	for range requestsMax {
		g := ann.await("page")
		answered[*g.Ref] = true
	}
	if len(answered) != requestsMax {
		t.Errorf("%d of %d refs were answered", len(answered), requestsMax)
	}
	ask(ann, 101)
	receive(t, waiting)
	ann.answer(101)
}

// TestLargePagesComeWhole asks for as many pages at once as a session may, each as large as one gets.
func TestLargePagesComeWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	text := strings.Repeat("x", schemas.PageBytesMax)
	r.historyAnswers(t, func(req micro.Request) { _ = req.Respond([]byte(`{"events":[],"more":false,"x":"` + text + `"}`)) })
	c := dialClient(t, r.edge(), smallBuffers())
	c.hello(r.token(t, "ann"))
	for i := range requestsMax {
		c.say(`{"t":"history","ref":` + strconv.Itoa(i) + `,"chat":"direct.ann.bea"}`)
	}
	eventually(t, "the first pages wait", func() bool { return r.edge().metric(t, "history_total", "page") >= 2 })
	go c.readLoop()
	for range requestsMax {
		if g := c.await("page"); len(g.raw) < schemas.PageBytesMax {
			t.Fatalf("got %v", g)
		}
	}
}

// TestRetryIsSearchedInBoundedMany: past the bound the client has to decide.
func TestRetryIsSearchedInBoundedMany(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{NoSync: true, Administrator: true}, nil)
	r.historyAnswers(t, func(req micro.Request) {
		var history schemas.History
		if err := json.Unmarshal(req.Data(), &history); err != nil {
			t.Error(err)
		}
		var events []schemas.StoredEvent
		for i := range uint64(schemas.PageEventsMax) {
			events = append(events, schemas.StoredEvent{Seq: *history.After + 1 + i, JSON: smallEvent})
		}
		answer, err := json.Marshal(struct {
			Events []schemas.StoredEvent `json:"events"`
			More   bool                  `json:"more"`
		}{events, true})
		if err != nil {
			t.Error(err)
		}
		_ = req.Respond(answer)
	})
	const chat = "direct.ann.bea"
	ann := r.join(t, r.edge(), "ann")
	r.forgetBeginning(t, chat)
	ann.say(sendFrame(1, "m1", chat, "hi", `,"retry":true`))
	if g := ann.answer(1); g.Code != schemas.Conflict || g.ID != "m1" {
		t.Errorf("got %v", g)
	}
	r.wantLogged(t, chat)
}

// forgetBeginning has the log hold nothing of a chat that it once held an event of.
func (r *rig) forgetBeginning(t testing.TB, chat string) {
	t.Helper()
	seq := r.logged(t, r.asEdge(t), chat, "bea", "m0", "hi")
	shard := r.env.Layout.Shard(testChat(t, chat))
	stream, err := r.env.JetStream.Stream(t.Context(), shard.Stream())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(seq+1)); err != nil {
		t.Fatal(err)
	}
	if err := r.edge().logWatch.watchShard(t.Context(), shard); err != nil {
		t.Fatal(err)
	}
}

// TestSendsAreRefusedWhilePersistIsFarBehind: near the log's age limit what is not persisted would be lost.
func TestSendsAreRefusedWhilePersistIsFarBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	const chat = "direct.ann.bea"
	ann.sent("m1", chat, "hi")
	look := func() {
		t.Helper()
		if err := r.edge().logWatch.watchShard(t.Context(), r.env.Layout.Shard(testChat(t, chat))); err != nil {
			t.Fatal(err)
		}
	}
	r.clock.advance(17 * time.Hour) // of 24: below 5/7
	look()
	ann = r.join(t, r.edge(), "ann")
	ann.sent("m2", chat, "hi")
	r.clock.advance(time.Hour)
	look()
	ann = r.join(t, r.edge(), "ann")
	ann.say(sendFrame(1, "m3", chat, "hi"))
	if g := ann.answer(1); g.Code != schemas.Overloaded || g.ID != "m3" || g.RetryAfter <= 0 {
		t.Errorf("got %v", g)
	}
}
