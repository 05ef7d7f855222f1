package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
)

// latencySlice is how long one of the two is measured before the other has its
// turn: a disk that slows down for a while slows both.
const latencySlice = 2 * time.Second

// steady is an open loop: messages leave on time, whatever became of those before.
type steady struct {
	run    *run
	pairs  []*pair
	js     jetstream.JetStream
	layout streams.Layout
	sentAt []atomic.Int64 // by message number, in nanoseconds since origin; bounded by rate times duration
	origin time.Time

	sent, delivered, published atomic.Uint64
	edge, raw                  histogram
}

// latency measures send → delivery at a steady rate, next to synchronous
// publishing to the same chats at the same rate.
func (w messageWorkloads) latency(ctx context.Context) error {
	w.progress("latency: %d sends/s, then %d publications/s, by turns", w.sizes.sendRate, w.sizes.sendRate)
	conn, js, layout, err := w.log(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	pairs, all, err := w.openPairs(ctx, &load{}, "l", 1)
	if err != nil {
		return err
	}
	defer all.close()
	slice := min(latencySlice, w.cfg.Duration)
	turns := max(int(w.cfg.Duration/slice), 1)
	perTurn := int(slice.Seconds() * float64(w.sizes.sendRate))
	s := &steady{run: w.run, pairs: pairs, js: js, layout: layout, origin: time.Now(), sentAt: make([]atomic.Int64, (turns+1)*perTurn)}
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, all.close)
	defer stop()
	for _, p := range pairs {
		group.Go(func() error { return s.takeLoop(p.to) })
		group.Go(p.from.dropLoop)
	}
	var m measurement
	group.Go(func() (err error) {
		defer all.close()
		m, err = s.turns(ctx, turns, perTurn)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	result := Result{Workload: latencyWorkload, Case: fmt.Sprintf("%d sends/s", w.sizes.sendRate), Unit: "delivered"}
	result.setLoad(m, &s.edge)
	raw := millis(s.raw.quantile(0.99))
	w.progress("latency: publishing alone has p50 %.2f ms, p99 %.2f ms", millis(s.raw.quantile(0.5)), raw)
	result.compare(&Result{Workload: fmt.Sprintf("p99 of publishing (%.2f ms)", raw), Rate: raw}, func(raw *Result) float64 { return result.P99 / raw.Rate })
	w.add(result)
	return nil
}

// turns has both measured turns times, after a turn each as warm-up.
func (s *steady) turns(ctx context.Context, turns, perTurn int) (m measurement, err error) {
	for turn := range turns + 1 {
		if turn == 1 {
			s.edge, s.raw = histogram{}, histogram{} // nothing is in flight here
		}
		before, err := s.run.target.scrape(ctx)
		if err != nil {
			return m, err
		}
		began, delivered := time.Now(), s.delivered.Load()
		if err := s.pace(ctx, perTurn, s.send); err != nil {
			return m, err
		}
		if err := s.drain(ctx); err != nil {
			return m, err
		}
		after, err := s.run.target.scrape(ctx)
		if err != nil {
			return m, err
		}
		if turn > 0 {
			m.elapsed += time.Since(began)
			m.operations += s.delivered.Load() - delivered
			m.deliveries += 2 * (s.delivered.Load() - delivered) // and the echoes
			m.cpuSeconds += after[cpuSeries] - before[cpuSeries]
			m.residentBytes = after[residentSeries]
		}
		publishing, publishCtx := errgroup.WithContext(ctx)
		paced := s.pace(ctx, perTurn, func(int) error {
			publishing.Go(func() error { return s.publish(publishCtx) })
			return nil
		})
		if err := publishing.Wait(); err != nil {
			return m, err
		}
		if paced != nil {
			return m, paced
		}
	}
	return m, nil
}

// pace calls do n times at the send rate.
func (s *steady) pace(ctx context.Context, n int, do func(i int) error) error {
	began, every := time.Now(), time.Second/time.Duration(s.run.sizes.sendRate)
	for i := range n {
		if wait := time.Until(began.Add(time.Duration(i) * every)); wait > 0 {
			if err := sleep(ctx, wait); err != nil {
				return err
			}
		}
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *steady) send(int) error {
	n := s.sent.Add(1) - 1
	p := s.pairs[n%uint64(len(s.pairs))]
	s.sentAt[n].Store(int64(time.Since(s.origin)))
	return p.from.write(p.frame.append(nil, 0, n))
}

// takeLoop finds each event's message by its id.
func (s *steady) takeLoop(to *session) error {
	for {
		k, payload, err := to.next()
		if err != nil {
			if isClosed(err) {
				return nil
			}
			return err
		}
		if k != kindEvent {
			continue
		}
		now := time.Since(s.origin)
		n, ok := messageNumber(payload)
		if !ok || n >= uint64(len(s.sentAt)) {
			return fmt.Errorf("%s got an event that was not sent: %.200s", to.user, payload)
		}
		s.edge.add(now - time.Duration(s.sentAt[n].Load()))
		s.delivered.Add(1)
	}
}

// drain waits until all that was sent has been delivered.
func (s *steady) drain(ctx context.Context) error {
	for deadline := time.Now().Add(drainWithin); s.delivered.Load() < s.sent.Load(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d messages were delivered", s.delivered.Load(), s.sent.Load())
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// publish publishes one event to the log and waits for its ack. Its chats are
// not those of the sessions: nothing is delivered for it.
func (s *steady) publish(ctx context.Context) error {
	n := s.published.Add(1)
	i := int(n) % len(s.pairs)
	from, to := s.run.user("x%d", i), s.run.user("y%d", scatter(i))
	chat := schemas.DirectChat(from, to)
	event := newSendFrame(from, chat, "l", s.run.cfg.TextBytes).event(n)
	msg := &nats.Msg{Subject: s.layout.Shard(chat).Timeline(chat), Data: event, Header: nats.Header{jetstream.MsgIDHeader: {messageID(s.run.name, i, n)}}}
	began := time.Now()
	if _, err := s.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("publish to %s: %w", msg.Subject, err)
	}
	s.raw.add(time.Since(began))
	return nil
}
