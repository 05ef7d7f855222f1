package bench

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

// drainWithin is how long what is in flight at the end may take: what has not
// come then is lost.
const drainWithin = 15 * time.Second

// load is what all senders of a workload share.
type load struct {
	measuring atomic.Bool
	stopping  atomic.Bool
	latencies histogram
}

func (l *load) record(since time.Time) {
	if l.measuring.Load() {
		l.latencies.add(time.Since(since))
	}
}

// pair is two users, of whom one sends with a fixed number of sends in flight.
type pair struct {
	load     *load
	from, to *session
	frame    *sendFrame
	sentAt   []time.Time // by slot: one for each send in flight; zero: free

	sent, acked   atomic.Uint64
	echoes, taken atomic.Uint64 // events that came to from and to
}

// pairUsers are the users of pair i, and their chat.
func (r *run) pairUsers(i int) (from, to schemas.User, chat schemas.Chat) {
	from, to = r.user("a%d", i), r.user("b%d", scatter(i))
	return from, to, schemas.DirectChat(from, to)
}

// scatter gives a number to the other user of the i-th pair, another for each i. Had
// both users the same number, half of the shards would have no chat: the lowest bit of a chat's
// hash is that of all its characters together, and those of equal numbers cancel out.
func scatter(i int) int {
	const prime = 100_003 // above any i
	return i * 7919 % prime
}

// direct measures the sends of pairs until the log has stored them.
func (w messageWorkloads) direct(ctx context.Context) error {
	for _, inFlight := range w.sizes.inFlight {
		if err := w.measureDirect(ctx, inFlight); err != nil {
			return err
		}
	}
	return nil
}

func (w messageWorkloads) measureDirect(ctx context.Context, inFlight int) error {
	w.progress("direct: %d pairs, %d in flight each", w.sizes.pairs, inFlight)
	l := &load{}
	pairs, all, err := w.openPairs(ctx, l, fmt.Sprintf("d%d", inFlight), inFlight)
	if err != nil {
		return err
	}
	defer all.close()
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, all.close)
	defer stop()
	for _, p := range pairs {
		group.Go(func() error { return p.takeLoop() })
		group.Go(func() error {
			defer p.to.close()
			if err := p.sendLoop(); err != nil {
				return err
			}
			return p.awaitTaken(ctx)
		})
	}
	var m measurement
	group.Go(func() (err error) {
		defer func() {
			l.stopping.Store(true)
			for _, p := range pairs {
				_ = p.from.net.SetReadDeadline(time.Now().Add(drainWithin))
			}
		}()
		m, err = w.measure(ctx, func() (c counts) {
			for _, p := range pairs {
				c.operations += p.acked.Load()
				c.deliveries += p.echoes.Load() + p.taken.Load()
			}
			return c
		}, l.measuring.Store)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	result := Result{Workload: directWorkload, Case: fmt.Sprintf("%d in flight", inFlight), Unit: "acked"}
	result.setLoad(m, &l.latencies)
	if inFlight == w.sizes.inFlightMax() {
		result.compare(w.find(ceilingWorkload), func(ceiling *Result) float64 { return result.Rate / ceiling.Rate })
	}
	w.add(result)
	return nil
}

func (w messageWorkloads) openPairs(ctx context.Context, l *load, suffix string, inFlight int) ([]*pair, sessions, error) {
	all, err := openSessions(ctx, 2*w.sizes.pairs, func(ctx context.Context, i int) (*session, error) {
		from, to, _ := w.pairUsers(i / 2)
		if i%2 == 1 {
			from = to
		}
		return openSession(ctx, w.target, from, "", busyBufferBytes)
	})
	if err != nil {
		return nil, nil, err
	}
	pairs := make([]*pair, w.sizes.pairs)
	for i := range pairs {
		from, _, chat := w.pairUsers(i)
		pairs[i] = &pair{
			load: l, from: all[2*i], to: all[2*i+1],
			frame:  newSendFrame(from, chat, suffix, w.cfg.TextBytes),
			sentAt: make([]time.Time, inFlight),
		}
	}
	return pairs, all, nil
}

// sendLoop keeps every slot in flight until it is to stop, and returns when
// every ack and every echo has come.
func (p *pair) sendLoop() error {
	var out []byte
	for slot := range p.sentAt {
		out = p.append(out, slot)
	}
	inFlight := len(p.sentAt)
	if err := p.from.write(out); err != nil {
		return err
	}
	out = out[:0]
	for {
		k, payload, err := p.from.next()
		if err != nil {
			return p.unfinished(err)
		}
		switch k {
		case kindEvent:
			p.echoes.Add(1)
		case kindAck:
			slot, err := p.takeAck(payload)
			if err != nil {
				return err
			}
			inFlight--
			if !p.load.stopping.Load() {
				out = p.append(out, slot)
				inFlight++
			}
		}
		if len(out) > 0 && !p.from.reader.more() {
			if err := p.from.write(out); err != nil {
				return p.unfinished(err)
			}
			out = out[:0]
		}
		if inFlight == 0 && p.echoes.Load() >= p.sent.Load() {
			return nil
		}
	}
}

func (p *pair) append(out []byte, slot int) []byte {
	p.sentAt[slot] = time.Now()
	return p.frame.append(out, slot, p.sent.Add(1))
}

var duplicateName = []byte(`"duplicate":true`)

func (p *pair) takeAck(payload []byte) (slot int, err error) {
	ref, ok := numberAfter(payload, refName)
	slot = int(ref) - refBase
	if !ok || slot < 0 || slot >= len(p.sentAt) || p.sentAt[slot].IsZero() {
		return 0, fmt.Errorf("%s got an ack of nothing that is in flight: %.200s", p.from.user, payload)
	}
	if bytes.Contains(payload, duplicateName) {
		return 0, fmt.Errorf("%s got an ack of another message: %.200s", p.from.user, payload)
	}
	p.load.record(p.sentAt[slot])
	p.sentAt[slot] = time.Time{}
	p.acked.Add(1)
	return slot, nil
}

// unfinished tells what is missing after a wait ended.
func (p *pair) unfinished(err error) error {
	return fmt.Errorf("%s has %d of %d acks and %d of %d events: %w", p.from.user, p.acked.Load(), p.sent.Load(), p.echoes.Load(), p.sent.Load(), err)
}

// takeLoop counts what comes to the other one, until its connection is closed.
func (p *pair) takeLoop() error {
	for {
		k, _, err := p.to.next()
		switch {
		case err != nil && isClosed(err):
			return nil
		case err != nil:
			return err
		case k == kindEvent:
			p.taken.Add(1)
		}
	}
}

// awaitTaken returns when the other one has as many events as were sent.
func (p *pair) awaitTaken(ctx context.Context) error {
	for deadline := time.Now().Add(drainWithin); p.taken.Load() < p.sent.Load(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s got %d of %d events", p.to.user, p.taken.Load(), p.sent.Load())
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
