package edge

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// device is a client that keeps the rules of the protocol: it holds what came,
// resumes with it, and sends again what was not acknowledged.
type device struct {
	user string
	conn *client // nil while offline

	held    map[string][]uint64 // by chat, rising: its view
	pending []pendingSend       // not acknowledged yet
}

type pendingSend struct {
	id, chat string
	after    uint64 // the last seq known at the first try
}

func (d *device) last(chat string) uint64 {
	if seqs := d.held[chat]; len(seqs) > 0 {
		return seqs[len(seqs)-1]
	}
	return 0
}

// take applies one frame, and tells what is against the rules.
func (d *device) take(g got) error {
	switch g.T {
	case "event":
		last := d.last(g.Chat)
		if g.Seq <= last {
			return nil
		}
		if g.Prev > last {
			return fmt.Errorf("%s sees a gap: %v after %d", d.user, g, last)
		}
		d.held[g.Chat] = append(d.held[g.Chat], g.Seq)
	case "ack":
		for i, p := range d.pending {
			if p.id == g.ID {
				d.pending = append(d.pending[:i:i], d.pending[i+1:]...)
				return nil
			}
		}
		return fmt.Errorf("%s got an ack that it does not await: %v", d.user, g)
	case "resumed":
		if len(g.Reset) > 0 {
			return fmt.Errorf("%s: %v", d.user, g)
		}
	case "welcome", "pong":
	default:
		return fmt.Errorf("%s got %v", d.user, g)
	}
	return nil
}

func (d *device) send(p pendingSend, retry bool) {
	extra := ""
	if retry {
		extra = fmt.Sprintf(`,"retry":true,"after":%d`, p.after)
	}
	d.conn.say(sendFrame(1, p.id, p.chat, "hi", extra))
}

// connect resumes with all that is held and sends again what is pending.
func (d *device) connect(t *testing.T, r *rig, e *testEdge, chats []string) {
	d.conn = r.connect(t, e)
	var pairs []any
	for _, chat := range chats {
		pairs = append(pairs, chat, d.last(chat))
	}
	d.conn.hello(r.token(t, d.user), resumeOf(pairs...))
	for _, p := range d.pending {
		d.send(p, true)
	}
}

// drain takes what has come; with until it takes on until that holds.
func (d *device) drain(rt *rapid.T, until func() bool) {
	deadline := time.After(failAfter)
	for {
		if until != nil && until() {
			return
		}
		var none chan struct{}
		if until == nil {
			none = closedChannel
		}
		select {
		case g, ok := <-d.conn.frames:
			if !ok {
				rt.Fatalf("the connection of %s ended: %v", d.user, d.conn.err)
			}
			if err := d.take(g); err != nil {
				rt.Fatal(err)
			}
			continue
		case <-none:
		case <-deadline:
			rt.Fatalf("%s holds %v and awaits %v", d.user, d.held, d.pending)
		}
		return
	}
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// TestViewEqualsTheLog has devices of two users send, lose their connections and
// resume in any order on two edges: in the end each holds exactly what the log
// has, and the log has each message once.
func TestViewEqualsTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.addEdge(t, nil)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		ann, bea := fmt.Sprintf("ann%d", run), fmt.Sprintf("bea%d", run)
		shared := fmt.Sprintf("direct.%s.%s", ann, bea)
		chats := map[string][]string{
			ann: {shared, fmt.Sprintf("direct.%s.%s", ann, ann)},
			bea: {shared, fmt.Sprintf("direct.%s.%s", bea, bea)},
		}
		var devices []*device
		for _, user := range []string{ann, ann, bea} {
			devices = append(devices, &device{user: user, held: map[string][]uint64{}})
		}
		sent := map[string]int{} // by chat
		ids := 0
		anyDevice := rapid.IntRange(0, len(devices)-1)
		pick := func(online bool) *device {
			d := devices[anyDevice.Draw(rt, "device")]
			if (d.conn != nil) != online {
				rt.Skip("not in that state")
			}
			return d
		}
		rt.Repeat(map[string]func(*rapid.T){
			"connect": func(rt *rapid.T) {
				d := pick(false)
				d.connect(t, r, r.edges[rapid.IntRange(0, 1).Draw(rt, "edge")], chats[d.user])
			},
			"send": func(rt *rapid.T) {
				d := pick(true)
				chat := rapid.SampledFrom(chats[d.user]).Draw(rt, "chat")
				for range rapid.IntRange(1, 8).Draw(rt, "sends") {
					ids++
					p := pendingSend{id: fmt.Sprintf("m%d", ids), chat: chat, after: d.last(chat)}
					d.pending = append(d.pending, p)
					sent[chat]++
					d.send(p, false)
				}
			},
			"take": func(rt *rapid.T) { pick(true).drain(rt, nil) },
			"lose": func(rt *rapid.T) {
				d := pick(true)
				d.conn.hangUp() // what came and was not taken is lost with it
				d.conn = nil
			},
		})
		// What was never acknowledged is sent again: then the log has everything.
		for _, d := range devices {
			if d.conn == nil {
				d.connect(t, r, r.edge(), chats[d.user])
			}
			d.drain(rt, func() bool { return len(d.pending) == 0 })
		}
		logs := map[string][]logged{}
		for chat, n := range sent {
			logs[chat] = r.logOf(t, chat)
			if len(logs[chat]) != n {
				rt.Fatalf("the log of %s has %d events, %d were sent: %v", chat, len(logs[chat]), n, logs[chat])
			}
		}
		for _, d := range devices {
			for _, chat := range chats[d.user] {
				d.drain(rt, func() bool { return len(d.held[chat]) >= sent[chat] })
				for i, ev := range logs[chat] {
					if d.held[chat][i] != ev.seq {
						rt.Fatalf("%s holds %v of %s, the log %v", d.user, d.held[chat], chat, logs[chat])
					}
				}
				if len(d.held[chat]) > sent[chat] {
					rt.Fatalf("%s holds more of %s than was sent", d.user, chat)
				}
			}
			d.conn.hangUp()
		}
	})
}
