package edge

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"parley/schemas"
	"parley/streams"
)

const (
	// echoWithin is how long the echo of an acknowledged send may take.
	echoWithin     = time.Second
	echoCheckEvery = 250 * time.Millisecond
	// echoesMax bounds the sends whose echo is awaited per live loop; past it the oldest is no longer watched.
	echoesMax = 1 << 16
	// hintsPerSecond bounds an edge's hints.
	hintsPerSecond = 100
	// channelBehind: with more messages waiting the loop itself may be late, not the echo.
	channelBehind = 1024
)

// echoWatch remembers acknowledged sends until their event came back from the
// log. A leader that dies between storing and republishing leaves no other trace.
type echoWatch struct {
	hints *rate.Limiter // of the whole edge

	mu     sync.Mutex
	queue  []echo // by time
	hinted map[schemas.Chat]time.Time
}

type echo struct {
	audience *audience
	chat     schemas.Chat
	seq      uint64
	at       time.Time
}

// expectEcho is called when a send to an audience's chat was acknowledged.
func (a *audience) expectEcho(chat schemas.Chat, seq uint64, now time.Time) {
	v := a.live
	v.echoes.mu.Lock()
	defer v.echoes.mu.Unlock()
	if len(v.echoes.queue) >= echoesMax {
		v.echoes.queue = v.echoes.queue[1:]
	}
	v.echoes.queue = append(v.echoes.queue, echo{a, chat, seq, now})
}

// due takes the echoes that had their time.
func (w *echoWatch) due(now time.Time) []echo {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.queue) && now.Sub(w.queue[n].at) >= echoWithin {
		n++
	}
	due := w.queue[:n:n]
	w.queue = w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil
	}
	return due
}

// checkEchoes publishes a hint for each chat whose echo did not come: its
// receivers, here and on other edges, then read the log.
func (v *liveLoop) checkEchoes(now time.Time) {
	if len(v.channel) > channelBehind {
		return
	}
	w := &v.echoes
	for chat, at := range w.hinted {
		if now.Sub(at) >= echoWithin {
			delete(w.hinted, chat)
		}
	}
	for _, e := range w.due(now) {
		c, known := e.audience.cursors[e.chat]
		if known && (c.last >= e.seq || c.healing && c.seen >= e.seq) {
			continue
		}
		if _, inFlight := w.hinted[e.chat]; inFlight || !w.hints.AllowN(now, 1) {
			continue
		}
		if w.hinted == nil {
			w.hinted = make(map[schemas.Chat]time.Time)
		}
		w.hinted[e.chat] = now
		v.metrics.hints.Inc()
		if err := v.conn.PublishMsg(streams.Hint(e.chat, e.seq)); err != nil {
			v.log.Warn("publish hint", "chat", e.chat, "seq", e.seq, "error", err)
		}
	}
}
