package edge

import (
	"context"
	"time"

	"parley/schemas"
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
	v.metrics.heals.WithLabelValues(cause).Inc()
	c.seen = max(c.seen, target)
	if v.heals >= healsMax {
		v.giveUp(a, chat, c)
		return
	}
	c.healing, c.fresh = true, false
	a.setCursor(chat, c)
	v.heals++
	v.tasks.Go(func() {
		events, gone := v.readGap(v.ctx, chat, c.last, c.seen)
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
		events, more, err := v.logReader.After(ctx, chat, last, schemas.ResumeEventsMax, schemas.ResumeBytesMax)
		if err == nil && len(events) > 0 && (more || events[len(events)-1].Seq >= target) {
			return events, 0
		}
		if err != nil && ctx.Err() == nil {
			v.log.Warn("heal from log", "chat", chat, "after", last, "try", try, "error", err)
		}
		if try == healTries || !sleep(ctx, healAgainAfter) {
			return events, 0
		}
		if gone, err := isGone(ctx, v.logReader, chat, target); err == nil && gone {
			return events, target
		}
	}
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
	v.metrics.resyncs.Add(float64(len(a.everySession())))
	v.deliver(a, item{frame: resyncFrame})
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
