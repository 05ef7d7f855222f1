// Package check compares the log with the permanent store, on a system that runs.
//
// It walks twice. Along the log, window by window: each event at or below a
// shard's committed row has its row in the store, with the same content, and the
// store has no row between them that the log has not ([Checker.walkLog]). Then
// along the store, chat by chat: prev, n and bucket of the rows follow from one to
// the next, and the chat's head is that of its last row ([Checker.walkChats]).
//
// What the log's edits, deletes, pins, reactions and changes of members make is
// folded on the way, and compared at its end with what is stored of it, where all
// that goes into it is in the log ([Checker.compareMade]).
//
// What disappears is gone from both: in a chat that had such messages, rows may be
// missing, and the chain has gaps that are no findings.
//
// What moves meanwhile is no difference. How far each shard is stored is read
// first, and what is above that counts as not yet stored. A row without an event
// is extra only where the log's beginning has not passed it. Whatever looks wrong
// in a chat is looked at a second time.
//
// A dead letter that was replayed has a row that was placed late: its n is that of
// the row before it, and the row after it has the prev that it had before
// (see Late in package fold). So a row with the n of the one before may be left out of
// the chain; nothing tells whether it was replayed or damaged to look like it.
//
// Memory is bounded: two windows of the log, a page for each reader, and the
// caches that say so.
package check

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/worker"
)

// Store is what a Checker reads.
type Store interface {
	// Committed returns the shard's last committed sequence, 0 where nothing of it was committed.
	Committed(ctx context.Context, shard string) (uint64, error)
	// Heads returns the heads of those of chats that have one.
	Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error)
	// Page returns the events of chat that r asks for, by rising seq.
	Page(ctx context.Context, chat schemas.Chat, r store.Range) (events []store.Event, more bool, err error)
	// Chats yields every chat that was there before, once, with its head.
	Chats(ctx context.Context) iter.Seq2[store.ChatHead, error]
	// Events returns the chat's rows at seqs, those that there are, by rising seq.
	Events(ctx context.Context, chat schemas.Chat, seqs []uint64) ([]store.Event, error)
	// Edits returns the edits of events, by rising target, then seq.
	Edits(ctx context.Context, chat schemas.Chat, of []store.Event) ([]store.Edit, error)
	// Reactions returns what is under events, by their seq; emojis by rising First.
	Reactions(ctx context.Context, chat schemas.Chat, of []store.Event) (map[uint64][]store.Reactions, error)
	// Members returns up to limit of a group's rows above after, by rising name.
	Members(ctx context.Context, chat schemas.Chat, after schemas.User, limit int) ([]store.Member, error)
}

// Log is what a Checker compares the store with.
type Log interface {
	// Span returns what the log holds from one sequence to another, and how far it goes.
	Span(ctx context.Context, shard streams.Shard, from, to uint64, limit, bytesMax int) (msgs []*jetstream.RawStreamMsg, upto uint64, err error)
	// Bounds returns the lowest sequence that the stream still holds, and its last.
	Bounds(ctx context.Context, shard streams.Shard) (first, last uint64, err error)
}

// Config is what a [Checker] needs. Zero means the default.
type Config struct {
	JetStream jetstream.JetStream // required: the dead letters
	Log       Log                 // required
	Layout    streams.Layout      // required
	Store     Store               // required

	Shards       []streams.Shard // default: all of the layout
	Deep         bool            // also the chains of all rows that are older than the log; default: only the log's range
	Readers      int             // reads of the store at once; default: 8
	FindingsMax  int             // findings that are kept of each shard, others are counted; default: 20
	WindowEvents int             // events of the log in memory, twice; default: 10,000
	WindowBytes  int             // and their bytes; default: 16 MiB
	RetryWithin  time.Duration   // how long a read that fails is tried again; default: 15 s
}

func (c Config) withDefaults() Config {
	if c.Shards == nil {
		c.Shards = c.Layout.All()
	}
	c.Readers = cmp.Or(c.Readers, 8)
	c.FindingsMax = cmp.Or(c.FindingsMax, 20)
	c.WindowEvents = cmp.Or(c.WindowEvents, 10_000)
	c.WindowBytes = cmp.Or(c.WindowBytes, 16<<20)
	c.RetryWithin = cmp.Or(c.RetryWithin, 15*time.Second)
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	faults := worker.FaultsOf("check")
	faults.If(c.JetStream == nil, "no JetStream")
	faults.If(c.Log == nil, "no log")
	faults.If(c.Store == nil, "no store")
	faults.If(c.Layout.Shards() == 0, "no layout")
	faults.If(c.Readers < 0, "%d readers: at least 1", c.Readers)
	faults.If(c.FindingsMax < 0, "%d findings: at least 1", c.FindingsMax)
	faults.If(c.WindowEvents < 0 || c.WindowBytes < 0, "windows of %d events and %d bytes: at least 1", c.WindowEvents, c.WindowBytes)
	faults.If(c.RetryWithin < 0, "negative time %s", c.RetryWithin)
	return faults.Err()
}

// Checker compares once.
type Checker struct {
	cfg     Config
	shards  map[streams.Shard]*shard
	letters letters
	lasts   lastSeqs

	done, total, chats, rows atomic.Uint64 // see Progress
}

// New returns a Checker; [Checker.Run] does the work.
func New(cfg Config) (*Checker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Checker{cfg: cfg.withDefaults(), shards: make(map[streams.Shard]*shard)}, nil
}

// Run compares log and store. Its error is that of the reading: differences are
// in the report.
func (c *Checker) Run(ctx context.Context) (*Report, error) {
	for _, s := range c.cfg.Shards {
		if err := c.begin(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := c.loadLetters(ctx); err != nil {
		return nil, err
	}
	for _, s := range c.cfg.Shards {
		if err := c.walkLog(ctx, c.shards[s]); err != nil {
			return nil, err
		}
		if err := c.compareMade(ctx, c.shards[s]); err != nil {
			return nil, err
		}
	}
	if err := c.walkChats(ctx); err != nil {
		return nil, err
	}
	report := &Report{}
	for _, s := range c.cfg.Shards {
		report.Shards = append(report.Shards, c.shards[s].report)
	}
	return report, nil
}

// shard is one shard as it was when Run began.
type shard struct {
	shard       streams.Shard
	first, last uint64 // of the log
	committed   uint64 // of the store; never above last
	report      *ShardReport
	badHeads    map[schemas.Chat]struct{} // those found along the log; at most badHeadsMax
	changes     changes                   // that the log makes, as far as it was walked
	groups      groups                    // the same
	reload      sync.Once                 // of the letters
}

// begin reads how far the shard is stored, and then how far its log goes: what
// is stored is in the log by then.
func (c *Checker) begin(ctx context.Context, of streams.Shard) error {
	committed, err := again(ctx, c.cfg.RetryWithin, func() (uint64, error) { return c.cfg.Store.Committed(ctx, of.Token) })
	if err != nil {
		return fmt.Errorf("read row of shard %s: %w", of.Token, err)
	}
	s := &shard{shard: of, committed: committed, badHeads: make(map[schemas.Chat]struct{}),
		changes: newChanges(), groups: newGroups()}
	s.report = &ShardReport{Shard: of.Token, findingsMax: c.cfg.FindingsMax}
	if s.first, s.last, err = c.bounds(ctx, of); err != nil {
		return err
	}
	if committed > s.last {
		s.report.add(Finding{Kind: Extra, Shard: of.Token, Seq: committed,
			Text: fmt.Sprintf("the store has the shard up to here and its log ends at %d: they do not belong together", s.last)})
		s.committed = s.last
	}
	from := max(s.first, s.committed+1)
	s.report.NotStored = s.last + 1 - min(from, s.last+1)
	s.report.Events = s.report.NotStored
	if s.first <= s.committed {
		c.total.Add(s.committed + 1 - s.first)
	}
	c.shards[of] = s
	return nil
}

func (c *Checker) bounds(ctx context.Context, of streams.Shard) (first, last uint64, err error) {
	bounds, err := again(ctx, c.cfg.RetryWithin, func() (bounds [2]uint64, err error) {
		bounds[0], bounds[1], err = c.cfg.Log.Bounds(ctx, of)
		return bounds, err
	})
	return bounds[0], bounds[1], err
}

// Progress is how far a [Checker] is.
type Progress struct {
	Done, Total uint64 // sequences of the log
	Chats       uint64 // along the store
	Rows        uint64 // of those chats
}

// Progress may be called while Run runs.
func (c *Checker) Progress() Progress {
	return Progress{Done: c.done.Load(), Total: c.total.Load(), Chats: c.chats.Load(), Rows: c.rows.Load()}
}

// again repeats a read until it succeeds or its time is over. It waits half a second at
// first: the workers use the same store.
func again[T any](ctx context.Context, within time.Duration, read func() (T, error)) (T, error) {
	return worker.Retry(ctx, backoff.NewExponentialBackOff(), within, read)
}
