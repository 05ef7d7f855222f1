// Package store names the rows of Parley's permanent store and the bounds of
// its partitions. The stores themselves are in folders below; the interfaces
// are declared by the workers that use them, and storetest holds the contract
// that every store passes.
//
// What is written carries the seq of the event that made it as its stamp, and a
// write with a lower stamp changes nothing: redelivery, replays and stale workers
// are harmless.
package store

import (
	"errors"

	"parley/schemas"
)

// A bucket is closed at either bound: a partition cannot outgrow it.
const (
	BucketEventsMax = 16_384
	BucketBytesMax  = 64 << 20
)

// Bounds of what one read returns.
const (
	// SettingsMax is how many chats of a user Settings returns, by rising name;
	// what is beyond stays at its defaults.
	SettingsMax = 10_000
	// BlocksMax is how many users Blocks returns, by rising name; with those
	// beyond a user does talk.
	BlocksMax = 10_000
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

// Range asks for a page of a chat: with After the oldest above it, else the
// newest below Before; Before 0 means no bound. Limit is in events and at least 1.
// A page ends before the event that would take its JSON and bodies past
// [schemas.PageBytesMax], but holds at least one event if there is one. Who has read
// the chat's head before tells it, which can save the store a read: what came after
// it may be left out then.
type Range struct {
	Before  uint64
	After   uint64
	Forward bool // read from After upwards; else from Before downwards
	Limit   int
	Head    *Head // nil: not known
}

// AnyKind is no kind of chat: where one is asked for, it leaves out none.
const AnyKind schemas.ChatKind = ""

// NamesOf returns the first name that a chat of a kind could have, and the first
// one beyond them, as table chats_by_user orders them.
func NamesOf(kind schemas.ChatKind) (first, beyond string) {
	if kind == AnyKind {
		return "", "\x7f"
	}
	return string(kind) + ".", string(kind) + "/"
}
