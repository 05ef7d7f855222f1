package query

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/worker"
)

// Store is what history is read from. Its methods may be called from several goroutines.
type Store interface {
	// Head returns the head of chat; ok is false where nothing of it is stored. A
	// reader that sees a head finds all events up to its LastSeq by Page.
	Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error)
	// Page returns the events of chat that r asks for, by rising seq; more tells
	// that there are further ones in r's direction. State is at least as of the last
	// head that was read before.
	Page(ctx context.Context, chat schemas.Chat, r store.Range) (events []store.Event, more bool, err error)
	// Events returns the rows of chat at seqs, those that there are, by rising seq.
	Events(ctx context.Context, chat schemas.Chat, seqs []uint64) ([]store.Event, error)
	// Edits returns the edits of events of chat, by rising target, then seq.
	Edits(ctx context.Context, chat schemas.Chat, of []store.Event) ([]store.Edit, error)
	// Reactions returns what is under events of chat, by target, emojis by rising First.
	Reactions(ctx context.Context, chat schemas.Chat, of []store.Event) (map[uint64][]store.Reactions, error)
	// Reacted tells whether an emoji of user is under target, which is in bucket.
	Reacted(ctx context.Context, chat schemas.Chat, bucket int64, target uint64, emoji string, user schemas.User) (bool, error)
}

// Log is where the tail of a chat is read from, what is not stored yet.
type Log interface {
	// Layout returns the shards as they are provisioned now.
	Layout() streams.Layout
	// Last returns the highest seq of chat in the log, as its leader has it: all
	// that was acknowledged before the call counts.
	Last(ctx context.Context, chat schemas.Chat) (seq uint64, ok bool, err error)
	// After returns events of chat above after, rising, about as many as limit
	// and bytesMax allow. A replica that lags may answer: that an event is absent
	// proves nothing.
	After(ctx context.Context, chat schemas.Chat, after uint64, limit, bytesMax int) (events []schemas.StoredEvent, more bool, err error)
	// Sequence returns [streams.ErrGone] where the leader does not hold seq.
	Sequence(ctx context.Context, shard streams.Shard, seq uint64) (*jetstream.RawStreamMsg, error)
}

// Config is what a [Service] needs. Zero means the default.
type Config struct {
	Conn  *nats.Conn // required
	Log   Log        // required
	Store Store      // required

	worker.Runtime

	QueriesMax    int           // different questions that are answered at once: past it they are refused; default: 64
	WaitingMax    int           // requests that are answered at once, equal ones included: past it they are refused; default: 4,096
	QueryWithin   time.Duration // how long one question may take; default: 5 s
	CacheBytesMax int           // newest pages of active chats, in memory; default: 64 MiB
	CacheFor      time.Duration // how long one is used; far below the log's age limit; default: 1 min
	TailEventsMax int           // events of a chat that are not stored yet: past it a page is refused; default: 20,000
	StopWithin    time.Duration // how long questions at hand may take when Run is to end; default: 5 s
}

func (c Config) withDefaults() Config {
	c.Runtime = worker.Defaults(c.Runtime)
	c.QueriesMax = cmp.Or(c.QueriesMax, 64)
	c.WaitingMax = cmp.Or(c.WaitingMax, 4096)
	c.QueryWithin = cmp.Or(c.QueryWithin, 5*time.Second)
	c.CacheBytesMax = cmp.Or(c.CacheBytesMax, 64<<20)
	c.CacheFor = cmp.Or(c.CacheFor, time.Minute)
	c.TailEventsMax = cmp.Or(c.TailEventsMax, 20_000)
	c.StopWithin = cmp.Or(c.StopWithin, 5*time.Second)
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	faults := worker.FaultsOf("query")
	faults.If(c.Conn == nil, "no connection")
	faults.If(c.Log == nil, "no log")
	faults.If(c.Store == nil, "no store")
	faults.If(c.QueriesMax < 1 || c.WaitingMax < c.QueriesMax, "%d questions and %d requests at once: from 1, requests not below", c.QueriesMax, c.WaitingMax)
	faults.If(c.QueryWithin < 0 || c.StopWithin < 0 || c.CacheFor < 0, "negative time %s, %s or %s", c.QueryWithin, c.StopWithin, c.CacheFor)
	faults.If(c.CacheBytesMax < 1, "a cache of %d bytes", c.CacheBytesMax)
	faults.If(c.TailEventsMax < 1, "a tail of %d events: at least 1", c.TailEventsMax)
	return faults.Err()
}
