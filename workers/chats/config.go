package chats

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

// Store is what the service asks of the permanent store, by the part of the service that
// asks. Its methods may be called from several goroutines. A reader that sees a shard's
// committed sequence sees everything up to it.
type Store interface {
	GroupReader
	ListReader
	ReceiptReader
	SettingKeeper
}

// GroupReader reads groups.
type GroupReader interface {
	// Committed returns the shard's last committed sequence, 0 where nothing of it was committed.
	Committed(ctx context.Context, shard string) (uint64, error)
	// Heads returns the heads of those of chats that have one.
	Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error)
	// Members returns those who are or were in a group, by rising name above after.
	Members(ctx context.Context, chat schemas.Chat, after schemas.User, limit int) ([]store.Member, error)
}

// ListReader reads the chats of a user.
type ListReader interface {
	// Shards returns the last committed sequence of every shard, by token.
	Shards(ctx context.Context) (map[string]uint64, error)
	// UserChats returns the chats of a kind that a user is in, or of any, at most limit.
	UserChats(ctx context.Context, user schemas.User, kind schemas.ChatKind, limit int) ([]store.UserChat, error)
	// Summaries returns heads with the chats' last events.
	Summaries(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Summary, error)
	// Page returns the events of chat that r asks for, by rising seq.
	Page(ctx context.Context, chat schemas.Chat, r store.Range) (events []store.Event, more bool, err error)
}

// ReceiptReader reads how far the members of a chat are, and what limits who may know.
type ReceiptReader interface {
	// Receipts returns what is told of how far users have got in a chat, of those of
	// whom anything is.
	Receipts(ctx context.Context, chat schemas.Chat, users []schemas.User) (map[schemas.User]store.Receipt, error)
	// Profiles returns what is known of those of users of whom anything is.
	Profiles(ctx context.Context, users []schemas.User) (map[schemas.User]store.Profile, error)
	// Blocks returns whom a user blocks and who blocks it, once each, by rising name.
	Blocks(ctx context.Context, user schemas.User) ([]schemas.User, error)
}

// SettingKeeper keeps the settings of a user's chats.
type SettingKeeper interface {
	// Settings returns what a user wants of chats, of those of which it wants anything.
	Settings(ctx context.Context, user schemas.User) (map[schemas.Chat]store.Setting, error)
	// Set changes one setting; of two, the later at wins.
	Set(ctx context.Context, user schemas.User, setting store.Setting, kind store.SettingKind, at time.Time) error
}

// Log is where the ends of chats are read.
type Log interface {
	// Layout returns the shards as they are provisioned now.
	Layout() streams.Layout
	// Last returns the highest seq of chat in the log, as its leader has it.
	Last(ctx context.Context, chat schemas.Chat) (seq uint64, ok bool, err error)
	// LastEvents returns the last event of each of chats that the log holds anything of.
	LastEvents(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]schemas.StoredEvent, error)
	// After returns events of chat above after, rising, about as many as limit and bytesMax allow.
	After(ctx context.Context, chat schemas.Chat, after uint64, limit, bytesMax int) (events []schemas.StoredEvent, more bool, err error)
	// Sequence returns [streams.ErrGone] where the leader does not hold seq.
	Sequence(ctx context.Context, shard streams.Shard, seq uint64) (*jetstream.RawStreamMsg, error)
}

// Publisher publishes to the log: a [streams.Publisher].
type Publisher interface {
	Publish(ctx context.Context, pub streams.Publication)
}

// Config is what a [Service] needs. Zero means the default.
type Config struct {
	Conn      *nats.Conn // required
	Log       Log        // required
	Publisher Publisher  // required
	Store     Store      // required

	worker.Runtime

	CacheMembersMax int           // members of groups in memory, all together; default: 500,000
	CacheFor        time.Duration // how long a group is used that nobody asked for; far below the log's age limit; default: 1 min
	TriesMax        int           // how often a change is tried against others; default: 10
}

func (c Config) withDefaults() Config {
	c.Runtime = worker.Defaults(c.Runtime)
	c.CacheMembersMax = cmp.Or(c.CacheMembersMax, 500_000)
	c.CacheFor = cmp.Or(c.CacheFor, time.Minute)
	c.TriesMax = cmp.Or(c.TriesMax, 10)
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	faults := worker.FaultsOf("chats")
	faults.If(c.Conn == nil, "no connection")
	faults.If(c.Log == nil, "no log")
	faults.If(c.Publisher == nil, "no publisher")
	faults.If(c.Store == nil, "no store")
	faults.If(c.CacheMembersMax < 1 || c.CacheFor < 0, "a cache of %d members for %s", c.CacheMembersMax, c.CacheFor)
	faults.If(c.TriesMax < 1, "%d tries: at least 1", c.TriesMax)
	return faults.Err()
}
