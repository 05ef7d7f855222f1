package cql

import (
	"cmp"
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
	selectBucketBelow = "SELECT bucket, first_seq FROM buckets WHERE chat = ? AND first_seq < ? LIMIT 1"

	selectBackward = "SELECT " + eventColumns + ` FROM events
		WHERE chat = ? AND bucket = ? AND seq < ? ORDER BY seq DESC`
	selectForward = "SELECT " + eventColumns + ` FROM events
		WHERE chat = ? AND bucket = ? AND seq > ? ORDER BY seq ASC`
	selectEvents = "SELECT " + eventColumns + " FROM events WHERE chat = ? AND bucket = ? AND seq IN ? ORDER BY seq ASC"

	eventColumns = "bucket, seq, prev, n, time, type, author, id, event, expires, edited, body, deleted, pinned"
)

// pageRows bounds what one request brings, since a row may have 100 KB and a page
// ends at its bound of bytes.
const pageRows = 100

// Page returns the events of chat that rng asks for, by rising seq; more tells
// that there are further ones in its direction. A chat of which nothing is stored
// has an empty page. It is two requests: where the range begins, and the bucket
// that is there; one more for each further bucket that it touches, and forward one
// for where the last of them is. With a head it is one where the chat has one
// bucket, or the range begins at the head, and forward always one less.
func (s *Store) Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error) {
	p := page{store: s, chat: chat.String(), limit: max(rng.Limit, 1), forward: rng.Forward, head: rng.Head, from: math.MaxInt64}
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
	head    *store.Head // may be nil

	events []store.Event
	bytes  int
	more   bool
}

// read begins in the bucket where from is. A range that begins before the chat
// does reads forward from its first bucket, and backward nothing. A bucket may be
// empty between others, once its events have disappeared.
func (p *page) read(ctx context.Context) error {
	bucket, found, err := p.first(ctx)
	if err != nil || !found && !p.forward {
		return err
	}
	if err := p.readBucket(ctx, bucket); err != nil || p.more {
		return err
	}
	if !p.forward {
		for bucket > 0 && !p.more && err == nil {
			bucket--
			err = p.readBucket(ctx, bucket)
		}
		return err
	}
	last, err := p.last(ctx)
	for bucket < last && !p.more && err == nil {
		bucket++
		err = p.readBucket(ctx, bucket)
	}
	return err
}

// first returns the bucket in which the range begins.
func (p *page) first(ctx context.Context) (bucket int64, found bool, err error) {
	if h := p.head; h != nil && (h.Bucket == 0 || p.from > int64(h.LastSeq)) {
		return h.Bucket, true, nil
	}
	bucket, _, found, err = p.store.bucketBelow(ctx, p.chat, p.from)
	return bucket, found, err
}

// last returns the chat's last bucket, as far as is known.
func (p *page) last(ctx context.Context) (bucket int64, err error) {
	if p.head != nil {
		return p.head.Bucket, nil
	}
	bucket, _, _, err = p.store.bucketBelow(ctx, p.chat, math.MaxInt64)
	return bucket, err
}

// bucketBelow returns the bucket of the last event below seq, and where it begins.
func (s *Store) bucketBelow(ctx context.Context, chat string, seq int64) (bucket, first int64, found bool, err error) {
	var row struct{ Bucket, FirstSeq int64 }
	q, err := s.read(ctx, selectBucketBelow, chat, seq)
	if err == nil {
		err = q.GetRelease(&row)
	}
	if errors.Is(err, gocql.ErrNotFound) {
		return 0, 0, false, nil
	}
	return row.Bucket, row.FirstSeq, err == nil, err
}

// readBucket adds what the range has in a bucket, until the page is full: then
// more is set, since there was a row too many.
func (p *page) readBucket(ctx context.Context, bucket int64) error {
	text := selectBackward
	if p.forward {
		text = selectForward
	}
	rows := min(p.limit-len(p.events)+1, pageRows)
	return p.store.eachEvent(ctx, rows, func(e store.Event) bool {
		bytes := p.bytes + len(e.JSON) + len(e.State.Body)
		if p.more = len(p.events) == p.limit || len(p.events) > 0 && bytes > schemas.PageBytesMax; p.more {
			return false
		}
		p.bytes = bytes
		p.events = append(p.events, e)
		return true
	}, text, p.chat, bucket, p.from)
}

// Events returns the chat's rows at seqs, those that there are, by rising seq. It
// is two requests for each bucket that they are in.
func (s *Store) Events(ctx context.Context, chat schemas.Chat, seqs []uint64) (events []store.Event, err error) {
	what := fmt.Sprintf("read %d events of %s", len(seqs), chat)
	wanted := make([]int64, 0, len(seqs))
	for _, seq := range seqs {
		if seq < math.MaxInt64 {
			wanted = append(wanted, int64(seq))
		}
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	for len(wanted) > 0 {
		bucket, first, found, err := s.bucketBelow(ctx, chat.String(), wanted[len(wanted)-1]+1)
		if err != nil {
			return nil, classify(ctx, what, err)
		}
		if !found {
			break
		}
		at, _ := slices.BinarySearch(wanted, first)
		if events, err = s.appendEvents(ctx, events, chat.String(), bucket, wanted[at:]); err != nil {
			return nil, classify(ctx, what, err)
		}
		wanted = wanted[:at]
	}
	slices.SortFunc(events, func(a, b store.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return events, classify(ctx, what, ctx.Err())
}

// seqsPerRead is as many values as ScyllaDB takes for one column.
const seqsPerRead = 100

// appendEvents adds the rows of a bucket at seqs.
func (s *Store) appendEvents(ctx context.Context, events []store.Event, chat string, bucket int64, seqs []int64) ([]store.Event, error) {
	for some := range slices.Chunk(seqs, seqsPerRead) {
		err := s.eachEvent(ctx, pageRows, func(e store.Event) bool {
			events = append(events, e)
			return true
		}, selectEvents, chat, bucket, some)
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}

// eachEvent calls fn with each row of a statement that has not disappeared, until
// it returns false. A request brings that many rows at most.
func (s *Store) eachEvent(ctx context.Context, rows int, fn func(store.Event) bool, text string, values ...any) error {
	q, err := s.read(ctx, text, values...)
	if err != nil {
		return err
	}
	defer q.Release()
	now := s.cfg.Now()
	// The next request is made when its rows are wanted, since a page mostly ends before.
	iter := q.PageSize(rows).Prefetch(0).Iter()
	for row := (eventRow{}); iter.StructScan(&row); row = (eventRow{}) {
		if row.isRest(now) {
			continue
		}
		e, err := row.event()
		if err != nil {
			return errors.Join(fmt.Errorf("read event %d: %w", row.Seq, err), iter.Close())
		}
		if !fn(e) {
			break
		}
	}
	return iter.Close()
}

// eventRow is a row of table events.
type eventRow struct {
	Bucket  int64
	Seq     int64
	Prev    int64
	N       int64
	Time    int64
	Type    string
	Author  string
	ID      string
	Event   []byte
	Expires int64
	Edited  int64
	Body    []byte
	Deleted int64
	Pinned  bool
}

// isRest tells whether the row's time is over: columns that were written in
// different seconds end in different ones.
func (r *eventRow) isRest(now time.Time) bool {
	_, over := ttlOf(timeOf(r.Expires), now)
	return over || r.Type == "" || len(r.Event) == 0
}

func (r *eventRow) event() (e store.Event, err error) {
	e = store.Event{
		Bucket: r.Bucket, Seq: uint64(r.Seq), Prev: uint64(r.Prev), N: uint64(r.N),
		Time: time.Unix(0, r.Time).UTC(), Type: schemas.EventType(r.Type), JSON: r.Event,
		Expires: timeOf(r.Expires), State: store.State{Edited: uint64(r.Edited), Deleted: uint64(r.Deleted), Pinned: r.Pinned},
	}
	if len(r.Body) > 0 {
		e.State.Body = r.Body
	}
	if e.Author, err = schemas.ParseUser(r.Author); err != nil {
		return e, err
	}
	e.ID, err = schemas.ParseID(r.ID)
	return e, err
}
