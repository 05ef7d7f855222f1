package schemas

import (
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Item is an event of a page, and what later events made of it. The body in its
// JSON is the current one.
type Item struct {
	StoredEvent
	Edited    uint64       `json:"edited,omitzero"`     // seq of the last edit
	Deleted   bool         `json:"deleted,omitzero"`    // taken back: its body is empty
	Reactions []Reaction   `json:"reactions,omitempty"` // the emoji that came first is first
	Pinned    bool         `json:"pinned,omitzero"`
	Former    []FormerBody `json:"former,omitempty"` // what an edited message said before, where raw was asked for
	Cut       bool         `json:"cut,omitzero"`     // the event was shortened: history has all of it
}

// Reaction is one emoji under a message.
type Reaction struct {
	Emoji string `json:"emoji"`
	Count int    `json:"count"`
	Users []User `json:"users"` // the first of them, at most ReactionUsersMax
}

// FormerBody is what a message said from an event on, until the next edit.
type FormerBody struct {
	Seq  uint64         `json:"seq"` // of the message itself, or of an edit
	Time time.Time      `json:"time" format:"RFC3339Nano"`
	Body jsontext.Value `json:"body"`
}

// emptyBody takes the place of what was taken back.
var emptyBody = jsontext.Value("{}")

// Blank returns an event of the log without its content: its body is empty and
// it mentions nobody.
func Blank(event []byte) ([]byte, error) {
	ev, err := DecodeEvent(event)
	if err != nil {
		return nil, err
	}
	if len(ev.Body) > 0 {
		ev.Body = emptyBody
	}
	ev.Mentions = nil
	return EncodeEvent(ev)
}

// WithBody returns an event of the log with another body. Members that this
// version does not know are kept.
func WithBody(event []byte, body jsontext.Value) ([]byte, error) {
	var space [frameMembersUsual]member
	members, err := readMembers(event, space[:0])
	if err != nil {
		return nil, err
	}
	text := append(make([]byte, 0, len(event)+len(body)), '{')
	for i := range members {
		m := &members[i]
		if i > 0 {
			text = append(text, ',')
		}
		if text, err = jsontext.AppendQuote(text, m.name); err != nil {
			return nil, err
		}
		text = append(text, ':')
		if string(m.name) == "body" {
			text = append(text, body...)
		} else {
			text = append(text, m.value...)
		}
	}
	return append(text, '}'), nil
}

// CutEvent returns an event as a list of chats shows it: whole if it is short,
// or with what is long in it cut, so that it has not much more than
// [CutTextBytesMax] bytes.
func CutEvent(event []byte) (short []byte, cut bool, err error) {
	if len(event) <= CutTextBytesMax {
		return event, false, nil
	}
	ev, err := DecodeEvent(event)
	if err != nil {
		return nil, false, err
	}
	if len(ev.Body) > 0 {
		if ev.Body, err = cutBody(ev.Body); err != nil {
			return nil, false, err
		}
	}
	ev.Mentions, ev.Members = nil, nil
	ev.Users = ev.Users[:min(len(ev.Users), cutUsersMax)]
	short, err = EncodeEvent(ev)
	return short, true, err
}

// cutUsersMax is how many users a shortened event names.
const cutUsersMax = 10

// cutBody keeps a body's kind and the beginning of its text.
func cutBody(body jsontext.Value) (jsontext.Value, error) {
	var kind, text string
	var space [frameMembersUsual]member
	members, err := readMembers(body, space[:0])
	if err != nil {
		return nil, err
	}
	for i := range members {
		switch m := &members[i]; {
		case m.value.Kind() != '"':
		case string(m.name) == "kind":
			kind = string(unquote(m.value))
		case string(m.name) == "text":
			text = string(unquote(m.value))
		}
	}
	if len(text) > CutTextBytesMax {
		end := CutTextBytesMax
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	short := append(make([]byte, 0, len(text)+64), `{"kind":`...)
	if short, err = jsontext.AppendQuote(short, kind); err != nil {
		return nil, err
	}
	if text != "" {
		if short, err = jsontext.AppendQuote(append(short, `,"text":`...), text); err != nil {
			return nil, err
		}
	}
	return append(short, '}'), nil
}
