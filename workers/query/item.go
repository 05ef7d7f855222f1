package query

import (
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"parley/schemas"
	"parley/workers/store"
)

// item is an event of a page with what later events made of it.
type item struct {
	seq       uint64
	prev      uint64
	n         uint64
	time      time.Time
	expires   time.Time // zero: never
	kind      schemas.EventType
	author    schemas.User
	bucket    int64
	event     []byte // JSON, with the body that is shown
	edited    uint64 // seq of the last edit
	deleted   uint64 // seq of the delete
	pinned    bool
	reactions []store.Reactions    // by rising First
	bodies    []schemas.FormerBody // where former ones are shown: rising, the current one last

	start int // of its text in its page
	end   int
	bytes int // what bounds a page counts: all of its text that has no bound of its own
}

// reactionsBytesMax bounds the reactions under one item, whose emojis are as many
// as people find: the later ones are left out. FormerMax and PageBytesMax bound its
// former bodies. So a page fits into one message of NATS whatever was said.
const reactionsBytesMax = 128 << 10

// gone tells whether the item has disappeared at a time.
func (it *item) gone(at time.Time) bool { return !it.expires.IsZero() && !at.Before(it.expires) }

// append adds the item's text, and tells where in it the event is.
func (it *item) append(text []byte) (longer []byte, eventStart int, err error) {
	text = append(text, `{"seq":`...)
	text = strconv.AppendUint(text, it.seq, 10)
	text = append(text, `,"prev":`...)
	text = strconv.AppendUint(text, it.prev, 10)
	text = append(text, `,"time":"`...)
	text = it.time.UTC().AppendFormat(text, time.RFC3339Nano)
	text = append(text, '"')
	if it.n > 0 {
		text = append(text, `,"n":`...)
		text = strconv.AppendUint(text, it.n, 10)
	}
	text = append(text, `,"event":`...)
	eventStart = len(text)
	text = append(text, it.event...)
	it.bytes = len(it.event)
	if it.edited > 0 {
		text = append(text, `,"edited":`...)
		text = strconv.AppendUint(text, it.edited, 10)
	}
	if it.deleted > 0 {
		text = append(text, `,"deleted":true`...)
	} else {
		before := len(text)
		if text, err = it.appendReactions(text); err != nil {
			return nil, 0, err
		}
		text = it.appendFormer(text)
		it.bytes += len(text) - before
	}
	if it.pinned {
		text = append(text, `,"pinned":true`...)
	}
	return append(text, '}'), eventStart, nil
}

func (it *item) appendReactions(text []byte) (longer []byte, err error) {
	if len(it.reactions) == 0 {
		return text, nil
	}
	text = append(text, `,"reactions":[`...)
	start := len(text)
	for i := range it.reactions {
		r := &it.reactions[i]
		if len(text)-start > reactionsBytesMax {
			break
		}
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, `{"emoji":`...)
		if text, err = jsontext.AppendQuote(text, r.Emoji); err != nil {
			return nil, fmt.Errorf("encode emoji %q under %d: %w", r.Emoji, it.seq, err)
		}
		text = append(text, `,"count":`...)
		text = strconv.AppendInt(text, int64(r.Count), 10)
		text = append(text, `,"users":[`...)
		for j, user := range r.Users {
			if j > 0 {
				text = append(text, ',')
			}
			text = append(text, '"')
			text = append(text, user.String()...) // of nothing that has to be escaped
			text = append(text, '"')
		}
		text = append(text, `]}`...)
	}
	return append(text, ']'), nil
}

// appendFormer adds the bodies before the current one: the newest, as many as the
// bounds allow.
func (it *item) appendFormer(text []byte) []byte {
	former := it.bodies
	for len(former) > 0 && former[len(former)-1].Seq >= it.edited {
		former = former[:len(former)-1]
	}
	first := keptBodies(former, schemas.PageBytesMax-len(it.event))
	if first == len(former) {
		return text
	}
	text = append(text, `,"former":[`...)
	for i, body := range former[first:] {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, `{"seq":`...)
		text = strconv.AppendUint(text, body.Seq, 10)
		text = append(text, `,"time":"`...)
		text = body.Time.UTC().AppendFormat(text, time.RFC3339Nano)
		text = append(text, `","body":`...)
		text = append(text, body.Body...)
		text = append(text, '}')
	}
	return append(text, ']')
}

// keptBodies returns the index from which on bodies are within FormerMax and bytesMax.
func keptBodies(bodies []schemas.FormerBody, bytesMax int) int {
	first := len(bodies)
	for first > 0 && len(bodies)-first < schemas.FormerMax {
		if bytesMax -= len(bodies[first-1].Body); bytesMax < 0 {
			break
		}
		first--
	}
	return first
}
