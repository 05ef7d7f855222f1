package store

import (
	"time"

	"parley/schemas"
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
	Expires time.Time // when the row disappears, an edit's with its target's; zero: never
	State   State     // what changes made of it; a commit writes it by Changes alone
}

// Shown is the event's JSON with its current body.
func (e *Event) Shown() ([]byte, error) {
	if e.State.Edited == 0 || e.State.Deleted != 0 {
		return e.JSON, nil
	}
	return schemas.WithBody(e.JSON, e.State.Body)
}

// State is what later events made of one. Each of its fields is written by
// events in the order of their seqs, whatever the order of the commits.
type State struct {
	Edited  uint64 // seq of the last edit, 0 without one
	Body    []byte // JSON, the last edit's
	Deleted uint64 // seq of the delete that took it back, 0 without one
	Pinned  bool
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
	// Delivered is what a device of the user has; what was read may be beyond it.
	Delivered uint64
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
	// Disappearing tells that there were events that disappear: rows before the last
	// one may be missing, and those of Bucket be fewer.
	Disappearing bool

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
