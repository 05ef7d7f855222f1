package chats

import (
	"encoding/base64"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

// membersPlace and chatsPlace are where a page has ended.
type membersPlace struct {
	After schemas.User `json:"a,omitzero"`
}

type chatsPlace struct {
	Time int64        `json:"t"` // of the last chat's last event, in nanoseconds since 1970
	Chat schemas.Chat `json:"c,omitzero"`
}

// cursor is a place as a client carries it: opaque, and good for a while.
type cursor[Place any] struct {
	Place Place `json:"p"`
	Made  int64 `json:"m"` // unix seconds
}

func newCursor[Place any](now time.Time, place Place) string {
	data, err := json.Marshal(cursor[Place]{place, now.Unix()})
	if err != nil {
		panic("encode cursor: " + err.Error()) // names and numbers
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// openCursor reads the place of a cursor; that of no cursor is the zero place.
func openCursor[Place any](text string, now time.Time, place *Place) *schemas.Error {
	if text == "" {
		return nil
	}
	var c cursor[Place]
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	switch {
	case err != nil:
		return schemas.Errorf(schemas.Invalid, "cursor is not one that a page ended with")
	case now.Sub(time.Unix(c.Made, 0)) > schemas.CursorFor:
		return schemas.Errorf(schemas.Invalid, "cursor is older than %s: begin anew without one", schemas.CursorFor)
	}
	*place = c.Place
	return nil
}

func pageLimit(asked *uint64, byDefault, most int) int {
	if asked == nil {
		return byDefault
	}
	return int(min(*asked, uint64(most)))
}
