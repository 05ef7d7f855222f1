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

// Event is a row of table events. Time keeps its nanoseconds and comes back in UTC.
type Event struct {
	Bucket  int64
	Seq     uint64
	Prev    uint64 // the seq before it in the chat, 0 for the first
	N       uint64 // messages of the chat up to and including this event
	Time    time.Time
	Type    schemas.EventType
	Author  schemas.User
	ID      schemas.ID
	JSON    []byte    // as the log has it; blank where the event, or what it edits, was deleted
	Expires time.Time // when the row disappears; zero: never
	State   State     // what changes made of it; a commit writes it by Changes alone
}

// State is what later events made of one. Each of its fields is written by
// events in the order of their seqs, whatever the order of the commits.
type State struct {
	Edited  uint64 // seq of the last edit, 0 without one
	Body    []byte // JSON, the last edit's
	Deleted uint64 // seq of the delete that took it back, 0 without one
	Pinned  bool
}

// Change is what an event does to rows of earlier ones: Type is [schemas.Edit],
// [schemas.Delete], [schemas.React] or [schemas.Pin]. Seq is the event's and the
// stamp of what it writes. Bucket and Expires are those of the target's row,
// which was stored before or is in the same batch.
type Change struct {
	Type    schemas.EventType
	Seq     uint64
	Target  uint64
	Bucket  int64
	Expires time.Time

	// Edit: the target's body from now on, and a row of table edits.
	Body []byte
	Time time.Time // the edit's
	// Delete: the rows that lose their content. The first is the target's own, the
	// others are those of its edits, whose rows in table edits are emptied too.
	Blanks []Blank
	// React: one user's emoji, there or not.
	Emoji string
	User  schemas.User
	// React and Pin.
	On bool
}

// Blank is the JSON that an event's row has once its content was deleted.
type Blank struct {
	Seq    uint64
	Bucket int64
	JSON   []byte
}

// Edit is a row of table edits: that the event Seq gave its target a body.
type Edit struct {
	Target uint64
	Seq    uint64
	Time   time.Time
	Body   []byte // empty where the target was deleted
}

// Reactions are one emoji's under an event.
type Reactions struct {
	Emoji string
	First uint64 // seq of the earliest that is there
	Count int
	Users []schemas.User // the earliest, at most schemas.ReactionUsersMax
}

// Role is a change of what a user is in a chat: the row of table members_by_chat
// (of a group) and that of chats_by_user (of any chat). Seq is its stamp.
type Role struct {
	User schemas.User
	Role schemas.Role
	Seq  uint64
	// Where the user comes into the chat, Seq is since when, From where what it may
	// read begins, and N the messages that count as read. Else what is there stays.
	Joins bool
	From  uint64
	N     uint64
}

// Read is a user's read mark in a chat: the row of table chats_by_user. It only rises.
type Read struct {
	User schemas.User
	Seq  uint64
	N    uint64 // messages up to the mark
}

// Member is a row of table members_by_chat.
type Member struct {
	User  schemas.User
	Role  schemas.Role // schemas.Left too
	Since uint64       // seq of the event by which the user came in last
	From  uint64       // what it may read begins here; 0: at the beginning
}

// UserChat is a row of table chats_by_user.
type UserChat struct {
	Chat  schemas.Chat
	Role  schemas.Role // schemas.Left too
	Since uint64
	From  uint64
	Read  uint64 // the read mark
	ReadN uint64 // messages up to it
}

// Setting is a row of table settings: what a user wants of a chat. Its stamp is a
// time, for which the later one of two that set it wins.
type Setting struct {
	Chat       schemas.Chat
	Muted      bool
	MutedUntil time.Time // zero: for good
	Pinned     bool
	Archived   bool
}

// SettingKind names what of a [Setting] is set: each has a stamp of its own.
type SettingKind string

const (
	MutedSetting    SettingKind = "muted"
	PinnedSetting   SettingKind = "pinned"
	ArchivedSetting SettingKind = "archived"
)

// Profile is a row of table users. Each field has a stamp of its own, a time.
type Profile struct {
	User               schemas.User
	Name, Avatar, Lang string
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

	// Of a group.
	Name    string
	Members uint64
	History schemas.HistoryMode
}

// Summary is a head with the chat's last event, as a list of chats shows it.
type Summary struct {
	Head
	Last    []byte    // JSON, shortened as schemas.CutEvent does
	Cut     bool      // it was
	Prev    uint64    // the last event's
	Expires time.Time // when the last event disappears; zero: never
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
// among them. Opened tells that the chat had no event before. Changes, Roles and
// Reads are by rising seq, and of at most one read mark a user.
type ChatBatch struct {
	Chat    schemas.Chat
	Events  []Event // rising seq
	Buckets []Bucket
	Changes []Change
	Roles   []Role
	Reads   []Read
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
