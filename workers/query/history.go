package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// answer reads the page that q asks for.
func (s *Service) answer(ctx context.Context, q question) (*answer, error) {
	if q.forward {
		return s.oldest(ctx, q)
	}
	e := s.cached(q.chat)
	if q.before > 0 {
		whole, err := s.isStored(ctx, q, e)
		if err != nil {
			return nil, err
		}
		if whole {
			return s.older(ctx, q)
		}
	}
	return s.newest(ctx, q, e)
}

// isStored tells whether all that q asks for is in the store: where it ends at
// the head or below.
func (s *Service) isStored(ctx context.Context, q question, e *newestStored) (bool, error) {
	if e != nil && q.before <= e.head.LastSeq+1 {
		return true, nil
	}
	head, _, err := s.cfg.Store.Head(ctx, q.chat)
	if err != nil {
		return false, fmt.Errorf("read head of %s: %w", q.chat, err)
	}
	return q.before <= head.LastSeq+1, nil
}

// older answers from the store alone.
func (s *Service) older(ctx context.Context, q question) (*answer, error) {
	events, more, err := s.cfg.Store.Page(ctx, q.chat, store.Range{Before: q.before, Limit: q.limit})
	if err != nil {
		return nil, fmt.Errorf("read page of %s below %d: %w", q.chat, q.before, err)
	}
	p := storedPage(events)
	return &answer{older: p.text, more: more}, nil
}

// newest answers with the end of the chat, or with what is below a seq that the
// store has not reached: the newest stored page, and the log's events above it.
// The log's last seq is read first, so that nothing acknowledged is in neither.
func (s *Service) newest(ctx context.Context, q question, e *newestStored) (*answer, error) {
	last, _, err := s.cfg.Log.Last(ctx, q.chat)
	if err != nil {
		return nil, err
	}
	if e != nil && e.covers(q.limit) && (last <= e.head.LastSeq || time.Since(e.at) <= tailAge) {
		s.metrics.hits.Inc()
		a, err := s.merged(ctx, q, e, last)
		if !errors.Is(err, errTailTooLong) {
			return a, err
		}
		// The store may be nearer to the log by now.
	}
	if e, err = s.load(ctx, q.chat, q.limit); err != nil {
		return nil, err
	}
	return s.merged(ctx, q, e, last)
}

// merged answers with e's page and what the log has between e's head and last.
func (s *Service) merged(ctx context.Context, q question, e *newestStored, last uint64) (*answer, error) {
	if q.before > 0 && q.before <= e.head.LastSeq+1 {
		return s.older(ctx, q) // it was stored since
	}
	tail := newestTail{limit: q.limit}
	if last > e.head.LastSeq {
		err := s.walkTail(ctx, q.chat, e.head.LastSeq, e.head.LastN, last, func(ev schemas.StoredEvent) bool {
			if q.before > 0 && ev.Seq >= q.before {
				return false
			}
			tail.add(ev)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return merge(&tail, e, q.limit), nil
}

func merge(tail *newestTail, e *newestStored, limit int) *answer {
	r := newRoom(limit)
	tailPage := tail.page()
	newer, n := tailPage.newest(&r, true)
	if n < len(tailPage.items) || tail.dropped {
		return &answer{newer: newer, more: true}
	}
	older, m := e.page.newest(&r, n == 0)
	return &answer{older: older, newer: newer, more: e.more || m < len(e.page.items)}
}

// newestTail keeps the newest events of a tail that is walked forward: what one
// page can hold and some more, however long the tail is.
type newestTail struct {
	limit   int
	events  []schemas.StoredEvent
	bytes   int
	dropped bool
}

func (t *newestTail) add(ev schemas.StoredEvent) {
	t.events = append(t.events, ev)
	t.bytes += len(ev.JSON)
	if len(t.events) <= 2*t.limit && t.bytes <= 2*schemas.PageBytesMax {
		return
	}
	r := newRoom(t.limit)
	keep := len(t.events)
	for keep > 0 && r.take(len(t.events[keep-1].JSON), keep == len(t.events)) {
		keep--
	}
	if keep > 0 {
		t.dropped = true
		t.events = append(t.events[:0], t.events[keep:]...)
		t.bytes = schemas.PageBytesMax - r.bytes
	}
}

func (t *newestTail) page() page {
	var p page
	for _, ev := range t.events {
		p.add(ev)
	}
	return p
}

// oldest answers with what comes after a seq: from the store, and where that ends
// within the page, from the log.
func (s *Service) oldest(ctx context.Context, q question) (*answer, error) {
	events, more, base, err := s.storedAfter(ctx, q)
	if err != nil {
		return nil, err
	}
	stored := storedPage(events)
	if more {
		return &answer{older: stored.text, more: true}, nil
	}
	last, _, err := s.cfg.Log.Last(ctx, q.chat)
	if err != nil {
		return nil, err
	}
	if last <= base.LastSeq || last <= q.after {
		return &answer{older: stored.text}, nil
	}
	r := newRoom(q.limit)
	for i, it := range stored.items {
		r.take(it.bytes, i == 0)
	}
	var tail page
	err = s.walkTail(ctx, q.chat, base.LastSeq, base.LastN, last, func(ev schemas.StoredEvent) bool {
		if ev.Seq <= q.after {
			return true
		}
		if more = !r.take(len(ev.JSON), len(stored.items)+len(tail.items) == 0); more {
			return false
		}
		tail.add(ev)
		return true
	})
	if err != nil {
		return nil, err
	}
	return &answer{older: stored.text, newer: tail.text, more: more}, nil
}

// storedAfter reads the stored events after q.after. Where there are no more, base
// has the last stored seq and its n: the head that the log's events continue.
func (s *Service) storedAfter(ctx context.Context, q question) (events []store.Event, more bool, base store.Head, err error) {
	for range 2 {
		events, more, err = s.cfg.Store.Page(ctx, q.chat, store.Range{Forward: true, After: q.after, Limit: q.limit})
		if err != nil {
			return nil, false, base, fmt.Errorf("read page of %s after %d: %w", q.chat, q.after, err)
		}
		if len(events) > 0 {
			last := &events[len(events)-1]
			return events, more, store.Head{LastSeq: last.Seq, LastN: last.N}, nil
		}
		base, _, err = s.cfg.Store.Head(ctx, q.chat)
		if err != nil {
			return nil, false, base, fmt.Errorf("read head of %s: %w", q.chat, err)
		}
		if base.LastSeq <= q.after {
			return nil, false, base, nil
		}
		// Events were stored between the two reads: the page has them now.
	}
	return nil, false, base, fmt.Errorf("chat %s has no event after %d, and its head is at %d", q.chat, q.after, base.LastSeq)
}

// errTailTooLong says that the store is too far behind the log to make a page.
var errTailTooLong = errors.New("too many events are not stored yet")
