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

// Message is the one type of this version; the other types of a timeline come as it grows.
const Message EventType = "message"

// Event is what a chat's log stores, as JSON: the payload of chat.<shard>.<chat>.timeline.
// The edge writes it, so From and the shape of Body can be trusted.
type Event struct {
	Type     EventType      `json:"type" jsonschema:"enum=message"`
	ID       ID             `json:"id"`
	From     User           `json:"from"`
	Body     jsontext.Value `json:"body"`
	ReplyTo  uint64         `json:"replyTo,omitzero"`                             // seq of the message it answers
	Thread   uint64         `json:"thread,omitzero"`                              // seq of the thread's first message
	Mentions []string       `json:"mentions,omitempty" jsonschema:"maxItems=100"` // users, or * alone for everybody
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
	case ev.Type == Message && ev.Body.Kind() != '{':
		return errors.New("a message's body is an object")
	case ev.ReplyTo > SeqMax || ev.Thread > SeqMax:
		return errors.New("replyTo and thread are below 2^53")
	}
	return nil
}
