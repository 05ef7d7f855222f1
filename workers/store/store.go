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

// ErrSchemaNewer says that a newer Parley migrated the store: this binary does not know its tables.
var ErrSchemaNewer = errors.New("the store's schema is newer than this binary")

// Event is a row of table events.
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

// Bucket is a row of table buckets: FirstSeq is the seq of its first event.
type Bucket struct {
	Bucket   int64
	FirstSeq uint64
}

// ChatBatch is what one commit adds to one chat. Head is the chat's head after
// Events; Buckets are those that Events open. Opened tells that the chat had no
// event before: for a direct chat the store then writes its users' rows in chats_by_user.
type ChatBatch struct {
	Chat    schemas.Chat
	Events  []Event // rising seq
	Buckets []Bucket
	Head    Head
	Opened  bool
}

// Batch is one commit of a shard: the events from the last commit up to Committed.
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
