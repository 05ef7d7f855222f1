package check

import (
	"context"
	"fmt"
	"strings"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
)

// comparison is what comparing a chat's part of a window found.
type comparison struct {
	chat              schemas.Chat
	compared, givenUp uint64
	newest            uint64 // the highest seq that was compared; 0 where none was
	findings          []Finding
	missing           bool // one of the findings is

	// What events do to earlier ones and to groups' members, if their own rows are there.
	changes        []targeted
	claims         []uint64            // messages of which something is stored that later events made
	partial        map[uint64]struct{} // targets of events whose rows are not there
	members        []memberEvent
	membersPartial bool          // one of their rows is not there
	messages       []store.Event // without their JSON
}

// compareTwice compares a chat's events of a window with its rows; where they
// differ once more, since a dead letter may have been replayed in between. What is
// missing then is looked for among the letters as they are by now.
func (c *Checker) compareTwice(ctx context.Context, s *shard, w window, chat schemas.Chat, events []event) (comparison, error) {
	found, err := c.compareChat(ctx, s, w, chat, events)
	if err != nil {
		return found, err
	}
	if found.missing {
		if err := c.reloadLetters(ctx, s); err != nil {
			return found, err
		}
	}
	if len(found.findings) > 0 {
		if found, err = c.compareChat(ctx, s, w, chat, events); err != nil {
			return found, err
		}
	}
	return found, c.claimReacted(ctx, &found)
}

// reloadLetters reads the letters once more, once in a shard: those that a
// replica did not have at first are there by then.
func (c *Checker) reloadLetters(ctx context.Context, s *shard) (err error) {
	s.reload.Do(func() { err = c.loadLetters(ctx) })
	return err
}

// compareChat walks events and rows down, side by side, to the row before the
// first event: one that the log has too, or that is older than the log.
func (c *Checker) compareChat(ctx context.Context, s *shard, w window, chat schemas.Chat, events []event) (comparison, error) {
	cmp := comparer{c: c, s: s, comparison: comparison{chat: chat}}
	seen := c.lasts.get(chat)
	last := events[len(events)-1].seq
	events = withoutOver(events)
	rows := rowsBelow{c: c, chat: chat, before: last + 1, want: len(events) + 1}
	for {
		row, ok, err := rows.next(ctx)
		if err != nil {
			return cmp.comparison, err
		}
		for len(events) > 0 && (!ok || events[len(events)-1].seq > row.Seq) {
			cmp.missingRow(events[len(events)-1])
			events = events[:len(events)-1]
		}
		if !ok {
			break
		}
		if n := len(events); n > 0 && events[n-1].seq == row.Seq {
			cmp.compare(row, events[n-1])
			events = events[:n-1]
			continue
		}
		if len(events) == 0 {
			met, err := c.isBefore(ctx, s, w, chat, row.Seq, seen)
			if err != nil {
				return cmp.comparison, err
			}
			if met {
				break
			}
		}
		if !isOver(row.Expires) {
			cmp.extra = append(cmp.extra, row.Seq)
		}
	}
	return cmp.comparison, cmp.addExtra(ctx)
}

// isBefore tells whether a row below a chat's events in a window is one that the
// log has, or is older than the log.
func (c *Checker) isBefore(ctx context.Context, s *shard, w window, chat schemas.Chat, seq, seen uint64) (bool, error) {
	switch {
	case seq < s.first || seq <= seen:
		return true, nil
	case seq >= w.from:
		return false, nil
	}
	return c.inLog(ctx, s, chat, seq)
}

// inLog tells whether the log has an event of chat at seq.
func (c *Checker) inLog(ctx context.Context, s *shard, chat schemas.Chat, seq uint64) (bool, error) {
	return again(ctx, c.cfg.RetryWithin, func() (bool, error) {
		msgs, _, err := c.cfg.Log.Span(ctx, s.shard, seq, seq, 1, 1)
		if err != nil || len(msgs) == 0 {
			return false, err
		}
		of, ok := streams.TimelineChat(msgs[0].Subject)
		return ok && of == chat, nil
	})
}

// comparer keeps what comparing a chat finds.
type comparer struct {
	comparison
	c     *Checker
	s     *shard
	extra []uint64 // rows without an event
}

func (cmp *comparer) find(kind Kind, seq uint64, format string, args ...any) {
	cmp.findings = append(cmp.findings, Finding{Kind: kind, Shard: cmp.s.shard.Token, Chat: cmp.chat, Seq: seq, Text: fmt.Sprintf(format, args...)})
}

func (cmp *comparer) missingRow(e event) {
	ev, err := schemas.DecodeEvent(e.data)
	if err == nil {
		cmp.leaveOut(ev)
	}
	if cmp.c.letters.has(cmp.s.shard, e.seq) {
		cmp.givenUp++
		return
	}
	cmp.missing = true
	if err != nil {
		cmp.find(Missing, e.seq, "the event is unreadable (%v), and it is not in the stream %s", err, streams.DeadStream)
		return
	}
	cmp.find(Missing, e.seq, "the log has the event, the store does not")
}

// compare finds in what a row differs from its event.
func (cmp *comparer) compare(row store.Event, e event) {
	cmp.compared++
	cmp.newest = max(cmp.newest, e.seq)
	var wrong []string
	differs := func(what string, is bool) {
		if is {
			wrong = append(wrong, what)
		}
	}
	differs("event", !isContent(&row, e.data))
	differs("time", !row.Time.Equal(e.time))
	if ev, err := schemas.DecodeEvent(e.data); err == nil {
		differs("type", row.Type != ev.Type)
		differs("author", row.Author != ev.From)
		differs("id", row.ID != ev.ID)
		cmp.take(&row, e, ev)
	}
	if len(wrong) > 0 {
		cmp.find(Different, e.seq, "the row's %s differs from the event's", strings.Join(wrong, ", "))
	}
}

// addExtra reports the rows without an event, but for those that the log's
// beginning has passed by now.
func (cmp *comparer) addExtra(ctx context.Context) error {
	if len(cmp.extra) == 0 {
		return nil
	}
	first, _, err := cmp.c.bounds(ctx, cmp.s.shard)
	if err != nil {
		return err
	}
	for _, seq := range cmp.extra {
		if seq >= first {
			cmp.find(Extra, seq, "the store has the row, the log does not have the event")
		}
	}
	return nil
}

// rowsPerRead bounds the rows of one read; pages are bounded in bytes too.
const rowsPerRead = 1000

// rowsBelow are a chat's rows below a seq, the highest first.
type rowsBelow struct {
	c      *Checker
	chat   schemas.Chat
	before uint64
	want   int // how many are likely to be taken: no more are read at first

	page []store.Event
	end  bool // the page is the last
}

// next returns the next lower row; ok is false where there is none.
func (r *rowsBelow) next(ctx context.Context) (row store.Event, ok bool, err error) {
	if len(r.page) == 0 && !r.end {
		if err := r.read(ctx); err != nil {
			return row, false, err
		}
	}
	if len(r.page) == 0 {
		return row, false, nil
	}
	row = r.page[len(r.page)-1]
	r.page = r.page[:len(r.page)-1]
	return row, true, nil
}

func (r *rowsBelow) read(ctx context.Context) error {
	limit := min(r.want, rowsPerRead)
	if limit <= 0 {
		limit = 100
	}
	page, more, err := r.c.page(ctx, r.chat, store.Range{Before: r.before, Limit: limit})
	if err != nil {
		return err
	}
	r.want -= len(page)
	// A row that is in a wrong bucket can come out of order: no page goes up again.
	if r.end = !more || len(page) == 0 || page[0].Seq >= r.before; len(page) > 0 {
		r.before = page[0].Seq
	}
	r.page = page
	return nil
}

func (c *Checker) page(ctx context.Context, chat schemas.Chat, r store.Range) (events []store.Event, more bool, err error) {
	type page struct {
		events []store.Event
		more   bool
	}
	p, err := again(ctx, c.cfg.RetryWithin, func() (p page, err error) {
		p.events, p.more, err = c.cfg.Store.Page(ctx, chat, r)
		return p, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read rows of %s: %w", chat, err)
	}
	return p.events, p.more, nil
}
