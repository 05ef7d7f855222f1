package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/streams"
)

// publications publishes with a fixed number in flight: each slot is published
// again once it is acknowledged. One goroutine publishes and nats.go's own takes
// the acks, since whatever the client burns here the server lacks.
type publications struct {
	run   string // its name, for the ids
	load  *load
	slots map[*nats.Msg]*publication // never changed once publishing
	free  chan *publication          // acknowledged; has room for every slot
	fault chan error                 // the first one

	published, acked, delivered atomic.Uint64
}

// publication is a slot: a message of one pair, written over before each use.
type publication struct {
	msg    *nats.Msg
	pair   int
	number *atomic.Uint64 // of the pair's messages
	frame  *sendFrame
	sentAt time.Time
}

// ceiling measures the log alone, with the chats and events of direct.
func (w messageWorkloads) ceiling(ctx context.Context) error {
	result, err := w.measureCeiling(ctx, ceilingWorkload)
	if err == nil {
		w.add(result)
	}
	return err
}

func (w messageWorkloads) measureCeiling(ctx context.Context, workload string) (result Result, err error) {
	inFlight := w.sizes.inFlightMax() * w.sizes.pairs
	w.progress("%s: %d publications in flight", workload, inFlight)
	conn, js, layout, err := w.log(ctx)
	if err != nil {
		return result, err
	}
	defer conn.Close()
	p := newPublications(w.run, layout)
	js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(inFlight+1), jetstream.WithPublishAsyncTimeout(drainWithin),
		jetstream.WithPublishAsyncAckHandler(p.takeAck), jetstream.WithPublishAsyncErrHandler(p.takeError))
	if err != nil {
		return result, fmt.Errorf("prepare publishing: %w", err)
	}
	live, err := w.subscribeLive(&p.delivered)
	if err != nil {
		return result, err
	}
	defer live.Close()
	group, publishing := errgroup.WithContext(ctx)
	group.Go(func() error { return p.publishLoop(publishing, js) })
	var m measurement
	group.Go(func() (err error) {
		defer p.load.stopping.Store(true)
		m, err = w.measure(publishing, func() counts { return counts{p.acked.Load(), p.delivered.Load()} }, p.load.measuring.Store)
		return err
	})
	if err := group.Wait(); err != nil {
		return result, err
	}
	if err := p.drain(ctx); err != nil {
		return result, err
	}
	result = Result{Workload: workload, Case: fmt.Sprintf("%d in flight", inFlight), Unit: "acked"}
	result.setLoad(m, &p.load.latencies)
	return result, nil
}

func newPublications(r *run, layout streams.Layout) *publications {
	inFlight := r.sizes.inFlightMax()
	p := &publications{
		run: r.name, load: &load{}, slots: map[*nats.Msg]*publication{},
		free: make(chan *publication, inFlight*r.sizes.pairs), fault: make(chan error, 1),
	}
	for i := range r.sizes.pairs {
		from, _, chat := r.pairUsers(i)
		frame, number := newSendFrame(from, chat, "c", r.cfg.TextBytes), new(atomic.Uint64)
		for range inFlight {
			slot := &publication{pair: i, number: number, frame: frame, msg: &nats.Msg{
				Subject: layout.Shard(chat).Timeline(chat), Header: nats.Header{jetstream.MsgIDHeader: {""}},
			}}
			p.slots[slot.msg] = slot
		}
	}
	for _, slot := range p.slots {
		p.free <- slot
	}
	return p
}

// subscribeLive counts the events of this run that the streams republish. It uses a
// connection of its own, as an edge does.
func (w messageWorkloads) subscribeLive(delivered *atomic.Uint64) (*nats.Conn, error) {
	conn, err := streams.Connect(context.Background(), w.target.NATS)
	if err != nil {
		return nil, err
	}
	mine := "bench-" + w.name + "-"
	sub, err := conn.Subscribe("live.>", func(m *nats.Msg) {
		if len(m.Subject) > len("live.direct.")+len(mine) && m.Subject[len("live.direct."):][:len(mine)] == mine {
			delivered.Add(1)
		}
	})
	if err == nil {
		err = sub.SetPendingLimits(1<<20, 1<<30)
	}
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("subscribe to live.>: %w", err)
	}
	return conn, nil
}

// publishLoop keeps every slot in flight until it is to stop.
func (p *publications) publishLoop(ctx context.Context, js jetstream.JetStream) error {
	for !p.load.stopping.Load() {
		slot, err := p.nextFree(ctx)
		if err != nil {
			return err
		}
		n := slot.number.Add(1)
		slot.msg.Data = slot.frame.event(n)
		slot.msg.Header[jetstream.MsgIDHeader][0] = messageID(p.run, slot.pair, n)
		slot.sentAt = time.Now()
		p.published.Add(1)
		if _, err := js.PublishMsgAsync(slot.msg); err != nil {
			return fmt.Errorf("publish to %s: %w", slot.msg.Subject, err)
		}
	}
	return nil
}

func (p *publications) nextFree(ctx context.Context) (*publication, error) {
	select {
	case slot := <-p.free:
		return slot, nil
	default:
	}
	timer := time.NewTimer(drainWithin)
	defer timer.Stop()
	select {
	case slot := <-p.free:
		return slot, nil
	case err := <-p.fault:
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, fmt.Errorf("none of %d publications was acknowledged within %s", len(p.slots), drainWithin)
	}
}

// takeAck and takeError are called by nats.go and must not block.
func (p *publications) takeAck(_ jetstream.JetStream, msg *nats.Msg, ack *jetstream.PubAck) {
	slot := p.slots[msg]
	if ack.Duplicate {
		p.fail(fmt.Errorf("publish to %s: id %s is taken for a duplicate", msg.Subject, msg.Header.Get(jetstream.MsgIDHeader)))
	}
	p.load.record(slot.sentAt)
	p.acked.Add(1)
	p.free <- slot
}

func (p *publications) takeError(_ jetstream.JetStream, msg *nats.Msg, err error) {
	p.fail(fmt.Errorf("publish to %s: %w", msg.Subject, err))
}

func (p *publications) fail(err error) {
	select {
	case p.fault <- err:
	default:
	}
}

// drain waits until all that was published has been acknowledged and republished.
func (p *publications) drain(ctx context.Context) error {
	deadline := time.Now().Add(drainWithin)
	for p.acked.Load() != p.published.Load() || p.delivered.Load() != p.published.Load() {
		select {
		case err := <-p.fault:
			return err
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("of %d publications %d were acknowledged and %d republished", p.published.Load(), p.acked.Load(), p.delivered.Load())
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// messageID returns the id of a pair's message in a run. It is as long as the edge's ids.
func messageID(run string, pair int, n uint64) string {
	return fmt.Sprintf("%6.6s%04d%012d", run, pair, n)
}
