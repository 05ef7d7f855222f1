// Package receipts is the worker that folds watermarks into the permanent store: how
// far users have got in chats. It reads down: Run, roundOnce, gather, parse, commit.
//
// A mark is folded as a maximum, so it may come in any order, twice, and from several
// of these workers. It waits until persist has stored the event that it is about:
// only then is it known how many messages were read.
package receipts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/worker"
)

// Store is where marks are kept. Its methods may be called from several goroutines.
type Store interface {
	// Heads returns the heads of those of chats of which something is stored.
	Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error)
	// Page returns the events of chat that r asks for, by rising seq.
	Page(ctx context.Context, chat schemas.Chat, r store.Range) (events []store.Event, more bool, err error)
	// Mark raises what is lower; the same marks may be given again. store.ErrBatch says
	// that they never will be taken.
	Mark(ctx context.Context, marks []store.Mark) error
}

// Log tells how the streams are laid out.
type Log interface {
	Layout() streams.Layout
}

// Config is what a [Worker] needs. Zero means the default.
type Config struct {
	Conn      *nats.Conn          // required
	JetStream jetstream.JetStream // required
	Log       Log                 // required
	Store     Store               // required

	worker.Runtime

	BatchMarksMax int           // of one commit; default: 4000
	CollectFor    time.Duration // how long marks gather once one has come; default: 500 ms
	RetryMax      time.Duration // between two attempts while the store is away; default: 2 s
}

func (c Config) withDefaults() Config {
	c.Runtime = worker.Defaults(c.Runtime)
	c.BatchMarksMax = cmp.Or(c.BatchMarksMax, 4000)
	c.CollectFor = cmp.Or(c.CollectFor, 500*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, 2*time.Second)
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	faults := worker.FaultsOf("receipts")
	faults.If(c.Conn == nil, "no connection")
	faults.If(c.JetStream == nil, "no JetStream")
	faults.If(c.Log == nil, "no log")
	faults.If(c.Store == nil, "no store")
	faults.If(c.BatchMarksMax < 1 || c.BatchMarksMax > streams.ReceiptsAckPending, "batches of %d marks: from 1 to %d", c.BatchMarksMax, streams.ReceiptsAckPending)
	faults.If(c.CollectFor < 0 || c.RetryMax < 0, "negative time %s or %s", c.CollectFor, c.RetryMax)
	return faults.Err()
}

const (
	// idlePull is how long one request for the first mark waits.
	idlePull = 20 * time.Second
	// stopWithin bounds what is done with the marks at hand when Run is to end.
	stopWithin = 5 * time.Second
)

// Worker folds marks.
type Worker struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	consumer jetstream.Consumer // nil until it was found
}

// New returns a Worker; Run starts it.
func New(cfg Config) (*Worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg, log: cfg.Logger.With("component", streams.ReceiptsConsumer), metrics: m}, nil
}

// Run folds until ctx ends, and returns nil then. What was not committed comes again.
func (w *Worker) Run(ctx context.Context) error {
	work, endWork := worker.Linger(ctx, stopWithin)
	defer endWork()
	loop := worker.Loop{Log: w.log, RetryMax: w.cfg.RetryMax, Stopped: "receipts stop for now", Resumed: "receipts go on"}
	loop.Run(ctx, func() error { return w.roundOnce(ctx, work) })
	return nil
}

// roundOnce gathers marks and commits those whose events are stored; the others come
// again later.
func (w *Worker) roundOnce(ctx, work context.Context) error {
	if err := w.findConsumer(ctx); err != nil {
		return err
	}
	msgs, err := w.gather(ctx)
	if err != nil {
		w.consumer = nil // a server that came back has lost it
	}
	marks := parse(msgs, w.log)
	if len(marks) == 0 {
		return err
	}
	if commitErr := w.commit(work, marks); commitErr != nil {
		giveBack(marks) // what of it was acknowledged stays so
		err = errors.Join(err, commitErr)
	}
	return err
}

// findConsumer looks the consumer up, and has it made where NATS has lost it.
func (w *Worker) findConsumer(ctx context.Context) error {
	if w.consumer != nil {
		return nil
	}
	consumer, err := w.cfg.JetStream.Consumer(ctx, streams.ReceiptsStream, streams.ReceiptsConsumer)
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		w.log.Info("the marks that NATS kept are lost, and their stream is made anew")
		if err = streams.ProvisionMemory(ctx, w.cfg.JetStream, w.cfg.Log.Layout()); err == nil {
			consumer, err = w.cfg.JetStream.Consumer(ctx, streams.ReceiptsStream, streams.ReceiptsConsumer)
		}
	}
	if err != nil {
		return fmt.Errorf("look up consumer %s of %s: %w", streams.ReceiptsConsumer, streams.ReceiptsStream, err)
	}
	w.consumer = consumer
	return nil
}

// gather waits for a mark, and returns it with those that come soon.
func (w *Worker) gather(ctx context.Context) ([]jetstream.Msg, error) {
	msgs, err := w.pull(ctx, 1, idlePull)
	if len(msgs) == 0 || err != nil || w.cfg.BatchMarksMax == 1 {
		return msgs, err
	}
	more, err := w.pull(ctx, w.cfg.BatchMarksMax-1, w.cfg.CollectFor)
	return append(msgs, more...), err
}

func (w *Worker) pull(ctx context.Context, most int, wait time.Duration) ([]jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	batch, err := w.consumer.Fetch(most, jetstream.FetchContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", streams.ReceiptsStream, err)
	}
	var msgs []jetstream.Msg
	for msg := range batch.Messages() {
		msgs = append(msgs, msg)
	}
	if err := batch.Error(); err != nil && ctx.Err() == nil {
		return msgs, fmt.Errorf("pull from %s: %w", streams.ReceiptsStream, err)
	}
	return msgs, nil
}
