package cql

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gocql/gocql"

	"parley/schemas"
	"parley/workers/store"
)

const (
	selectBucketBelow = "SELECT bucket FROM buckets WHERE chat = ? AND first_seq < ? LIMIT 1"

	selectBackward = `SELECT bucket, seq, prev, n, time, type, author, id, event FROM events
		WHERE chat = ? AND bucket = ? AND seq < ? ORDER BY seq DESC LIMIT ?`
	selectForward = `SELECT bucket, seq, prev, n, time, type, author, id, event FROM events
		WHERE chat = ? AND bucket = ? AND seq > ? ORDER BY seq ASC LIMIT ?`
)

// pageRows bounds what one request brings, since a row may have 100 KB and a page
// ends at its bound of bytes.
const pageRows = 100

// Page returns the events of chat that rng asks for, by rising seq; more tells
// that there are further ones in its direction. A chat of which nothing is stored
// has an empty page. It is two requests: where the range begins, and the bucket
// that is there; one more for each further bucket that it touches.
func (s *Store) Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error) {
	p := page{store: s, chat: chat.String(), limit: max(rng.Limit, 1), forward: rng.Forward, from: math.MaxInt64}
	switch {
	case rng.Forward:
		p.from = int64(min(rng.After, math.MaxInt64))
	case rng.Before > 0:
		p.from = int64(min(rng.Before, math.MaxInt64))
	}
	if err := p.read(ctx); err != nil {
		return nil, false, classify(ctx, fmt.Sprintf("read page of %s", chat), err)
	}
	if !rng.Forward {
		slices.Reverse(p.events)
	}
	return p.events, p.more, nil
}

// page is one as it is read, from bucket to bucket.
type page struct {
	store   *Store
	chat    string
	from    int64 // exclusive
	forward bool
	limit   int

	events []store.Event
	bytes  int
	more   bool
}

// read begins in the bucket where from is. A range that begins before the chat
// does reads forward from its first bucket, and backward nothing.
func (p *page) read(ctx context.Context) error {
	bucket, found, err := p.store.bucketBelow(ctx, p.chat, p.from)
	if err != nil || !found && !p.forward {
		return err
	}
	for first := bucket; !p.more; {
		rows, err := p.readBucket(ctx, bucket)
		switch {
		case err != nil:
			return err
		case p.forward && rows == 0 && bucket > first: // behind the last one
			return nil
		case p.forward:
			bucket++
		case bucket == 0:
			return nil
		default:
			bucket--
		}
	}
	return nil
}

// bucketBelow returns the bucket of the last event below seq.
func (s *Store) bucketBelow(ctx context.Context, chat string, seq int64) (bucket int64, found bool, err error) {
	q, err := s.read(ctx, selectBucketBelow, chat, seq)
	if err == nil {
		err = q.GetRelease(&bucket)
	}
	if errors.Is(err, gocql.ErrNotFound) {
		return 0, false, nil
	}
	return bucket, err == nil, err
}

// eventRow is a row of table events.
type eventRow struct {
	Bucket int64
	Seq    int64
	Prev   int64
	N      int64
	Time   int64
	Type   string
	Author string
	ID     string
	Event  []byte
}

// readBucket adds what the range has in a bucket, until the page is full: then
// more is set, since there was a row too many.
func (p *page) readBucket(ctx context.Context, bucket int64) (rows int, err error) {
	statement := selectBackward
	if p.forward {
		statement = selectForward
	}
	q, err := p.store.read(ctx, statement, p.chat, bucket, p.from, p.limit-len(p.events)+1)
	if err != nil {
		return 0, err
	}
	defer q.Release()
	iter := q.PageSize(pageRows).Iter()
	for row := (eventRow{}); iter.StructScan(&row); row = (eventRow{}) {
		rows++
		if len(p.events) == p.limit || len(p.events) > 0 && p.bytes+len(row.Event) > schemas.PageBytesMax {
			p.more = true
			break
		}
		e, err := row.event()
		if err != nil {
			return rows, errors.Join(fmt.Errorf("read event %d: %w", row.Seq, err), iter.Close())
		}
		p.bytes += len(row.Event)
		p.events = append(p.events, e)
	}
	return rows, iter.Close()
}

func (r *eventRow) event() (e store.Event, err error) {
	e = store.Event{
		Bucket: r.Bucket, Seq: uint64(r.Seq), Prev: uint64(r.Prev), N: uint64(r.N),
		Time: time.Unix(0, r.Time).UTC(), Type: schemas.EventType(r.Type), JSON: r.Event,
	}
	if e.Author, err = schemas.ParseUser(r.Author); err != nil {
		return e, err
	}
	e.ID, err = schemas.ParseID(r.ID)
	return e, err
}
