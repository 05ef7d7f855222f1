package streams_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

// outcome is what a publication's Done was called with.
type outcome struct {
	ack streams.PubAck
	err error
}

// publishing is a publisher of the edge's user with a place for its outcomes.
type publishing struct {
	t        *testing.T
	env      *streamstest.Env
	p        *streams.Publisher
	chat     schemas.Chat
	outcomes chan outcome
}

func newPublishing(t *testing.T, env *streamstest.Env) *publishing {
	t.Helper()
	p, err := streams.NewPublisher(env.Connect(t, streams.EdgeComponent))
	if err != nil {
		t.Fatal(err)
	}
	return &publishing{t: t, env: env, p: p, chat: parseChat(t, "direct.alice.bob"), outcomes: make(chan outcome, 10_000)}
}

func (p *publishing) publish(id string, data []byte, readAt time.Time) {
	p.p.Publish(p.t.Context(), streams.Publication{
		Subject: p.env.Layout.Shard(p.chat).Timeline(p.chat), MsgID: id, Data: data, ReadAt: readAt,
		Done: func(ack streams.PubAck, err error) { p.outcomes <- outcome{ack, err} },
	})
}

func (p *publishing) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p.p.Close(ctx)
}

func (p *publishing) wantStored() streams.PubAck {
	p.t.Helper()
	got := <-p.outcomes
	if got.err != nil {
		p.t.Fatalf("publication failed: %v", got.err)
	}
	return got.ack
}

func TestPublishAnswersWithSeqAndKnowsTheSameMessageAgain(t *testing.T) {
	t.Parallel()
	p := newPublishing(t, streamstest.Start(t, streamstest.Options{NoSync: true}))
	defer p.close()
	p.publish("a", []byte(`{}`), time.Now())
	first := p.wantStored()
	p.publish("b", []byte(`{}`), time.Now())
	second := p.wantStored()
	p.publish("a", []byte(`{"other":1}`), time.Now())
	again := p.wantStored()
	if first.Seq != p.env.Layout.At(0).FirstSeq() || second.Seq != first.Seq+1 || first.Duplicate || second.Duplicate {
		t.Errorf("acks are %+v and %+v, want two that follow on %d", first, second, p.env.Layout.At(0).FirstSeq())
	}
	if again.Seq != first.Seq || !again.Duplicate {
		t.Errorf("the same message again: %+v, want a duplicate at %d", again, first.Seq)
	}
}

func TestPublishKeepsOrderAndLosesNothingInAFullWindow(t *testing.T) {
	t.Parallel()
	p := newPublishing(t, streamstest.Start(t, streamstest.Options{NoSync: true}))
	defer p.close()
	const n = 9000 // more than twice the window
	for i := range n {
		p.publish(fmt.Sprint("m", i), fmt.Append(nil, i), time.Now())
	}
	for range n {
		p.wantStored()
	}
	log := streams.NewLog(p.env.JetStream, p.env.Layout)
	var events []schemas.StoredEvent
	for more := true; more; {
		var after uint64
		if len(events) > 0 {
			after = events[len(events)-1].Seq
		}
		var page []schemas.StoredEvent
		var err error
		page, more, err = log.After(t.Context(), p.chat, after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, page...)
	}
	if len(events) != n {
		t.Fatalf("log has %d events, want %d", len(events), n)
	}
	for i, ev := range events {
		if string(ev.JSON) != fmt.Sprint(i) {
			t.Fatalf("event %d of the log is %s", i, ev.JSON)
		}
	}
}

func TestPublishGoesOnWhenTheServerComesBack(t *testing.T) {
	t.Parallel()
	p := newPublishing(t, streamstest.Start(t, streamstest.Options{}))
	defer p.close()
	p.publish("before", []byte(`1`), time.Now())
	before := p.wantStored()
	p.env.Server.StopNode(0)
	p.publish("while", []byte(`2`), time.Now())
	if err := p.env.Server.RestartNode(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if ack := p.wantStored(); ack.Seq != before.Seq+1 {
		t.Errorf("the publication made while the server was away is at %d, want %d", ack.Seq, before.Seq+1)
	}
}

func TestPublishGivesUpWhatIsOutOfTime(t *testing.T) {
	t.Parallel()
	p := newPublishing(t, streamstest.Start(t, streamstest.Options{NoSync: true}))
	defer p.close()
	p.publish("late", []byte(`{}`), time.Now().Add(-streams.PublishWithin))
	if got := <-p.outcomes; !errors.Is(got.err, streams.ErrNotStored) {
		t.Errorf("a send read too long ago: %+v, want ErrNotStored", got)
	}
	p.env.Server.StopNode(0)
	p.publish("away", []byte(`{}`), time.Now().Add(time.Second-streams.PublishWithin))
	if got := <-p.outcomes; !errors.Is(got.err, streams.ErrNotStored) {
		t.Errorf("a send whose time is over while the server is away: %+v, want ErrNotStored", got)
	}
}

func TestPublishTellsAFullLog(t *testing.T) {
	t.Parallel()
	p := newPublishing(t, streamstest.Start(t, streamstest.Options{NoSync: true, Settings: streams.Settings{MaxBytes: 1 << 20}}))
	defer p.close()
	data := bytes.Repeat([]byte{'x'}, 100<<10)
	stored := 0
	for i := range 12 {
		p.publish(fmt.Sprint(i), data, time.Now())
		if got := <-p.outcomes; got.err == nil {
			stored++
		} else if !errors.Is(got.err, streams.ErrLogFull) {
			t.Fatalf("publication %d: %v, want ErrLogFull", i, got.err)
		}
	}
	if stored == 0 || stored == 12 {
		t.Errorf("%d of 12 publications of 100 KiB were stored in 1 MiB", stored)
	}
}

func TestPublishIsRefusedWhereNoStreamMayTakeIt(t *testing.T) {
	t.Parallel()
	p := newPublishing(t, streamstest.Start(t, streamstest.Options{NoSync: true}))
	defer p.close()
	// A stale edge's generation: no stream has the subject, so nobody answers until the time is over.
	p.p.Publish(t.Context(), streams.Publication{
		Subject: streams.NewShard(9, 0).Timeline(p.chat), MsgID: "x", Data: []byte(`{}`),
		ReadAt: time.Now().Add(time.Second - streams.PublishWithin),
		Done:   func(ack streams.PubAck, err error) { p.outcomes <- outcome{ack, err} },
	})
	if got := <-p.outcomes; !errors.Is(got.err, streams.ErrNotStored) {
		t.Errorf("a publish that no stream takes: %+v, want ErrNotStored", got)
	}
}

func TestPublisherCloseWaitsAndThenFails(t *testing.T) {
	t.Parallel()
	p := newPublishing(t, streamstest.Start(t, streamstest.Options{}))
	for i := range 100 {
		p.publish(fmt.Sprint(i), []byte(`{}`), time.Now())
	}
	p.close()
	if len(p.outcomes) != 100 {
		t.Fatalf("Close returned with %d of 100 outcomes", len(p.outcomes))
	}
	for range 100 {
		p.wantStored()
	}
	p.publish("after", []byte(`{}`), time.Now())
	if got := <-p.outcomes; !errors.Is(got.err, streams.ErrNotStored) {
		t.Errorf("a publication after Close: %+v, want ErrNotStored", got)
	}
}
