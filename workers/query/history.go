package query

import (
	"context"
	"errors"
	"time"
)

// answer reads the page that q asks for: what the store has of it, and what the
// log has beyond the store, which may change any event. The log's last seq is read
// first, so that nothing acknowledged is in neither.
func (s *Service) answer(ctx context.Context, q question) (*answer, error) {
	last, _, err := s.cfg.Log.Last(ctx, q.chat)
	if err != nil {
		return nil, err
	}
	e := s.cached(q.chat, last)
	a, err := s.answerUpTo(ctx, &q, e, last)
	if e != nil && errors.Is(err, errTailTooLong) {
		return s.answerUpTo(ctx, &q, nil, last) // the store may be nearer to the log by now
	}
	return a, err
}

// answerUpTo answers with e, if that is not nil and has what q asks for, and with
// the tail up to last.
func (s *Service) answerUpTo(ctx context.Context, q *question, e *newestStored, last uint64) (*answer, error) {
	part, err := s.stored(ctx, q, e)
	if err != nil {
		return nil, err
	}
	f := &fold{q: q, now: time.Now(), stored: part}
	if last > part.head.LastSeq {
		err := s.walkTail(ctx, q.chat, part.head.LastSeq, part.head.LastN, last, f.visit)
		if err != nil {
			return nil, err
		}
		if err := s.emptyEdits(ctx, f); err != nil {
			return nil, err
		}
	}
	if q.forward {
		return s.oldest(ctx, f)
	}
	return s.newest(ctx, f)
}

// The items of an answer are those of the stored page and then the tail's: each
// has an index.
func (f *fold) len() int { return len(f.stored.page.items) + len(f.tail) }

// draft returns the item at index i where the tail brings or changes it.
func (f *fold) draft(i int) *draft {
	if stored := len(f.stored.page.items); i >= stored {
		return f.tail[i-stored]
	}
	return f.changed[i]
}

func (s *Service) bytes(ctx context.Context, f *fold, i int) (int, error) {
	d := f.draft(i)
	if d == nil {
		return f.stored.page.items[i].bytes, nil
	}
	err := s.finish(ctx, f, d)
	return d.bytes, err
}

// newest takes the last items that have room.
func (s *Service) newest(ctx context.Context, f *fold) (*answer, error) {
	items := f.stored.page.items
	begin, more := 0, f.stored.more
	switch {
	case f.dropped: // between the stored page and the tail that was kept
		begin, more = len(items), true
	case f.q.from > 0 && len(items) > 0:
		begin, _ = f.stored.page.index(f.q.from)
		more = more && begin == 0 && items[0].prev >= f.q.from
	}
	r := newRoom(f.q.limit)
	at := f.len()
	for at > begin {
		bytes, err := s.bytes(ctx, f, at-1)
		if err != nil {
			return nil, err
		}
		if !r.take(bytes, at == f.len()) {
			more = true
			break
		}
		at--
	}
	return &answer{parts: f.parts(at, f.len()), more: more}, nil
}

// oldest takes the first items that have room.
func (s *Service) oldest(ctx context.Context, f *fold) (*answer, error) {
	more := f.stored.more || f.dropped
	r := newRoom(f.q.limit)
	at := 0
	for at < f.len() {
		bytes, err := s.bytes(ctx, f, at)
		if err != nil {
			return nil, err
		}
		if !r.take(bytes, at == 0) {
			more = true
			break
		}
		at++
	}
	return &answer{parts: f.parts(0, at), more: more}, nil
}

// parts returns the text of the items from i up to j. What the tail left alone is
// as it was encoded once.
func (f *fold) parts(i, j int) (parts [][]byte) {
	p := &f.stored.page
	for i < j {
		if d := f.draft(i); d != nil {
			parts = append(parts, d.text)
			i++
			continue
		}
		run := i
		for i++; i < min(j, len(p.items)) && f.changed[i] == nil; i++ {
		}
		parts = append(parts, p.text[p.items[run].start:p.items[i-1].end])
	}
	return parts
}

// errTailTooLong says that the store is too far behind the log to make a page.
var errTailTooLong = errors.New("too many events are not stored yet")
