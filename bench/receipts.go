package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// receiptsRatioMax is what a message may cost of the server's CPU that is
	// delivered and read, next to one of which nothing is told.
	receiptsRatioMax = 1.6
	// settleFor is for what is left to do when everything is stored: a collection of
	// garbage, and the answers to the last acks.
	settleFor = 500 * time.Millisecond
)

// Series of receipts.
const (
	marksSeries = "parley_edge_marks_total"
	rowsSeries  = "parley_receipts_rows_total"
	earlySeries = "parley_receipts_early_total"
)

// receiptCrowd are pairs of users, of whom one sends and the other reads.
type receiptCrowd struct {
	name      string
	pairs     int
	rate      float64         // messages a second of each pair
	readAfter []time.Duration // one measurement each: how long after it came a message is read
}

// receipts measures what receipts cost the server. A steady load, the same messages of
// the same pairs at the same rate, has its turns without receipts and with them, on one
// server.
//
// With them the receiver sends, of each event that comes, `delivered` at once and
// `read` at once behind it (a chat that is in view) or a second later (one that is opened
// then), each in a write of its own and without a ref; and the sender is sent receipts. It is more than a
// client that obeys the protocol sends, which tells no more than the highest of
// 200 ms, and only `read` of what was read by then.
//
// The CPU is that of the whole dev server: edge, NATS, persist, the worker receipts
// and SQLite. Each turn ends when all is stored, marks too; what the server uses at rest
// with all sessions connected is taken off, which makes the ratio higher.
func (w receiptWorkloads) receipts(ctx context.Context) error {
	for _, crowd := range w.sizes.receiptCrowds {
		if err := w.receiptsOf(ctx, crowd); err != nil {
			return fmt.Errorf("%s: %w", crowd.name, err)
		}
	}
	return nil
}

func (w receiptWorkloads) receiptsOf(ctx context.Context, crowd receiptCrowd) error {
	w.progress("receipts: %s: opening %d pairs", crowd.name, crowd.pairs)
	l, err := openReceiptLoad(ctx, w.run, crowd)
	if err != nil {
		return err
	}
	defer l.close()
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, l.sessions.close)
	defer stop()
	for _, p := range l.pairs {
		group.Go(p.fromLoop)
		group.Go(p.toLoop)
	}
	reading, stopReading := context.WithCancel(ctx)
	group.Go(func() error { return l.readLoop(reading) })
	group.Go(func() error {
		defer l.sessions.close()
		defer stopReading()
		return l.measure(ctx, crowd)
	})
	return group.Wait()
}

// receiptTurns are what turns of one kind came to.
type receiptTurns struct {
	measurement           // its CPU is without that of the server at rest
	latencies   histogram // of acks
	receipts    uint64    // frames
	grown       series    // of marks, rows and those that came early
}

// measure has the load take its turns, for each of the crowd's ways to read.
func (l *receiptLoad) measure(ctx context.Context, crowd receiptCrowd) error {
	r := l.run
	// A chat's first message costs more: each has one before.
	warmup := max(r.cfg.Warmup, time.Duration(float64(time.Second)/crowd.rate))
	if err := l.turn(ctx, &receiptTurns{}, true, warmup); err != nil {
		return err
	}
	if err := l.watchRest(ctx); err != nil {
		return err
	}
	for _, after := range crowd.readAfter {
		l.readAfter.Store(int64(after))
		read := "read at once"
		if after > 0 {
			read = fmt.Sprintf("read %s later", after)
		}
		var kinds [2]receiptTurns // without and with
		for turn := range r.sizes.receiptTurns {
			for i := range kinds {
				with := (i+turn)%2 == 1 // each is as often the first
				r.progress("receipts: %s, %s: turn %d, with receipts: %v", crowd.name, read, turn+1, with)
				of := &kinds[0]
				if with {
					of = &kinds[1]
				}
				if err := l.turn(ctx, of, with, r.cfg.Duration/time.Duration(r.sizes.receiptTurns)); err != nil {
					return err
				}
			}
		}
		l.addResults(crowd, read, &kinds[0], &kinds[1])
	}
	return nil
}

func (l *receiptLoad) addResults(crowd receiptCrowd, read string, without, with *receiptTurns) {
	name := fmt.Sprintf("%s, %d pairs, %g/s each", crowd.name, crowd.pairs, crowd.rate)
	plain := without.result(name + ", no receipts")
	result := with.result(name + ", delivered and " + read)
	result.Ratio, result.RatioOf = with.cpuOfMessage()/without.cpuOfMessage(), "the CPU without"
	result.goal(result.Ratio <= receiptsRatioMax, "at most %.2f", receiptsRatioMax)
	messages := float64(with.operations)
	result.figure("marks published", with.grown[marksSeries]/messages, "a message")
	result.figure("receipt frames", float64(with.receipts)/messages, "a message")
	result.figure("rows", with.grown[rowsSeries]/messages, "a message")
	result.figure("marks before their event was stored", with.grown[earlySeries]/messages, "a message")
	for _, result := range []*Result{&plain, &result} {
		result.figure("at rest", 100*l.atRest, "% of a core")
		l.run.add(*result)
	}
}

// cpuOfMessage is in seconds.
func (t *receiptTurns) cpuOfMessage() float64 { return t.cpuSeconds / float64(t.operations) }

func (t *receiptTurns) result(name string) Result {
	result := Result{Workload: receiptsWorkload, Case: name, Unit: "messages"}
	result.setLoad(t.measurement, &t.latencies)
	result.figure("CPU", 1e6*t.cpuOfMessage(), "µs a message")
	return result
}

// watchRest measures what the server uses while the sessions say nothing.
func (l *receiptLoad) watchRest(ctx context.Context) error {
	used, elapsed, err := l.run.watchRest(ctx)
	l.atRest = used / elapsed.Seconds()
	return err
}
