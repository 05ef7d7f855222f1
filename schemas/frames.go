package schemas

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Type is the member t of a frame.
type Type string

// Frames from a client.
const (
	THello   Type = "hello"
	TRenew   Type = "renew"
	TPing    Type = "ping"
	TSend    Type = "send"
	THistory Type = "history"
	TTyping  Type = "typing" // and to a client

	TDelivered Type = "delivered"
	TRead      Type = "read"
	TPresence  Type = "presence" // and to a client
	TWatch     Type = "watch"
	TUnwatch   Type = "unwatch"
)

// Frames from a client that a service answers: see [Ask].
const (
	TCreate     Type = "create"
	TAdd        Type = "add"
	TRemove     Type = "remove"
	TLeave      Type = "leave"
	TRole       Type = "role"
	TRename     Type = "rename"
	TMembers    Type = "members" // and to a client
	TChats      Type = "chats"   // and to a client
	TMute       Type = "mute"
	TPin        Type = "pin"
	TArchive    Type = "archive"
	TBlock      Type = "block"
	TProfile    Type = "profile"
	TSetProfile Type = "profile.set"
	TReceipts   Type = "receipts" // and to a client
	TStatus     Type = "status"
)

// Frames to a client.
const (
	TWelcome Type = "welcome"
	TResumed Type = "resumed"
	TResync  Type = "resync"
	TRenewed Type = "renewed"
	TPong    Type = "pong"
	TAck     Type = "ack"
	TEvent   Type = "event"
	TPage    Type = "page"
	TDone    Type = "done"
	TError   Type = "error"

	TCreated  Type = "created"
	TProfiles Type = "profiles"
	TChat     Type = "chat"
	TReceipt  Type = "receipt"
)

// Ref is the number by which a client finds the answer to its request: an
// integer from 0 to [SeqMax]. The zero Ref is absent.
type Ref struct {
	Value   uint64
	Present bool
}

// Frame is what a client sent: exactly one of the pointers is set, or none for a ping.
type Frame struct {
	T       Type
	Ref     Ref
	Hello   *Hello
	Renew   *Renew
	Send    *Send
	History *History
	Typing  *Typing
	Mark    *Mark  // delivered and read
	Users   *Users // presence, watch and unwatch
	Ask     *Ask
}

// Ask is a request that the edge hands on to a service, which answers it: JSON is
// one of [Create], [ChangeMembers], [Leave], [SetRole], [Rename], [Members],
// [Chats], [Mute], [SetChat], [Block], [Profiles], [SetProfile], [Receipts] and [SetStatus].
type Ask struct {
	JSON jsontext.Value
}

// Hello opens a session.
type Hello struct {
	Token  string `json:"token" jsonschema:"minLength=1"`
	Device ID     `json:"device,omitzero"`
	// Each chat that the client holds, with the highest seq it has of it; absent asks for no resume.
	Resume map[Chat]uint64 `json:"resume,omitempty"`
}

// Renew replaces the session's token by a later one of the same user.
type Renew struct {
	Token string `json:"token" jsonschema:"minLength=1"`
}

// Send says something in a chat. Which members belong to it depends on its type.
type Send struct {
	ID       ID             `json:"id"` // the client's own, the same at every try
	Chat     Chat           `json:"chat"`
	Type     EventType      `json:"type" jsonschema:"enum=message,enum=edit,enum=delete,enum=reaction,enum=pin"`
	Body     jsontext.Value `json:"body,omitzero"`                                        // of a message and an edit
	ReplyTo  uint64         `json:"replyTo,omitzero"`                                     // seq of the message it answers
	Thread   uint64         `json:"thread,omitzero"`                                      // seq of the thread's first message
	Mentions []string       `json:"mentions,omitempty" jsonschema:"maxItems=100"`         // users, or * alone for everybody
	TTL      *uint64        `json:"ttl,omitzero" jsonschema:"minimum=1,maximum=31536000"` // seconds after which the message disappears
	Target   uint64         `json:"target,omitzero"`                                      // of an edit, a delete, a reaction and a pin: seq of the message
	Emoji    string         `json:"emoji,omitzero" jsonschema:"maxLength=64"`             // of a reaction
	Remove   bool           `json:"remove,omitzero"`                                      // takes a reaction or a pin away
	Retry    bool           `json:"retry,omitzero"`                                       // look for an earlier try first
	After    uint64         `json:"after,omitzero"`                                       // where to look: above the last seq known at the first try
}

// Event is what of the send goes into the log.
func (s *Send) Event(from User) *Event {
	ev := &Event{Type: s.Type, ID: s.ID, From: from}
	switch s.Type {
	case Message:
		ev.Body, ev.ReplyTo, ev.Thread, ev.Mentions = s.Body, s.ReplyTo, s.Thread, s.Mentions
		if s.TTL != nil {
			ev.TTL = *s.TTL
		}
	case Edit:
		ev.Target, ev.Body = s.Target, s.Body
	case Delete:
		ev.Target = s.Target
	case React:
		ev.Target, ev.Emoji, ev.Remove = s.Target, s.Emoji, s.Remove
	case Pin:
		ev.Target, ev.Remove = s.Target, s.Remove
	}
	return ev
}

// History asks for a page of a chat: the newest, the newest below Before, or
// the oldest above After.
type History struct {
	Chat   Chat    `json:"chat"`
	Before *uint64 `json:"before,omitzero"`
	After  *uint64 `json:"after,omitzero"`
	Limit  *int64  `json:"limit,omitzero" jsonschema:"minimum=1"` // over the most that a page holds it is clamped
	Raw    bool    `json:"raw,omitzero"`                          // with what edited messages said before, as far as the asker may see it
}

// Typing tells the other members of a chat that its sender is typing.
type Typing struct {
	Chat Chat `json:"chat"`
}

// Welcome answers a hello.
type Welcome struct {
	T            Type      `json:"t" jsonschema:"enum=welcome"`
	User         User      `json:"user"`
	Session      ID        `json:"session"`
	Node         ID        `json:"node"`
	Heartbeat    int       `json:"heartbeat"` // seconds
	BodyBytesMax int       `json:"bodyBytesMax"`
	Now          time.Time `json:"now"`
	Expires      time.Time `json:"expires"` // the token's
}

// Resumed ends a resume: Chats had something that came as events; those under
// Reset got nothing and are to be read anew.
type Resumed struct {
	T     Type        `json:"t" jsonschema:"enum=resumed"`
	Chats int         `json:"chats"`
	Reset []ResetChat `json:"reset"`
}

// ResetChat names a chat that could not be resumed, and why.
type ResetChat struct {
	Chat   Chat        `json:"chat"`
	Reason ResetReason `json:"reason" jsonschema:"enum=gap,enum=not_member,enum=ahead"`
}

// ResetReason says why a chat was not resumed.
type ResetReason string

const (
	ResetGap       ResetReason = "gap"        // more than a resume sends: read the newest page
	ResetNotMember ResetReason = "not_member" // not, or no longer, a member
	ResetAhead     ResetReason = "ahead"      // the seq is above the chat's last
)

// Resync tells that the edge may have missed something: the client does what it does after a welcome.
type Resync struct {
	T Type `json:"t" jsonschema:"enum=resync"`
}

// Pong answers a ping.
type Pong struct {
	T   Type    `json:"t" jsonschema:"enum=pong"`
	Ref *uint64 `json:"ref,omitzero"`
}

// Renewed answers a renew.
type Renewed struct {
	T       Type      `json:"t" jsonschema:"enum=renewed"`
	Ref     *uint64   `json:"ref,omitzero"`
	Expires time.Time `json:"expires"`
}

// Ack answers a send: the log has it. Time is the edge's clock.
type Ack struct {
	T         Type      `json:"t" jsonschema:"enum=ack"`
	Ref       *uint64   `json:"ref,omitzero"`
	ID        ID        `json:"id"`
	Chat      Chat      `json:"chat"`
	Seq       uint64    `json:"seq"`
	Time      time.Time `json:"time"`
	Duplicate bool      `json:"duplicate,omitzero"`
}

// LiveEvent brings one event of a chat.
type LiveEvent struct {
	T     Type      `json:"t" jsonschema:"enum=event"`
	Chat  Chat      `json:"chat"`
	Seq   uint64    `json:"seq"`
	Prev  uint64    `json:"prev"`
	Time  time.Time `json:"time"`
	Event Event     `json:"event"`
}

// Page answers a history request: Events by rising seq; More tells whether
// there are further ones in the direction that was asked.
type Page struct {
	T      Type    `json:"t" jsonschema:"enum=page"`
	Ref    *uint64 `json:"ref,omitzero"`
	Chat   Chat    `json:"chat"`
	Events []Item  `json:"events"`
	More   bool    `json:"more"`
}

// TypingFrame tells that a user is typing.
type TypingFrame struct {
	T    Type `json:"t" jsonschema:"enum=typing"`
	Chat Chat `json:"chat"`
	User User `json:"user"`
}

// Done answers a request that has nothing else to say. A change of a group tells
// the chat, and the seq by which the group is as it was asked for.
type Done struct {
	T    Type    `json:"t" jsonschema:"enum=done"`
	Ref  *uint64 `json:"ref,omitzero"`
	Chat Chat    `json:"chat,omitzero"`
	Seq  uint64  `json:"seq,omitzero"`
}

// ErrorFrame refuses a frame. ID is that of the send it answers.
type ErrorFrame struct {
	T   Type    `json:"t" jsonschema:"enum=error"`
	Ref *uint64 `json:"ref,omitzero"`
	ID  string  `json:"id,omitzero"`
	Error
}

// DrainReason is the text of a close with [CloseDraining]: resume after Delay milliseconds.
type DrainReason struct {
	Delay int64 `json:"delay"`
}
