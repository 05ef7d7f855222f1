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
}

// Hello opens a session. Resume maps each chat that the client holds to the
// highest seq it has of it; nil asks for no resume.
type Hello struct {
	Token  string          `json:"token" jsonschema:"required"`
	Device ID              `json:"device,omitzero"`
	Resume map[Chat]uint64 `json:"resume,omitempty" jsonschema:"maxProperties=200"`
}

// Renew replaces the session's token by a later one of the same user.
type Renew struct {
	Token string `json:"token" jsonschema:"required"`
}

// Send says something in a chat. With Retry the edge first looks in the chat's
// log after the seq After for an earlier try of the same ID.
type Send struct {
	ID       ID             `json:"id" jsonschema:"required"`
	Chat     Chat           `json:"chat" jsonschema:"required"`
	Type     EventType      `json:"type" jsonschema:"required,enum=message"`
	Body     jsontext.Value `json:"body" jsonschema:"required"`
	ReplyTo  uint64         `json:"replyTo,omitzero"`
	Thread   uint64         `json:"thread,omitzero"`
	Mentions []string       `json:"mentions,omitempty" jsonschema:"maxItems=100"`
	TTL      jsontext.Value `json:"ttl,omitzero" jsonschema:"-"`
	Retry    bool           `json:"retry,omitzero"`
	After    uint64         `json:"after,omitzero"`
}

// History asks for a page of a chat: the newest, the newest below Before, or
// the oldest above After. Limit is at least 1; over [PageEventsMax] it is clamped.
type History struct {
	Chat   Chat    `json:"chat" jsonschema:"required"`
	Before *uint64 `json:"before,omitzero"`
	After  *uint64 `json:"after,omitzero"`
	Limit  *int64  `json:"limit,omitzero"`
}

// Typing tells the other members of a chat that its sender is typing.
type Typing struct {
	Chat Chat `json:"chat" jsonschema:"required"`
}

// Welcome answers a hello. Heartbeat is in seconds.
type Welcome struct {
	T            Type      `json:"t" jsonschema:"enum=welcome"`
	User         User      `json:"user"`
	Session      ID        `json:"session"`
	Node         ID        `json:"node"`
	Heartbeat    int       `json:"heartbeat"`
	BodyBytesMax int       `json:"bodyBytesMax"`
	Now          time.Time `json:"now"`
	Expires      time.Time `json:"expires"`
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
	T      Type          `json:"t" jsonschema:"enum=page"`
	Ref    *uint64       `json:"ref,omitzero"`
	Chat   Chat          `json:"chat"`
	Events []StoredEvent `json:"events"`
	More   bool          `json:"more"`
}

// TypingFrame tells that a user is typing.
type TypingFrame struct {
	T    Type `json:"t" jsonschema:"enum=typing"`
	Chat Chat `json:"chat"`
	User User `json:"user"`
}

// Done answers a request that has nothing else to say.
type Done struct {
	T   Type    `json:"t" jsonschema:"enum=done"`
	Ref *uint64 `json:"ref,omitzero"`
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
