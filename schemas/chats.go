package schemas

import "time"

// Chats asks for a page of its sender's chats, those with the latest activity first.
type Chats struct {
	Cursor string  `json:"cursor,omitzero"`
	Limit  *uint64 `json:"limit,omitzero" jsonschema:"minimum=1"` // over the most that a page holds it is clamped
}

// ChatsPage answers a chats request.
type ChatsPage struct {
	T      Type       `json:"t" jsonschema:"enum=chats"`
	Ref    *uint64    `json:"ref,omitzero"`
	Chats  []ListChat `json:"chats"`
	Cursor string     `json:"cursor,omitzero"` // asks for what follows; absent at the end, and good for ten minutes
}

// ListChat is one chat of a user's list.
type ListChat struct {
	Chat    Chat   `json:"chat"`
	Name    string `json:"name,omitzero"`    // a group's
	Members uint64 `json:"members,omitzero"` // how many a group has
	Role    Role   `json:"role,omitzero"`    // the user's, in a group
	Last    Item   `json:"last"`
	Unread  uint64 `json:"unread"` // messages after the user's read mark
	Read    uint64 `json:"read"`   // the read mark: the seq up to which the user has read
	// The seq up to which a device of the user has it.
	Delivered uint64 `json:"delivered"`
	// Muted until then, or for good where there is no time.
	Muted      bool      `json:"muted,omitzero"`
	MutedUntil time.Time `json:"mutedUntil,omitzero"`
	Pinned     bool      `json:"pinned,omitzero"`
	Archived   bool      `json:"archived,omitzero"`
}

// Mute has a chat's messages not pushed to its sender, for good or until a time.
type Mute struct {
	Chat  Chat      `json:"chat"`
	On    bool      `json:"on"`
	Until time.Time `json:"until,omitzero"`
}

// SetChat pins a chat in its sender's list, or archives it.
type SetChat struct {
	Chat Chat `json:"chat"`
	On   bool `json:"on"`
}

// Block keeps a user from its sender: neither can send to the other.
type Block struct {
	User User `json:"user"`
	On   bool `json:"on"`
}

// ChatChange says what of a chat has changed for a user.
type ChatChange string

const (
	ChatAdded      ChatChange = "added" // live delivery begins at Seq
	ChatRemoved    ChatChange = "removed"
	ChatMuted      ChatChange = "muted"
	ChatUnmuted    ChatChange = "unmuted"
	ChatPinned     ChatChange = "pinned"
	ChatUnpinned   ChatChange = "unpinned"
	ChatArchived   ChatChange = "archived"
	ChatUnarchived ChatChange = "unarchived"
	ChatBlocked    ChatChange = "blocked"
	ChatUnblocked  ChatChange = "unblocked"
)

// What notices tell edges alone.
const (
	// ChatRead: the user has read up to Seq, which others are not told.
	ChatRead ChatChange = "read"
	// ChatPrivacy: what the user lets others see has changed, whatever the chat.
	ChatPrivacy ChatChange = "privacy"
)

// ChatFrame tells all sessions of a user what has changed of a chat for it.
type ChatFrame struct {
	T      Type       `json:"t" jsonschema:"enum=chat"`
	Chat   Chat       `json:"chat"`
	Change ChatChange `json:"change" jsonschema:"enum=added,enum=removed,enum=muted,enum=unmuted,enum=pinned,enum=unpinned,enum=archived,enum=unarchived,enum=blocked,enum=unblocked"`
	Seq    uint64     `json:"seq,omitzero"` // of the event by which its user came in or went out
	Until  time.Time  `json:"until,omitzero"`
}

// Profiles asks for what is known of users.
type Profiles struct {
	Users []User `json:"users" jsonschema:"minItems=1,maxItems=200"`
}

// SetProfile changes its sender's own profile; what is absent stays.
type SetProfile struct {
	Name   *string `json:"name,omitzero" jsonschema:"minLength=1,maxLength=128"`
	Avatar *string `json:"avatar,omitzero"` // the id of a file; empty for none
	Lang   *string `json:"lang,omitzero"`   // a language tag like pt-BR; empty for none
	// Whether others are told what the user has read; without it, the user is not
	// told what others have either.
	ReadReceipts *bool `json:"readReceipts,omitzero"`
}

// Profile is what a user tells of itself.
type Profile struct {
	User   User   `json:"user"`
	Name   string `json:"name,omitzero"`
	Avatar string `json:"avatar,omitzero"`
	Lang   string `json:"lang,omitzero"`
	// Told to the user alone: what it has chosen.
	ReadReceipts *bool  `json:"readReceipts,omitzero"`
	Status       Status `json:"status,omitzero" jsonschema:"enum=online,enum=away,enum=invisible"`
}

// ProfilesPage answers a profile request, in the order of the request; of who
// has told nothing there is the user alone.
type ProfilesPage struct {
	T        Type      `json:"t" jsonschema:"enum=profiles"`
	Ref      *uint64   `json:"ref,omitzero"`
	Profiles []Profile `json:"profiles"`
}
