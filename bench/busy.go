package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	// busyEvery is how often what is due is sent.
	busyEvery = 5 * time.Millisecond
	// busySlots are the sends whose times are known; far more than may be in flight.
	busySlots = 1 << 16
)

// busyLoad sends at a steady rate to many chats in turn. A few users have all of
// the chats, each of them with many others, so that the number of chats can grow
// without that of connections.
type busyLoad struct {
	load
	rate        float64 // sends per second
	inFlightMax uint64  // past it, sends wait: the server is slower than the rate
	shards      int     // in which the chats are

	chats    []busyChat
	sessions sessions
	sentAt   [busySlots]atomic.Int64 // by slot, in nanoseconds since origin
	origin   time.Time

	sent, acked, delivered atomic.Uint64
}

type busyChat struct {
	from  *session
	frame *sendFrame
}

// openBusyLoad opens the sessions of a load on so many chats.
func openBusyLoad(ctx context.Context, r *run, chats int, rate float64) (*busyLoad, error) {
	conn, _, layout, err := r.log(ctx)
	if err != nil {
		return nil, err
	}
	conn.Close()
	senders := min(r.sizes.pairs, chats)
	takers := max(senders, (chats+senders-1)/senders)
	user := func(i int) schemas.User {
		if i < senders {
			return r.user("p%d-%d", chats, i)
		}
		return r.user("q%d-%d", chats, scatter(i-senders))
	}
	all, err := openSessions(ctx, senders+takers, func(ctx context.Context, i int) (*session, error) {
		return openSessionOfMany(ctx, r.target, user(i), busyBufferBytes)
	})
	if err != nil {
		return nil, err
	}
	b := &busyLoad{rate: rate, inFlightMax: uint64(r.sizes.inFlightMax() * r.sizes.pairs), sessions: all, origin: time.Now()}
	shards := map[streams.Shard]bool{}
	for i := range chats {
		from, to := i%senders, (i/senders+i%senders)%takers
		chat := schemas.DirectChat(user(from), user(senders+to))
		b.chats = append(b.chats, busyChat{all[from], newSendFrame(user(from), chat, "p", r.cfg.TextBytes)})
		shards[layout.Shard(chat)] = true
	}
	b.shards = len(shards)
	return b, nil
}

func (b *busyLoad) counts() counts { return counts{b.acked.Load(), b.delivered.Load()} }

// sendLoop sends what is due until it is to stop.
func (b *busyLoad) sendLoop(ctx context.Context) error {
	tick := time.NewTicker(busyEvery)
	defer tick.Stop()
	out := make(map[*session][]byte)
	for last, due := time.Now(), 0.0; !b.stopping.Load(); {
		select {
		case now := <-tick.C:
			// What a stall leaves due is bounded, so that no flood follows.
			due = min(due+now.Sub(last).Seconds()*b.rate, float64(b.inFlightMax))
			last = now
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for ; due >= 1 && b.sent.Load() < b.acked.Load()+b.inFlightMax; due-- {
			n := b.sent.Add(1) - 1
			chat, slot := b.chats[n%uint64(len(b.chats))], int(n%busySlots)
			b.sentAt[slot].Store(int64(time.Since(b.origin)))
			out[chat.from] = chat.frame.append(out[chat.from], slot, n)
		}
		for s, frames := range out {
			if len(frames) == 0 {
				continue
			}
			if err := s.write(frames); err != nil {
				return err
			}
			out[s] = frames[:0]
		}
	}
	return nil
}

// takeLoop counts what comes to a session, until it is closed.
func (b *busyLoad) takeLoop(s *session) error {
	for {
		k, payload, err := s.next()
		if err == nil {
			err = b.take(s, k, payload)
		}
		switch {
		case err != nil && isClosed(err):
			return nil
		case err != nil:
			return err
		}
	}
}

// take counts one frame.
func (b *busyLoad) take(s *session, k kind, payload []byte) error {
	switch k {
	case kindEvent:
		b.delivered.Add(1)
	case kindAck:
		ref, ok := numberAfter(payload, refName)
		if !ok || ref < refBase || ref >= refBase+busySlots {
			return fmt.Errorf("%s got an ack of nothing that was sent: %.200s", s.user, payload)
		}
		b.record(b.origin.Add(time.Duration(b.sentAt[ref-refBase].Load())))
		b.acked.Add(1)
	}
	return nil
}

// drain waits until all that was sent is acknowledged, and has come to both users.
func (b *busyLoad) drain(ctx context.Context) error {
	for deadline := time.Now().Add(drainWithin); b.acked.Load() != b.sent.Load() || b.delivered.Load() != 2*b.sent.Load(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("of %d sends %d were acknowledged and %d of twice as many events came", b.sent.Load(), b.acked.Load(), b.delivered.Load())
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
