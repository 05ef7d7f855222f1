package schemas

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// EventType is what an event of a chat's timeline says.
type EventType string

// Event types that clients send.
const (
	Message EventType = "message"
	Edit    EventType = "edit"     // its author gives a message another body
	Delete  EventType = "delete"   // a message is taken back, for everybody
	React   EventType = "reaction" // one of each emoji per user and message
	Pin     EventType = "pin"      // a message is pinned for everybody in the chat
)

// Event types that the service chats writes on requests: see [Event.Roles].
const (
	MemberEvent EventType = "member"
	GroupEvent  EventType = "group"
)

// Event is what a chat's log stores, as JSON: the payload of chat.<shard>.<chat>.timeline.
// Edges and the service chats write it, so that From, the shape of Body and the
// right to say it can be trusted. Its JSON begins with its type.
type Event struct {
	Type EventType `json:"type" jsonschema:"enum=message,enum=edit,enum=delete,enum=reaction,enum=pin,enum=member,enum=group"`
	ID   ID        `json:"id"`
	From User      `json:"from"`

	// Of a message and an edit.
	Body jsontext.Value `json:"body,omitzero"`
	// Of a message.
	ReplyTo  uint64   `json:"replyTo,omitzero"`                             // seq of the message it answers
	Thread   uint64   `json:"thread,omitzero"`                              // seq of the thread's first message
	Mentions []string `json:"mentions,omitempty" jsonschema:"maxItems=100"` // users, or * alone for everybody
	TTL      uint64   `json:"ttl,omitzero"`                                 // seconds after which it disappears

	// Of an edit, a delete, a reaction and a pin.
	Target uint64 `json:"target,omitzero"` // seq of the message it is about
	Emoji  string `json:"emoji,omitzero"`  // of a reaction
	Remove bool   `json:"remove,omitzero"` // a reaction or a pin is taken away

	// Of a member event and a group event.
	Change  GroupChange `json:"change,omitzero"`
	Users   []User      `json:"users,omitempty"`   // whom a member event is about
	Role    Role        `json:"role,omitzero"`     // their new one, where that is the change
	Owner   *User       `json:"owner,omitzero"`    // who is the owner from now on, where the owner left
	Name    string      `json:"name,omitzero"`     // the group's, from now on
	Members []User      `json:"members,omitempty"` // the first ones, the owner not among them
	Count   uint64      `json:"count,omitzero"`    // members that the group has from now on
	History HistoryMode `json:"history,omitzero"`  // what later members may read
}

// StoredEvent is an event with its place in the log: what a page's items and
// live event frames carry.
type StoredEvent struct {
	Seq  uint64         `json:"seq"`
	Prev uint64         `json:"prev"` // the last seq before it in the chat that the log still held, or 0
	Time time.Time      `json:"time" format:"RFC3339Nano"`
	N    uint64         `json:"n,omitzero"` // messages of the chat up to and including this event; 0 in live frames
	JSON jsontext.Value `json:"event"`      // an Event, spliced as it was stored
}

// Expires returns when an event disappears that the log stored at a time; ok is
// false for one that stays.
func (ev *Event) Expires(stored time.Time) (at time.Time, ok bool) {
	if ev.TTL == 0 {
		return time.Time{}, false
	}
	return stored.Add(time.Duration(ev.TTL) * time.Second), true
}

// HasTarget tells whether the event changes another one: its Target.
func (ev *Event) HasTarget() bool {
	switch ev.Type {
	case Edit, Delete, React, Pin:
		return true
	}
	return false
}

// EncodeEvent returns the JSON of ev for the log. It refuses what [DecodeEvent] would.
func EncodeEvent(ev *Event) ([]byte, error) {
	if err := ev.check(); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	data, err := json.Marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("encode event %s of %s: %w", ev.ID, ev.From, err)
	}
	return data, nil
}

// DecodeEvent reads an event of the log. Members and types that it does not
// know are left alone: a newer edge may have written them. Its errors are one
// printable line, fit for a dead letter's header.
func DecodeEvent(data []byte) (*Event, error) {
	var ev Event
	if err := json.Unmarshal(data, &ev); err != nil {
		return nil, errors.New(oneLine("decode event: " + err.Error()))
	}
	if err := ev.check(); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	return &ev, nil
}

func (ev *Event) check() error {
	switch {
	case ev.Type == "":
		return errors.New("it has no type")
	case ev.ID.IsZero():
		return errors.New("it has no id")
	case ev.From.IsZero():
		return errors.New("it has no from")
	case ev.ReplyTo > SeqMax || ev.Thread > SeqMax || ev.Target > SeqMax:
		return errors.New("replyTo, thread and target are below 2^53")
	case ev.TTL > TTLMax:
		return fmt.Errorf("its ttl is more than %d seconds", TTLMax)
	case (ev.Type == Message || ev.Type == Edit) && ev.Body.Kind() != '{':
		return fmt.Errorf("the body of type %s is an object", ev.Type)
	case ev.HasTarget() && ev.Target == 0:
		return fmt.Errorf("type %s has a target", ev.Type)
	case ev.Type == React && ev.Emoji == "":
		return errors.New("a reaction has an emoji")
	}
	return ev.checkGroup()
}
