package query

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"parley/schemas"
	"parley/workers/store"
)

// stored is what the store has of an answer: a page of events up to a head. What
// came after the head may be in the state of its items already, or not: all of it
// is in the tail, and does the same again.
type stored struct {
	page page
	more bool       // the store has more in the direction that was asked
	head store.Head // of a moment before the page was read
}

// stored reads what the store has of q's answer, where e, the newest stored page,
// does not have it.
func (s *Service) stored(ctx context.Context, q *question, e *newestStored) (*stored, error) {
	var head store.Head
	at := time.Now()
	if e != nil {
		head, at = e.head, e.at
	} else {
		var err error
		if head, _, err = s.cfg.Store.Head(ctx, q.chat); err != nil {
			return nil, fmt.Errorf("read head of %s: %w", q.chat, err)
		}
	}
	switch {
	case q.raw || !q.passes(head):
		return s.readRange(ctx, q, head)
	case e != nil && e.covers(q.limit):
		s.metrics.hits.Inc()
		return &e.stored, nil
	}
	return s.load(ctx, q.chat, q.limit, head, at)
}

// readRange reads the events of q's range up to head.
func (s *Service) readRange(ctx context.Context, q *question, head store.Head) (*stored, error) {
	part := &stored{head: head}
	r := store.Range{Forward: q.forward, After: q.after, Before: head.LastSeq + 1, Limit: q.limit, Head: &head}
	if q.before > 0 {
		r.Before = min(r.Before, q.before)
	}
	if q.forward && q.after >= head.LastSeq || !q.forward && r.Before <= max(q.from, 1) {
		return part, nil
	}
	rows, more, err := s.readPage(ctx, q.chat, r)
	if err != nil {
		return nil, err
	}
	for len(rows) > 0 && rows[len(rows)-1].Seq > head.LastSeq { // of a forward page: the tail has them
		rows, more = rows[:len(rows)-1], false
	}
	part.page, err = s.storedPage(ctx, q, rows)
	part.more = more
	return part, err
}

// readPage reads rows that have not disappeared: a store may take a moment longer
// to forget one than the event says. A page is empty only where nothing follows.
func (s *Service) readPage(ctx context.Context, chat schemas.Chat, r store.Range) ([]store.Event, bool, error) {
	for {
		rows, more, err := s.cfg.Store.Page(ctx, chat, r)
		if err != nil {
			return nil, false, fmt.Errorf("read page of %s: %w", chat, err)
		}
		now := time.Now()
		left := rowsWith(rows, func(row *store.Event) bool { return row.Expires.IsZero() || now.Before(row.Expires) })
		if len(left) > 0 || len(rows) == 0 || !more {
			return left, more, nil
		}
		r.Before, r.After = rows[0].Seq, rows[len(rows)-1].Seq
	}
}

// storedPage makes a page of rows, with the reactions under them, and the former
// bodies that q asks for.
func (s *Service) storedPage(ctx context.Context, q *question, rows []store.Event) (page, error) {
	items := make([]item, 0, len(rows))
	for i := range rows {
		it, err := itemOf(&rows[i])
		if err != nil {
			return page{}, fmt.Errorf("read event %d of %s: %w", rows[i].Seq, q.chat, err)
		}
		items = append(items, it)
	}
	if err := s.addReactions(ctx, q.chat, rows, items); err != nil {
		return page{}, err
	}
	if q.raw {
		if err := s.addBodies(ctx, q, rows, items); err != nil {
			return page{}, err
		}
	}
	return newPage(items)
}

func itemOf(row *store.Event) (it item, err error) {
	it = item{
		seq: row.Seq, prev: row.Prev, n: row.N, time: row.Time, expires: row.Expires,
		kind: row.Type, author: row.Author, bucket: row.Bucket, event: row.JSON,
		edited: row.State.Edited, pinned: row.State.Pinned,
	}
	if row.Type == schemas.Message { // its edits have lost their bodies too, and are what they are
		it.deleted = row.State.Deleted
	}
	it.event, err = row.Shown()
	return it, err
}

// addReactions reads the reactions under items, which are those of rows.
func (s *Service) addReactions(ctx context.Context, chat schemas.Chat, rows []store.Event, items []item) error {
	of := rowsWith(rows, func(row *store.Event) bool { return row.Type == schemas.Message && row.State.Deleted == 0 })
	if len(of) == 0 {
		return nil
	}
	reactions, err := s.cfg.Store.Reactions(ctx, chat, of)
	if err != nil {
		return fmt.Errorf("read reactions under %d events of %s: %w", len(of), chat, err)
	}
	if len(reactions) > 0 {
		for i := range items {
			items[i].reactions = reactions[items[i].seq]
		}
	}
	return nil
}

// addBodies reads what edited items of rows said and say.
func (s *Service) addBodies(ctx context.Context, q *question, rows []store.Event, items []item) error {
	of := rowsWith(rows, func(row *store.Event) bool {
		return row.State.Edited > 0 && row.State.Deleted == 0 && q.showsFormer(row.Type, row.Author)
	})
	if len(of) == 0 {
		return nil
	}
	edits, err := s.cfg.Store.Edits(ctx, q.chat, of)
	if err != nil {
		return fmt.Errorf("read edits of %d events of %s: %w", len(of), q.chat, err)
	}
	next := 0
	for i := range items {
		if next == len(of) {
			break
		}
		row := &of[next]
		if row.Seq != items[i].seq {
			continue
		}
		next++
		if items[i].bodies, err = bodiesOf(row, edits); err != nil {
			return fmt.Errorf("read event %d of %s: %w", row.Seq, q.chat, err)
		}
	}
	return nil
}

// bodiesOf returns what a row said first, and by each of its edits up to the one
// that it tells of: what came after that, as one that was deleted since, is the tail's.
func bodiesOf(row *store.Event, edits []store.Edit) ([]schemas.FormerBody, error) {
	ev, err := schemas.DecodeEvent(row.JSON)
	if err != nil {
		return nil, err
	}
	bodies := []schemas.FormerBody{{Seq: row.Seq, Time: row.Time, Body: ev.Body}}
	for i := range edits {
		if e := &edits[i]; e.Target == row.Seq && e.Seq <= row.State.Edited && len(e.Body) > 0 {
			bodies = append(bodies, schemas.FormerBody{Seq: e.Seq, Time: e.Time, Body: jsontext.Value(e.Body)})
		}
	}
	return bodies, nil
}

// rowsWith returns the rows that want holds for; rows itself where it is all of them.
func rowsWith(rows []store.Event, want func(*store.Event) bool) []store.Event {
	unwanted := func(row store.Event) bool { return !want(&row) }
	if !slices.ContainsFunc(rows, unwanted) {
		return rows
	}
	return slices.DeleteFunc(slices.Clone(rows), unwanted)
}
