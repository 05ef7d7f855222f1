package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"slices"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// A page is one statement, however many buckets it touches: the key of events
// orders a chat's buckets too, so that table buckets only says where to start.
const (
	selectBackward = `SELECT bucket, seq, prev, n, time, type, author, id, CAST(event AS BLOB) FROM events
		WHERE chat = ? AND (bucket, seq) < (
			(SELECT bucket FROM buckets WHERE chat = ? AND first_seq < ? ORDER BY bucket DESC LIMIT 1), ?)
		ORDER BY bucket DESC, seq DESC LIMIT ?`

	selectForward = `SELECT bucket, seq, prev, n, time, type, author, id, CAST(event AS BLOB) FROM events
		WHERE chat = ? AND (bucket, seq) > (
			coalesce((SELECT bucket FROM buckets WHERE chat = ? AND first_seq <= ? ORDER BY bucket DESC LIMIT 1), -1), ?)
		ORDER BY bucket, seq LIMIT ?`
)

// Page returns the events of chat that rng asks for, by rising seq; more tells
// that there are further ones in its direction. A chat of which nothing is stored
// has an empty page.
func (r *Reader) Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error) {
	limit := max(rng.Limit, 1)
	from, statement := int64(math.MaxInt64), selectBackward
	switch {
	case rng.Forward:
		from, statement = int64(min(rng.After, math.MaxInt64)), selectForward
	case rng.Before > 0:
		from = int64(min(rng.Before, math.MaxInt64))
	}
	bytes := 0
	err = r.read(ctx, fmt.Sprintf("read page of %s", chat), func(c *conn) error {
		return c.query(statement, func(row []driver.Value) error {
			e, err := eventOf(row)
			if err != nil {
				return fmt.Errorf("read event %d: %w", e.Seq, err)
			}
			bytes += len(e.JSON)
			if more = len(events) == limit || len(events) > 0 && bytes > schemas.PageBytesMax; more {
				return errStop
			}
			events = append(events, e)
			return nil
		}, chat.String(), chat.String(), from, from, int64(limit)+1)
	})
	if err != nil {
		return nil, false, err
	}
	if !rng.Forward {
		slices.Reverse(events)
	}
	return events, more, nil
}

func eventOf(row []driver.Value) (e store.Event, err error) {
	e = store.Event{
		Bucket: integer(row[0]),
		Seq:    uint64(integer(row[1])),
		Prev:   uint64(integer(row[2])),
		N:      uint64(integer(row[3])),
		Time:   time.Unix(0, integer(row[4])).UTC(),
		Type:   schemas.EventType(text(row[5])),
	}
	if e.Author, err = schemas.ParseUser(text(row[6])); err != nil {
		return e, err
	}
	if e.ID, err = schemas.ParseID(text(row[7])); err != nil {
		return e, err
	}
	e.JSON, _ = row[8].([]byte)
	return e, nil
}
