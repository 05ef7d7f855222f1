package edge

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	// healsMax bounds the heals in flight of one live loop; past it the sessions are told to resync.
	healsMax = 64
	// healTries and healAgainAfter: a replica may be seconds behind what is known to exist.
	healTries      = 3
	healAgainAfter = time.Second

	// resyncSpread is over how long the sessions of a loop are told to resync after a disturbance.
	resyncSpread = 5 * time.Second
	resyncSteps  = 50
)

// heal reads what lies between an audience's cursor and target from the log. Live
// events of the chat are dropped meanwhile: the log has them too.
func (v *liveLoop) heal(a *audience, chat schemas.Chat, c cursor, target uint64, cause string) {
	v.edge.metrics.heals.WithLabelValues(cause).Inc()
	c.seen = max(c.seen, target)
	if v.heals >= healsMax {
		v.giveUp(a, chat, c)
		return
	}
	c.healing, c.fresh = true, false
	a.setCursor(chat, c)
	v.heals++
	v.edge.tasks.Go(func() {
		events, gone := v.readGap(v.edge.ctx, chat, c.last, c.seen)
		v.call(func() {
			v.heals--
			v.healed(a, chat, events, gone)
		})
	})
}

// readGap returns the events after a cursor, asking again while neither target
// is among them nor a full page came, which the next heal goes on from. Where the
// target has disappeared meanwhile, gone is that: there is nothing else up to it.
func (v *liveLoop) readGap(ctx context.Context, chat schemas.Chat, last, target uint64) (events []schemas.StoredEvent, gone uint64) {
	for try := 1; ; try++ {
		events, more, err := v.edge.logReader.After(ctx, chat, last, schemas.ResumeEventsMax, schemas.ResumeBytesMax)
		if err == nil && len(events) > 0 && (more || events[len(events)-1].Seq >= target) {
			return events, 0
		}
		if err != nil && ctx.Err() == nil {
			v.edge.log.Warn("heal from log", "chat", chat, "after", last, "try", try, "error", err)
		}
		if try == healTries || !sleep(ctx, healAgainAfter) {
			return events, 0
		}
		if gone, err := v.edge.isGone(ctx, chat, target); err == nil && gone {
			return events, target
		}
	}
}

// isGone tells whether the log's leader has had a seq, of which there may only have
// been word, and does not hold it any more.
func (e *Edge) isGone(ctx context.Context, chat schemas.Chat, seq uint64) (bool, error) {
	shard := e.logReader.Layout().Shard(chat)
	_, err := e.logReader.Sequence(ctx, shard, seq)
	if !errors.Is(err, streams.ErrGone) {
		return false, err
	}
	_, last, err := e.logReader.Bounds(ctx, shard)
	return err == nil && seq <= last, err
}

// healed delivers what a heal read and goes on where live events take over.
func (v *liveLoop) healed(a *audience, chat schemas.Chat, events []schemas.StoredEvent, gone uint64) {
	c := a.cursors[chat]
	c.healing = false
	before := c.last
	for i := range events {
		ev := &events[i]
		switch {
		case ev.Seq <= c.last:
			continue
		case ev.Seq <= c.quiet: // of a group: nothing else begins with a fresh cursor
			a.group.follow(ev.Seq, ev.JSON)
		default:
			v.tellRead(a, chat, ev)
		}
		c.last = ev.Seq
	}
	c.last = max(c.last, gone)
	switch {
	case c.seen <= c.last:
		a.setCursor(chat, cursor{last: c.last})
	case c.last > before: // more came while it was read
		v.heal(a, chat, c, c.seen, "gap")
	default:
		v.giveUp(a, chat, c)
	}
}

// tellRead delivers an event that was read from the log: of a group to those who
// may read it, since others have come in by a later one.
func (v *liveLoop) tellRead(a *audience, chat schemas.Chat, ev *schemas.StoredEvent) {
	frame := backfilledFrame(chat, ev)
	if a.group == nil {
		v.tell(a, chat, ev.Seq, frame, ev.JSON)
		return
	}
	v.deliverTo(a.group.readersOf(ev.Seq), item{frame: frame, chat: chat, seq: ev.Seq})
	a.group.follow(ev.Seq, ev.JSON)
}

// giveUp goes on after a gap that could not be read; only the clients know what they hold.
func (v *liveLoop) giveUp(a *audience, chat schemas.Chat, c cursor) {
	a.setCursor(chat, cursor{last: c.seen})
	if a.group != nil {
		a.group.reload(c.seen)
	}
	v.resync(a)
}

func (v *liveLoop) resync(a *audience) {
	v.edge.metrics.resyncs.Add(float64(len(a.everySession())))
	v.deliver(a, item{frame: resyncFrame})
}

// askRepair has the loop repair what may have been missed: NATS was away, or a
// channel was full.
func (v *liveLoop) askRepair() {
	select {
	case v.repairs <- struct{}{}:
	default:
	}
}

// held is one chat that an audience has been sent something of.
type held struct {
	audience *audience
	chat     schemas.Chat
}

// repair reads every chat that the loop's users and groups have been sent from the log, and
// tells all their sessions to resync.
func (v *liveLoop) repair() {
	if v.repairing {
		v.repairAgain = true
		return
	}
	v.repairing = true
	users, groups := v.everybody()
	var chats []held
	for _, u := range users {
		for chat := range u.cursors {
			chats = append(chats, held{&u.audience, chat})
		}
	}
	for _, g := range groups {
		for chat := range g.cursors {
			chats = append(chats, held{&g.audience, chat})
		}
	}
	v.edge.tasks.Go(func() {
		if err := v.repairChats(v.edge.ctx, chats); err != nil && v.edge.ctx.Err() == nil {
			v.edge.log.Warn("repair chats from the log", "chats", len(chats), "error", err) // the sessions resync all the same
		}
		v.resyncAll(v.edge.ctx, users)
		v.call(func() {
			v.repairing = false
			if v.repairAgain {
				v.repairAgain = false
				v.repair()
			}
		})
	})
}

func (v *liveLoop) everybody() (users []*user, groups []*group) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Collect(maps.Values(v.users)), slices.Collect(maps.Values(v.groups))
}

// repairChats takes the last seq of each chat from the log as a hint of what was
// missed. The chats of a shard that does not answer are left: their next events show it.
func (v *liveLoop) repairChats(ctx context.Context, chats []held) error {
	byShard := make(map[streams.Shard][]held)
	layout := v.edge.logReader.Layout()
	for _, h := range chats {
		shard := layout.Shard(h.chat)
		byShard[shard] = append(byShard[shard], h)
	}
	var failed error
	for _, ofShard := range byShard {
		for some := range slices.Chunk(ofShard, streams.MultiLastMax) {
			failed = errors.Join(failed, v.repairSome(ctx, some))
		}
	}
	return failed
}

func (v *liveLoop) repairSome(ctx context.Context, some []held) error {
	names := make([]schemas.Chat, len(some))
	for i, h := range some {
		names[i] = h.chat
	}
	lasts, err := v.edge.logReader.Lasts(ctx, names)
	if err != nil {
		return err
	}
	for _, h := range some {
		if last, ok := lasts[h.chat]; ok {
			v.call(func() { v.handleStored(h.audience, h.chat, streams.Stored{Seq: last, Hint: true}, nil) })
		}
	}
	return nil
}

// resyncAll spreads the resyncs: each makes its client read. What a user was told
// about its groups may be lost too.
func (v *liveLoop) resyncAll(ctx context.Context, users []*user) {
	for some := range slices.Chunk(users, len(users)/resyncSteps+1) {
		v.call(func() {
			for _, u := range some {
				v.resync(&u.audience)
				v.edge.loadLater(u)
			}
		})
		if !sleep(ctx, resyncSpread/resyncSteps) {
			return
		}
	}
}

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
		if _, inFlight := w.hinted[e.chat]; inFlight || !v.edge.hintLimit.AllowN(now, 1) {
			continue
		}
		if w.hinted == nil {
			w.hinted = make(map[schemas.Chat]time.Time)
		}
		w.hinted[e.chat] = now
		v.edge.metrics.hints.Inc()
		if err := v.edge.conn.PublishMsg(streams.Hint(e.chat, e.seq)); err != nil {
			v.edge.log.Warn("publish hint", "chat", e.chat, "seq", e.seq, "error", err)
		}
	}
}

// sleep waits for d, or until ctx ends and it returns false.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
