// Package rebuild applies the log to the permanent store again: the command `parley rebuild`.
//
// It uses persist's own fold. For each chat it begins with the head that the chat had
// before the log's first event. It reads down: [Rebuilder.Run], begin, run, decode, apply, loadBases, findBase.
package rebuild

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
	"parley/workers/persist"
	"parley/workers/store"
	"parley/workers/worker"
)

// Store is the store that a [Rebuilder] writes to.
type Store interface {
	persist.Store
	// Page returns the events of chat that r asks for, by rising seq.
	Page(ctx context.Context, chat schemas.Chat, r store.Range) (events []store.Event, more bool, err error)
}

// Log is the log that a [Rebuilder] applies again.
type Log interface {
	// Span returns what the log holds from one sequence to another, and how far it goes.
	Span(ctx context.Context, shard streams.Shard, from, to uint64, limit, bytesMax int) (msgs []*jetstream.RawStreamMsg, upto uint64, err error)
	// Bounds returns the lowest sequence that the stream still holds, and its last.
	Bounds(ctx context.Context, shard streams.Shard) (first, last uint64, err error)
}

// Config is what a [Rebuilder] needs. Zero means the default.
type Config struct {
	JetStream jetstream.JetStream // required
	Log       Log                 // required
	Layout    streams.Layout      // required
	Store     Store               // required

	Shards         []streams.Shard // default: all of the layout
	ShardsAtOnce   int             // default: 8
	Readers        int             // reads of the store at once, per shard; default: 4
	BatchEventsMax int             // events of one commit; default: 2,000
	BatchBytesMax  int             // and about their bytes; default: 4 MiB
	HeadsMax       int             // heads of chats in memory, per shard; default: 100,000
	OwnedWithin    time.Duration   // how long the pin of a worker that has ended is waited for; default: PinnedTTL and 2 s
	RetryWithin    time.Duration   // how long a step that fails is tried again; default: 15 s
}

func (c Config) withDefaults() Config {
	if c.Shards == nil {
		c.Shards = c.Layout.All()
	}
	c.ShardsAtOnce = cmp.Or(c.ShardsAtOnce, 8)
	c.Readers = cmp.Or(c.Readers, 4)
	c.BatchEventsMax = cmp.Or(c.BatchEventsMax, 2000)
	c.BatchBytesMax = cmp.Or(c.BatchBytesMax, 4<<20)
	c.HeadsMax = cmp.Or(c.HeadsMax, 100_000)
	c.OwnedWithin = cmp.Or(c.OwnedWithin, streams.PinnedTTL+2*time.Second)
	c.RetryWithin = cmp.Or(c.RetryWithin, 15*time.Second)
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	faults := worker.FaultsOf("rebuild")
	faults.If(c.JetStream == nil, "no JetStream")
	faults.If(c.Log == nil, "no log")
	faults.If(c.Store == nil, "no store")
	faults.If(c.Layout.Shards() == 0, "no layout")
	faults.If(c.ShardsAtOnce < 1 || c.Readers < 1, "%d shards at once with %d readers: at least 1", c.ShardsAtOnce, c.Readers)
	faults.If(c.BatchEventsMax < 1 || c.BatchBytesMax < 1, "batches of %d events and %d bytes: at least 1", c.BatchEventsMax, c.BatchBytesMax)
	faults.If(c.HeadsMax < c.BatchEventsMax, "%d heads: at least the %d events of a batch", c.HeadsMax, c.BatchEventsMax)
	faults.If(c.OwnedWithin < 0 || c.RetryWithin < 0, "negative time %s or %s", c.OwnedWithin, c.RetryWithin)
	return faults.Err()
}

// Errors of [Rebuilder.Run] by which a caller tells what to do.
var (
	// ErrOwned says that a worker persists one of the shards.
	ErrOwned = errors.New("stop all workers (`parley worker`, `parley dev`) and run it again")
	// ErrBeyondLog says that the store cannot be repaired from the log.
	ErrBeyondLog = errors.New("the log alone cannot repair this: restore the store from a backup, or rebuild into an empty one")
)

// Rebuilder applies the log to a store that is empty or damaged, as persist did:
// with the same fold, so that rows get the n, prev and bucket that they had. What
// a chat's log begins with goes on from the rows that are older than the log; on
// those it changes nothing.
//
// It applies all that the log has when it begins, and may be stopped and run again
// at any time: rows carry their seq as stamp, so the second run writes the same
// over the first. The shard's row rises with it where it is behind. Nothing is
// deleted: a row that the log does not have stays.
//
// A replayed dead letter is in the log like any other event, and nothing tells
// that it was not counted when it was: it is counted now, and n of the messages
// behind it is one higher than before.
type Rebuilder struct {
	cfg Config

	done, total, events, buried atomic.Uint64
}

// New returns a Rebuilder; [Rebuilder.Run] does the work.
func New(cfg Config) (*Rebuilder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Rebuilder{cfg: cfg.withDefaults()}, nil
}

// Progress is how far a [Rebuilder] is.
type Progress struct {
	Done, Total uint64 // sequences of the log
	Events      uint64 // that were written
	Buried      uint64 // that went to the stream DEAD
}

// Progress may be called while Run runs, and after.
func (r *Rebuilder) Progress() Progress {
	return Progress{Done: r.done.Load(), Total: r.total.Load(), Events: r.events.Load(), Buried: r.buried.Load()}
}

// Run rebuilds all shards, and returns [ErrOwned] before it has written anything
// where a worker owns one of them.
func (r *Rebuilder) Run(ctx context.Context) error {
	letters, err := r.letters(ctx)
	if err != nil {
		return err
	}
	var shards []*shard
	for _, of := range r.cfg.Shards {
		s := newShard(r, of, letters[of.Stream()])
		if err := s.begin(ctx); err != nil {
			return err
		}
		shards = append(shards, s)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.cfg.ShardsAtOnce)
	for _, s := range shards {
		group.Go(func() error { return s.run(ctx) })
	}
	return group.Wait()
}

// letters are the sequences that persist gave up on, by stream. They are not
// applied: whoever replays them does. The stream DEAD bounds them by its bytes.
func (r *Rebuilder) letters(ctx context.Context) (map[string]map[uint64]struct{}, error) {
	letters := make(map[string]map[uint64]struct{})
	for l, err := range dead.List(ctx, r.cfg.JetStream, streams.PersistConsumer) {
		if err != nil && l.ID == 0 {
			return nil, err
		}
		if err != nil {
			continue // malformed, and so none of persist's
		}
		if letters[l.Stream] == nil {
			letters[l.Stream] = make(map[uint64]struct{})
		}
		letters[l.Stream][l.Seq] = struct{}{}
	}
	return letters, nil
}
