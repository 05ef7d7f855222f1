package store

import (
	"time"

	"parley/schemas"
)

// ChatBatch is what one commit adds to one chat, at least one event. Head is the
// chat's head after Events; Buckets are those that Events open, the chat's first
// among them. Opened tells that the chat had no event before. Changes and Roles are
// by rising seq, which are those of Events; Reads name a user once.
//
// All of it may be given again, in any order with later batches, once it was given
// in order: what it writes is held back by what came after. Without Changes and
// Roles the first time may come in any order too.
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

// Rows counts what b writes, about.
func (b *Batch) Rows() (n int) {
	for i := range b.Chats {
		c := &b.Chats[i]
		n += len(c.Events) + 2*len(c.Changes) + 3*len(c.Roles) + len(c.Reads)
		for j := range c.Changes {
			n += len(c.Changes[j].Blanks)
		}
	}
	return n
}

// Last returns the last event as [Summary] has it. One whose JSON cannot be
// shortened is left out.
func (c *ChatBatch) Last() (event []byte, cut bool) {
	event, cut, err := schemas.CutEvent(c.Events[len(c.Events)-1].JSON)
	if err != nil {
		return nil, true
	}
	return event, cut
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
	// An edit's row disappears with its target's, at Expires.
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

// Role is a change of what a user is in a chat: the row of table members_by_chat
// (of a group) and that of chats_by_user (of any chat). Seq is its stamp.
type Role struct {
	User schemas.User
	Role schemas.Role
	Seq  uint64
	// Where the user comes into the chat, Seq is since when, and From where what it
	// may read begins. Else what is there stays.
	Joins bool
	From  uint64
}

// Read is a user's read mark in a chat: the row of table chats_by_user. It only rises.
type Read struct {
	User schemas.User
	Seq  uint64
	N    uint64 // messages up to the mark
}
