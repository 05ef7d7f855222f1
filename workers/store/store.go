// Package store names the rows of Parley's permanent store and the bounds of
// its partitions. The stores themselves are in folders below; the interfaces
// are declared by the workers that use them, and storetest holds the contract
// that every store passes.
//
// Every row carries the seq that last wrote it as its stamp, and a write with a
// lower stamp changes nothing: redelivery, replays and stale workers are
// harmless in any order.
package store

import (
	"errors"
	"time"

	"parley/schemas"
)

// A bucket is closed at either bound: a partition cannot outgrow it.
const (
	BucketEventsMax = 16_384
	BucketBytesMax  = 64 << 20
)

// What a store answers besides the error of a context that ended. Every other
// error of a store is one of these two: a caller waits and tries again, or sets
// the batch aside.
var (
	// ErrUnavailable says that the store could not serve now: disk full, locked,
	// an I/O error, closed. Nothing of the call was taken, or its outcome is
	// unknown; the same call may succeed later, and a batch may be given again.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrBatch says that this batch can never be stored: it breaks a rule that
	// [Batch.Validate] names, or a bound of the store. Nothing of it was taken.
	ErrBatch = errors.New("the batch cannot be stored")
)

// What a store answers to a check of its schema, before it serves.
var (
	// ErrSchemaNewer says that a newer Parley migrated the store: this binary does not know its tables.
	ErrSchemaNewer = errors.New("the store's schema is newer than this binary")
	// ErrSchemaOlder says that migrations of this binary were not applied yet.
	ErrSchemaOlder = errors.New("the store's schema is older than this binary")
	// ErrSchemaChanged says that a migration was applied whose text is not the one this binary has.
	ErrSchemaChanged = errors.New("the store's schema is another than this binary's")
)

// RoleMember is the role of both users of a direct chat in table chats_by_user.
const RoleMember = "member"

// Event is a row of table events. Time keeps its nanoseconds and comes back in UTC.
type Event struct {
	Bucket int64
	Seq    uint64
	Prev   uint64 // the seq before it in the chat, 0 for the first
	N      uint64 // messages of the chat up to and including this event
	Time   time.Time
	Type   schemas.EventType
	Author schemas.User
	ID     schemas.ID
	JSON   []byte // as the log has it
}

// Head is a row of table chats: what the fold of a chat's log needs to go on.
// The zero Head is that of a chat without events.
type Head struct {
	Created      time.Time
	LastSeq      uint64
	LastN        uint64
	LastTime     time.Time
	Bucket       int64
	BucketEvents int64 // events in Bucket
	BucketBytes  int64 // bytes of their JSON
}

// ChatHead is a row of table chats with its key.
type ChatHead struct {
	Chat schemas.Chat
	Head Head
}

// Bucket is a row of table buckets: FirstSeq is the seq of its first event.
type Bucket struct {
	Bucket   int64
	FirstSeq uint64
}

// ChatBatch is what one commit adds to one chat, at least one event. Head is the
// chat's head after Events; Buckets are those that Events open, the chat's first
// among them. Opened tells that the chat had no event before: for a direct chat
// the store then writes its users' rows in chats_by_user, with the role
// [RoleMember] since the first of Events.
type ChatBatch struct {
	Chat    schemas.Chat
	Events  []Event // rising seq
	Buckets []Bucket
	Head    Head
	Opened  bool
}

// Batch is one commit of a shard: the events from the last commit up to Committed.
// Chats may be empty, where a shard moves on without events. Whoever gave a batch
// to a store does not change it afterwards: a commit whose context ended may
// still be under way.
type Batch struct {
	Shard     string
	Committed uint64
	Chats     []ChatBatch
}

// Range asks for a page of a chat: with After the oldest above it, else the
// newest below Before; Before 0 means no bound. Limit is in events and at least 1.
// A page ends before the event that would take its JSON past [schemas.PageBytesMax],
// but holds at least one event if there is one.
type Range struct {
	Before  uint64
	After   uint64
	Forward bool // read from After upwards; else from Before downwards
	Limit   int
}
