package persist

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/workers/persist/fold"
	"parley/workers/store"
	"parley/workers/worker"
)

// Store is what persist writes to. Its methods may be called from several
// goroutines, one for each shard.
type Store interface {
	// Committed returns the shard's last committed sequence, 0 where nothing of
	// it was committed. It reflects every Commit that returned nil, of any process.
	Committed(ctx context.Context, shard string) (uint64, error)
	// Heads returns the heads of those of chats that have one. It reflects every
	// Commit that returned nil.
	Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error)
	// Commit writes the chats' events, then their heads, then the shard's row: a
	// reader that sees a head sees its events. Given again, in part or in another
	// order, batches leave the same rows. An error that is [store.ErrBatch] says
	// that the batch will never be taken; after any other it may be given again.
	Commit(ctx context.Context, b store.Batch) error
	fold.TargetStore
}

// Log reads single sequences of the chat streams from their leaders.
type Log interface {
	// Layout returns the shards as they are provisioned now: their number stays,
	// and one whose stream was lost and made anew is of another generation from then on.
	Layout() streams.Layout
	// Sequence returns the message at seq, or [streams.ErrGone] where the leader has none.
	Sequence(ctx context.Context, shard streams.Shard, seq uint64) (*jetstream.RawStreamMsg, error)
	// Bounds returns the lowest sequence that the stream still holds, and its last.
	Bounds(ctx context.Context, shard streams.Shard) (first, last uint64, err error)
}

// Config is what a [Persister] needs. Zero means the default.
type Config struct {
	JetStream jetstream.JetStream // required
	Log       Log                 // required
	Store     Store               // required

	worker.Runtime

	BatchEventsMax int           // events of one commit; default: 2,000
	WindowMin      time.Duration // how long a batch is collected at least, unless it is full; default: 100 ms
	WindowMax      time.Duration // how long while its oldest event is younger than that; default: 500 ms
	PollWithin     time.Duration // how long one pull waits for a first event; below half of PinnedTTL; default: 2 s
	HeadsMax       int           // heads of chats in memory, per shard; default: 20,000
	RetryMax       time.Duration // the longest wait before a failed step is tried again; default: 5 s
	StopWithin     time.Duration // how long the batch at hand may take when Run is to end; default: 10 s
}

func (c Config) withDefaults() Config {
	c.Runtime = worker.Defaults(c.Runtime)
	c.BatchEventsMax = cmp.Or(c.BatchEventsMax, 2000)
	c.WindowMin = cmp.Or(c.WindowMin, 100*time.Millisecond)
	c.WindowMax = cmp.Or(c.WindowMax, max(500*time.Millisecond, c.WindowMin))
	c.PollWithin = cmp.Or(c.PollWithin, 2*time.Second)
	c.HeadsMax = cmp.Or(c.HeadsMax, 20_000)
	c.RetryMax = cmp.Or(c.RetryMax, 5*time.Second)
	c.StopWithin = cmp.Or(c.StopWithin, 10*time.Second)
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	faults := worker.FaultsOf("persist")
	faults.If(c.JetStream == nil, "no JetStream")
	faults.If(c.Log == nil, "no log")
	faults.If(c.Store == nil, "no store")
	faults.If(c.BatchEventsMax < 2, "batches of %d events: at least 2", c.BatchEventsMax)
	faults.If(c.HeadsMax < c.BatchEventsMax, "%d heads: at least the %d events of a batch", c.HeadsMax, c.BatchEventsMax)
	faults.If(c.WindowMin < time.Millisecond || c.WindowMax < c.WindowMin, "window from %s to %s: from 1ms, rising", c.WindowMin, c.WindowMax)
	faults.If(c.PollWithin < 10*time.Millisecond, "polls within %s: at least 10ms", c.PollWithin)
	faults.If(c.RetryMax < 0 || c.StopWithin < 0, "negative retry %s or stop %s", c.RetryMax, c.StopWithin)
	return faults.Err()
}
