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

// ceilingInFlight is the most that direct has in flight for each pair.
func (r *run) ceilingInFlight() int { return r.sizes.inFlight[len(r.sizes.inFlight)-1] }

// ceiling measures the log alone, with the chats and events of direct.
func (r *run) ceiling(ctx context.Context) error {
	inFlight := r.ceilingInFlight()
	r.progress("ceiling: %d publications in flight", inFlight*r.sizes.pairs)
	conn, js, layout, err := r.log(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(inFlight*r.sizes.pairs)); err != nil {
		return fmt.Errorf("prepare publishing: %w", err)
	}
	var acked, published, delivered atomic.Uint64
	live, err := r.subscribeLive(&delivered)
	if err != nil {
		return err
	}
	defer live.Close()

	l := &load{}
	group, ctx := errgroup.WithContext(ctx)
	for i := range r.sizes.pairs {
		from, _, chat := r.pairUsers(i)
		frame := newSendFrame(from, chat, "c", r.cfg.TextBytes)
		subject := layout.Shard(chat).Timeline(chat)
		var number atomic.Uint64
		for range inFlight {
			group.Go(func() error {
				for !l.stopping.Load() {
					n := number.Add(1)
					published.Add(1)
					began := time.Now()
					if err := publishOne(ctx, js, subject, frame.event(n), r.messageID(i, n)); err != nil {
						return err
					}
					l.record(began)
					acked.Add(1)
				}
				return nil
			})
		}
	}
	var m measurement
	group.Go(func() (err error) {
		defer l.stopping.Store(true)
		m, err = r.measure(ctx, func() counts { return counts{acked.Load(), delivered.Load()} }, l.measuring.Store)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	for deadline := time.Now().Add(drainWithin); delivered.Load() != published.Load(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d events were republished, %d published", delivered.Load(), published.Load())
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	result := Result{Workload: ceilingWorkload, Case: fmt.Sprintf("%d in flight", inFlight*r.sizes.pairs), Unit: "acked"}
	result.setLoad(m, &l.latencies)
	r.add(result)
	return nil
}

// messageID has as many bytes as the edge's.
func (r *run) messageID(pair int, n uint64) string {
	return fmt.Sprintf("%6.6s%04d%012d", r.name, pair, n)
}

func publishOne(ctx context.Context, js jetstream.JetStream, subject string, event []byte, id string) error {
	msg := &nats.Msg{Subject: subject, Data: event, Header: nats.Header{jetstream.MsgIDHeader: {id}}}
	future, err := js.PublishMsgAsync(msg, jetstream.WithStallWait(drainWithin))
	if err != nil {
		return fmt.Errorf("publish to %s: %w", subject, err)
	}
	select {
	case ack := <-future.Ok():
		if ack.Duplicate {
			return fmt.Errorf("publish to %s: id %s is taken for a duplicate", subject, id)
		}
		return nil
	case err := <-future.Err():
		return fmt.Errorf("publish to %s: %w", subject, err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// subscribeLive counts what the streams republish of this run, on a connection of its own, as an edge has.
func (r *run) subscribeLive(delivered *atomic.Uint64) (*nats.Conn, error) {
	conn, err := streams.Connect(context.Background(), r.target.NATS)
	if err != nil {
		return nil, err
	}
	mine := "bench-" + r.name + "-"
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

// find returns the result of a workload of this run, nil if there is none.
func (r *run) find(workload string) *Result {
	for i := range r.results {
		if r.results[i].Workload == workload {
			return &r.results[i]
		}
	}
	return nil
}

// compare sets the ratio to another result of the run, if there is one.
func (r *Result) compare(to *Result, ratio func(*Result) float64) {
	if to == nil || to.Rate == 0 {
		return
	}
	r.Ratio, r.RatioOf = ratio(to), to.Workload
}
