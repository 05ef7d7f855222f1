package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"parley/schemas"
)

// fold is what the log's tail makes of an answer: the events that it adds, and
// what it changes of those that are stored. Its rules are those by which persist
// changes rows, so that an answer is the same before and after the tail is stored.
//
// Its memory is bounded by a page and by Config.TailEventsMax: of a tail event
// that is in no page only what a delete needs to know is kept.
type fold struct {
	q      *question
	now    time.Time
	stored *stored

	changed map[int]*draft // of the stored page, by index
	tail    []*draft       // what the tail adds to the page, rising
	bytes   int            // of its events as the log has them
	dropped bool           // the tail has more than the page may take

	messages []message // all of the tail, rising
	deletes  map[uint64]moment
}

// draft is an item that the tail brings or changes, before it is encoded.
type draft struct {
	item
	target  uint64         // of an edit
	body    jsontext.Value // the last edit's in the tail; nil: the event has it
	emptied bool           // an edit of what was deleted
	reacted []reaction     // by rising seq
	text    []byte         // nil until it is encoded
}

// message is what is to be known of a message in order to show its edits.
type message struct {
	seq     uint64
	author  schemas.User
	expires time.Time
	deleted uint64 // seq of the delete
}

// moment is when an event came.
type moment struct {
	seq  uint64
	time time.Time
}

// at tells whether an event at time finds the message.
func (m *message) at(t time.Time) bool { return m.expires.IsZero() || t.Before(m.expires) }

// visit takes the next event of the tail.
func (f *fold) visit(ev schemas.StoredEvent, decoded *schemas.Event) {
	if decoded.HasTarget() && decoded.Target < ev.Seq {
		f.change(ev, decoded)
	}
	expires, _ := decoded.Expires(ev.Time)
	switch decoded.Type {
	case schemas.Message:
		f.messages = append(f.messages, message{seq: ev.Seq, author: decoded.From, expires: expires})
	case schemas.Edit: // what it says does not outlive the message
		if m, _ := f.known(decoded.Target); m != nil && m.takes(decoded.From, ev, f.deletes[decoded.Target]) {
			expires = m.expires
		}
	}
	if !f.q.shows(ev.Seq) {
		return
	}
	d := &draft{target: decoded.Target, item: item{
		seq: ev.Seq, prev: ev.Prev, n: ev.N, time: ev.Time, expires: expires,
		kind: decoded.Type, author: decoded.From, event: ev.JSON,
	}}
	if d.gone(f.now) {
		return
	}
	if f.q.showsFormer(d.kind, d.author) {
		d.bodies = []schemas.FormerBody{{Seq: d.seq, Time: d.time, Body: decoded.Body}}
	}
	f.add(d)
}

// add keeps what a page can hold and some more, however long the tail is.
func (f *fold) add(d *draft) {
	if f.q.forward {
		full := len(f.stored.page.items)+len(f.tail) == f.q.limit || f.bytes > schemas.PageBytesMax
		if f.dropped = f.dropped || full || f.stored.more; f.dropped {
			return
		}
	}
	f.tail = append(f.tail, d)
	f.bytes += len(d.event)
	if !f.q.forward && (len(f.tail) > 2*f.q.limit || f.bytes > 2*schemas.PageBytesMax) {
		f.trim()
	}
}

// trim leaves of the tail what the newest page can hold.
func (f *fold) trim() {
	r := newRoom(f.q.limit)
	keep := len(f.tail)
	for keep > 0 && r.take(len(f.tail[keep-1].event), keep == len(f.tail)) {
		keep--
	}
	if keep > 0 {
		f.dropped = true
		f.tail = slices.Delete(f.tail, 0, keep)
		f.bytes = schemas.PageBytesMax - r.bytes
	}
}

// change does to an item of the page what an event says.
func (f *fold) change(ev schemas.StoredEvent, decoded *schemas.Event) {
	if decoded.Type == schemas.Delete {
		f.noteDelete(decoded.Target, moment{ev.Seq, ev.Time})
	}
	d := f.message(decoded.Target)
	if d == nil {
		return
	}
	switch decoded.Type {
	case schemas.Edit:
		if d.deleted == 0 && decoded.From == d.author && ev.Seq > d.edited {
			d.edit(ev, decoded.Body)
		}
	case schemas.Delete:
		d.deleted = cmp.Or(d.deleted, ev.Seq)
	case schemas.React:
		d.reacted = append(d.reacted, reaction{decoded.Emoji, decoded.From, ev.Seq, !decoded.Remove})
	case schemas.Pin:
		d.pinned = !decoded.Remove
	}
}

func (d *draft) edit(ev schemas.StoredEvent, body jsontext.Value) {
	d.edited, d.body = ev.Seq, body
	if d.bodies == nil {
		return
	}
	d.bodies = slices.Delete(d.bodies, 0, keptBodies(d.bodies, schemas.PageBytesMax))
	d.bodies = append(d.bodies, schemas.FormerBody{Seq: ev.Seq, Time: ev.Time, Body: body})
}

// message returns the message at seq, where the page has it, to be changed.
func (f *fold) message(seq uint64) *draft {
	if seq > f.stored.head.LastSeq {
		at, ok := slices.BinarySearchFunc(f.tail, seq, func(d *draft, seq uint64) int { return cmp.Compare(d.seq, seq) })
		if !ok || f.tail[at].kind != schemas.Message {
			return nil
		}
		return f.tail[at]
	}
	at, ok := f.stored.page.index(seq)
	if !ok || f.stored.page.items[at].kind != schemas.Message {
		return nil
	}
	return f.copy(at)
}

// copy returns the stored item at an index, to be changed: others may read the page.
func (f *fold) copy(at int) *draft {
	if d := f.changed[at]; d != nil {
		return d
	}
	if f.changed == nil {
		f.changed = make(map[int]*draft)
	}
	d := &draft{item: f.stored.page.items[at]}
	f.changed[at] = d
	if d.bodies == nil && d.deleted == 0 && f.q.showsFormer(d.kind, d.author) {
		if ev, err := schemas.DecodeEvent(d.event); err == nil { // else an edit hides what it said
			d.bodies = []schemas.FormerBody{{Seq: d.seq, Time: d.time, Body: ev.Body}}
		}
	}
	return d
}

// noteDelete remembers the first delete of a target, which the page may not have:
// it may have its edits.
func (f *fold) noteDelete(target uint64, when moment) {
	if _, ok := f.deletes[target]; ok {
		return
	}
	if f.deletes == nil {
		f.deletes = make(map[uint64]moment)
	}
	f.deletes[target] = when
}

// emptyEdits takes their bodies from the page's edits of messages that were
// deleted. An edit may be shown whose message is not: those are looked up, in one
// read, and only where the tail has the edit or the delete.
func (s *Service) emptyEdits(ctx context.Context, f *fold) error {
	edits, err := f.edits()
	if err != nil || len(edits) == 0 {
		return err
	}
	known := make(map[uint64]*message)
	var unknown []uint64
	for _, d := range edits {
		if _, ok := known[d.target]; ok {
			continue
		}
		m, ok := f.known(d.target)
		if known[d.target] = m; !ok {
			unknown = append(unknown, d.target)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		rows, err := s.cfg.Store.Events(ctx, f.q.chat, unknown)
		if err != nil {
			return fmt.Errorf("read %d edited events of %s: %w", len(unknown), f.q.chat, err)
		}
		for i := range rows {
			if row := &rows[i]; row.Type == schemas.Message {
				known[row.Seq] = &message{row.Seq, row.Author, row.Expires, row.State.Deleted}
			}
		}
	}
	for _, d := range edits {
		if m := known[d.target]; m != nil {
			d.emptied = m.empties(d, f.deletes[d.target])
		}
	}
	return nil
}

// edits returns the page's edits that may have to be emptied: those of the tail,
// and the stored ones of what the tail deletes.
func (f *fold) edits() (edits []*draft, err error) {
	for at := range f.stored.page.items {
		it := &f.stored.page.items[at]
		if len(f.deletes) == 0 || it.kind != schemas.Edit {
			continue
		}
		ev, err := schemas.DecodeEvent(it.event)
		if err != nil {
			return nil, fmt.Errorf("read event %d of %s: %w", it.seq, f.q.chat, err)
		}
		if _, ok := f.deletes[ev.Target]; ok {
			d := f.copy(at)
			d.target = ev.Target
			edits = append(edits, d)
		}
	}
	for _, d := range f.tail {
		if d.kind == schemas.Edit && d.target < d.seq {
			edits = append(edits, d)
		}
	}
	return edits, nil
}

// known returns the message at seq where the page or the tail has it; ok is false
// where only the store can tell.
func (f *fold) known(seq uint64) (m *message, ok bool) {
	if seq > f.stored.head.LastSeq {
		at, ok := slices.BinarySearchFunc(f.messages, seq, func(m message, seq uint64) int { return cmp.Compare(m.seq, seq) })
		if !ok {
			return nil, true // not a message
		}
		return &f.messages[at], true
	}
	at, ok := f.stored.page.index(seq)
	if !ok {
		return nil, false
	}
	it := &f.stored.page.items[at]
	if it.kind != schemas.Message {
		return nil, true
	}
	return &message{it.seq, it.author, it.expires, it.deleted}, true
}

// takes tells whether the message takes an edit by a user: inTail is the first
// delete of it in the tail.
func (m *message) takes(by schemas.User, edit schemas.StoredEvent, inTail moment) bool {
	deleted := m.deletedAt(inTail)
	return by == m.author && m.at(edit.Time) && (deleted == 0 || deleted > edit.Seq)
}

// empties tells whether an edit of the message has lost its body by a delete:
// each that came later has, and before those that the message took.
func (m *message) empties(edit *draft, inTail moment) bool {
	deleted := m.deletedAt(inTail)
	if deleted == 0 || !m.at(edit.time) {
		return false
	}
	return deleted < edit.seq || edit.author == m.author
}

// deletedAt returns the seq of the delete that counts, 0 without one: that which
// is stored, or the first of the tail.
func (m *message) deletedAt(inTail moment) uint64 {
	if m.deleted == 0 && inTail.seq > 0 && m.at(inTail.time) {
		return inTail.seq
	}
	return m.deleted
}

// finish encodes a draft.
func (s *Service) finish(ctx context.Context, f *fold, d *draft) (err error) {
	if d.text != nil {
		return nil
	}
	switch {
	case d.deleted > 0 || d.emptied:
		d.event, err = schemas.Blank(d.event)
	case d.body != nil:
		d.event, err = schemas.WithBody(d.event, d.body)
	}
	if err == nil && d.deleted == 0 && len(d.reacted) > 0 {
		err = s.react(ctx, f, d)
	}
	if err == nil {
		d.text, _, err = d.append(nil)
	}
	if err != nil {
		return fmt.Errorf("fold event %d of %s: %w", d.seq, f.q.chat, err)
	}
	return nil
}
