package edge

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"parley/schemas"
	"parley/streams/streamstest"
)

// TestLeaderIsKilledUnderLoad stops the node that leads a chat's stream while
// sends and resumes go on: nothing acknowledged is missed or comes twice.
func TestLeaderIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, streamstest.Options{Nodes: 3, NoSync: true}, nil)
	r.addEdge(t, nil)
	const chat = "direct.ann.bea"
	stream := r.env.Layout.Shard(testChat(t, chat)).Stream()
	sender := r.join(t, r.edges[0], "ann")
	live := map[string]*client{"edge 1": r.join(t, r.edges[0], "bea"), "edge 2": r.join(t, r.edges[1], "bea")}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	acked := make(chan uint64, 1<<16)
	var sending sync.WaitGroup
	sending.Go(func() { sendUntil(ctx, sender, chat, acked) })
	for range 100 {
		receive(t, acked)
	}
	r.env.Server.StopNode(r.env.Server.Leader(stream))
	held, resumes := uint64(0), 0
	for n := 0; n < 300; n++ {
		seq := receive(t, acked)
		if n%30 == 0 { // a session comes back with what an earlier one held
			c := r.join(t, r.edges[n/30%2], "bea", resumeOf(chat, held))
			held = wantChain(t, c, held, seq)
			c.hangUp()
			resumes++
		}
	}
	cancel()
	sending.Wait()
	last := uint64(0)
	for _, ev := range r.logOf(t, chat) {
		last = ev.seq
	}
	for name, c := range live {
		if end := wantChain(t, c, 0, last); end != last {
			t.Errorf("%s ends at %d, the log at %d", name, end, last)
		}
	}
	ids := map[string]bool{}
	for _, ev := range r.logOf(t, chat) {
		if ids[ev.id] {
			t.Errorf("%s is in the log twice", ev.id)
		}
		ids[ev.id] = true
	}
}

// sendUntil sends one message after the other, and each again that was refused as unavailable.
func sendUntil(ctx context.Context, c *client, chat string, acked chan<- uint64) {
	known := uint64(0)
	for i := 0; ctx.Err() == nil; i++ {
		extra := ""
		for {
			c.refs++
			c.say(sendFrame(c.refs, fmt.Sprintf("m%d", i), chat, "hi", extra))
			g := c.answer(c.refs)
			if g.T == "ack" {
				known = max(known, g.Seq)
				acked <- g.Seq
				break
			}
			if g.Code != schemas.Unavailable {
				c.t.Errorf("got %v", g)
				return
			}
			extra = fmt.Sprintf(`,"retry":true,"after":%d`, known)
		}
	}
}

// wantChain reads events, each right after the one before, until that at seq,
// and returns the last one's seq.
func wantChain(t *testing.T, c *client, last, seq uint64) uint64 {
	t.Helper()
	for last < seq {
		g := c.await("event")
		if g.Seq <= last { // a repetition: the client drops it
			continue
		}
		if last > 0 && g.Prev != last {
			t.Fatalf("got %v after %d", g, last)
		}
		last = g.Seq
	}
	return last
}
