package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// A page is one statement, however many buckets it touches: the key of events
// orders a chat's buckets too, so that table buckets only says where to start. It
// is read as far as the page goes: no LIMIT, and what has disappeared is left out
// by who reads, since most pages have nothing of it.
const (
	selectBackward = "SELECT " + eventColumns + ` FROM events
		WHERE chat = ?1 AND (bucket, seq) < (
			(SELECT bucket FROM buckets WHERE chat = ?1 AND first_seq < ?2 ORDER BY bucket DESC LIMIT 1), ?2)
		ORDER BY bucket DESC, seq DESC`

	selectForward = "SELECT " + eventColumns + ` FROM events
		WHERE chat = ?1 AND (bucket, seq) > (
			coalesce((SELECT bucket FROM buckets WHERE chat = ?1 AND first_seq <= ?2 ORDER BY bucket DESC LIMIT 1), -1), ?2)
		ORDER BY bucket, seq`

	// The outer loop is that of the seqs: each is one seek into buckets and one into events.
	selectEvents = "SELECT " + eventColumns + ` FROM (SELECT value AS wanted FROM json_each(?2)) CROSS JOIN events
		WHERE chat = ?1 AND seq = wanted
			AND bucket = (SELECT bucket FROM buckets WHERE chat = ?1 AND first_seq <= wanted ORDER BY bucket DESC LIMIT 1)
			AND (expires = 0 OR expires > ?3)
		ORDER BY seq`

	// Most rows are as they were written: the driver is quicker with a NULL than
	// with the value that says so.
	eventColumns = `bucket, seq, prev, n, time, type, author, id, CAST(event AS BLOB),
		nullif(expires, 0), nullif(edited, 0), iif(edited > 0, CAST(body AS BLOB), NULL), nullif(deleted, 0), nullif(pinned, 0)`
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
	bytes, now := 0, r.cfg.now()
	err = r.read(ctx, fmt.Sprintf("read page of %s", chat), func(c *conn) error {
		return c.query(statement, func(row []driver.Value) error {
			e, err := eventOf(row)
			if err != nil {
				return fmt.Errorf("read event %d: %w", e.Seq, err)
			}
			if over(e.Expires, now) {
				return nil
			}
			bytes += len(e.JSON) + len(e.State.Body)
			if more = len(events) == limit || len(events) > 0 && bytes > schemas.PageBytesMax; more {
				return errStop
			}
			events = append(events, e)
			return nil
		}, chat.String(), from)
	})
	if err != nil {
		return nil, false, err
	}
	if !rng.Forward {
		slices.Reverse(events)
	}
	return events, more, nil
}

// Events returns the chat's rows at seqs, those that there are, by rising seq.
func (r *Reader) Events(ctx context.Context, chat schemas.Chat, seqs []uint64) (events []store.Event, err error) {
	if len(seqs) == 0 {
		return nil, ctx.Err()
	}
	err = r.read(ctx, fmt.Sprintf("read %d events of %s", len(seqs), chat), func(c *conn) error {
		return c.query(selectEvents, func(row []driver.Value) error {
			e, err := eventOf(row)
			if err != nil {
				return fmt.Errorf("read event %d: %w", e.Seq, err)
			}
			events = append(events, e)
			return nil
		}, chat.String(), jsonSeqs(seqs), r.cfg.now().UnixNano())
	})
	if err != nil {
		return nil, err
	}
	return slices.CompactFunc(events, func(a, b store.Event) bool { return a.Seq == b.Seq }), nil
}

// jsonSeqs makes a JSON array.
func jsonSeqs(seqs []uint64) string {
	text := []byte{'['}
	for i, seq := range seqs {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendUint(text, min(seq, math.MaxInt64), 10)
	}
	return string(append(text, ']'))
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
	e.Expires = timeOf(row[9])
	e.State = store.State{Edited: uint64(integer(row[10])), Deleted: uint64(integer(row[12])), Pinned: integer(row[13]) != 0}
	if body, _ := row[11].([]byte); len(body) > 0 {
		e.State.Body = body
	}
	return e, nil
}
