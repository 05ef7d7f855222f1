package check

import (
	"bytes"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// overWithin is how much sooner than it says something may be gone: log and store
// forget it by clocks of their own, and the log by seconds.
const overWithin = time.Second

// isOver tells whether what expires then may be gone by now.
func isOver(expires time.Time) bool {
	return !expires.IsZero() && !time.Now().Add(overWithin).Before(expires)
}

// withoutOver returns those of events that have not disappeared by now.
func withoutOver(events []event) []event {
	left := make([]event, 0, len(events))
	for _, e := range events {
		if !bytes.Contains(e.data, []byte(`"ttl"`)) { // most: they are not decoded twice
			left = append(left, e)
			continue
		}
		ev, err := schemas.DecodeEvent(e.data)
		if err == nil {
			if at, ok := ev.Expires(e.time); ok && isOver(at) {
				continue
			}
		}
		left = append(left, e)
	}
	return left
}

// isContent tells whether a row has the content that it should have of its event:
// none, where it was deleted or is an edit of what was.
func isContent(row *store.Event, data []byte) bool {
	if row.State.Deleted == 0 && bytes.Equal(row.JSON, data) {
		return true
	}
	if row.State.Deleted == 0 && row.Type != schemas.Edit {
		return false
	}
	blank, err := schemas.Blank(data)
	return err == nil && bytes.Equal(row.JSON, blank)
}

// isBlank tells whether an event has no content.
func isBlank(event []byte) bool {
	blank, err := schemas.Blank(event)
	return err == nil && bytes.Equal(event, blank)
}
