package edge

import (
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

var (
	storedTime = "2026-11-24T03:00:00.123456789Z"
	smallEvent = []byte(`{"type":"message","id":"01JDG7T5Q0V8N5M4K2H6W9XZAB","from":"alice","body":{"kind":"text","text":"shall we meet at six?"}}`)
)

func TestFrameAllocations(t *testing.T) {
	chat, id := testChat(t, "direct.alice.bob"), testID(t, "01JDG7T5Q0V8N5M4K2H6W9XZAB")
	stored := streams.Stored{Seq: 1<<40 + 7, Prev: 1<<40 + 6, Time: storedTime}
	var frame wireFrame
	for name, f := range map[string]func(){
		"eventFrame": func() { frame = eventFrame(chat, stored, smallEvent) },
		"ackFrame": func() {
			frame = ackFrame(schemas.Ref{Value: 7, Present: true}, id, chat, streams.PubAck{Seq: 1<<40 + 7}, testNow)
		},
		"pongFrame": func() { frame = pongedFrame(schemas.Ref{Value: 7, Present: true}) },
	} {
		if n := testing.AllocsPerRun(100, f); n > 1 {
			t.Errorf("%s makes %g allocations, want the frame alone", name, n)
		}
	}
	_ = frame
}

func TestFanoutPassAllocations(t *testing.T) {
	k := newSink(t, 64)
	frame := eventFrame(testChat(t, "direct.alice.bob"), streams.Stored{Seq: 7, Prev: 6, Time: storedTime}, smallEvent)
	items := []item{
		{frame: frame, chat: testChat(t, "direct.alice.bob"), seq: 7, to: k.sessions},
		{frame: frame, chat: testChat(t, "direct.alice.bob"), seq: 8, to: k.sessions},
		{frame: frame, one: k.sessions[0]},
	}
	pass := func() {
		k.loop.push(items...)
		k.loop.passOnce()
	}
	for range 20 { // buffers and slices grow to their size
		pass()
	}
	if n := testing.AllocsPerRun(100, pass); n > 0 {
		t.Errorf("a pass of %d deliveries makes %g allocations, want none", 2*len(k.sessions)+1, n)
	}
}

// newLiveSink is a live loop without goroutines whose user has sessions in a sink.
func newLiveSink(t testing.TB, k *sink, name string) (*liveLoop, *user) {
	t.Helper()
	b := &base{log: slog.New(slog.DiscardHandler), metrics: k.loop.metrics}
	v := newLiveLoop(b, []*fanoutLoop{k.loop}, nil)
	u := &user{audience: audience{live: v, sessions: k.sessions}, name: testUser(t, name), ready: make(chan struct{})}
	for _, s := range k.sessions {
		s.user = u
	}
	v.users[name] = u
	return v, u
}

func TestHandleStoredAllocations(t *testing.T) {
	k := newSink(t, 4)
	v, u := newLiveSink(t, k, "bob")
	chat := testChat(t, "direct.alice.bob")
	seq := uint64(1 << 40)
	handle := func() {
		v.handleStored(&u.audience, chat, streams.Stored{Seq: seq + 1, Prev: seq, Time: storedTime}, smallEvent)
		seq++
		v.handOn()
		k.loop.passOnce()
	}
	for range 20 {
		handle()
	}
	if n := testing.AllocsPerRun(100, handle); n > 1 {
		t.Errorf("an event makes %g allocations, want its frame alone", n)
	}
	if have := u.cursors[chat].last; have != seq {
		t.Errorf("the cursor is at %d, want %d", have, seq)
	}
}

func TestHandleMessageAllocations(t *testing.T) {
	k := newSink(t, 4)
	v, _ := newLiveSink(t, k, "bob")
	chat := testChat(t, "direct.alice.bob")
	m := &nats.Msg{
		Subject: streams.LiveTimeline(chat), Sub: &nats.Subscription{Subject: "live.direct.*.bob.>"}, Data: smallEvent,
		Header: nats.Header{
			jetstream.SubjectHeader: {"chat.0." + chat.String() + ".timeline"}, jetstream.SequenceHeader: {"1099511627777"},
			jetstream.LastSequenceHeader: {"0"}, jetstream.TimeStampHeaer: {storedTime},
		},
	}
	handle := func() {
		v.users["bob"].cursors = nil // as if it were new: else it is dropped as a repetition
		v.handleMessage(m)
		v.handOn()
		k.loop.passOnce()
	}
	for range 20 {
		handle()
	}
	// The frame, and the map that takes the cursor.
	if n := testing.AllocsPerRun(100, handle); n > 3 {
		t.Errorf("a message makes %g allocations", n)
	}
}
