package chats

import (
	"context"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// end is a chat's end: what is stored, and what the log has behind it.
type end struct {
	by      schemas.User // who asks
	now     time.Time
	row     store.UserChat // its role and its mark are moved on
	name    string
	members uint64
	seq     uint64 // of the chat's last event, which may have disappeared
	prev    uint64
	time    time.Time
	n       uint64
	last    schemas.Item // the last that has not disappeared; without JSON where that is not at hand
}

// showOne makes one item of a list; nil where the user is not in the chat.
func (s *Service) showOne(ctx context.Context, by schemas.User, l *listed) (*schemas.ListChat, error) {
	sum := &l.summary
	e := end{
		by: by, now: s.cfg.Now(), row: l.row, name: sum.Name, members: sum.Members,
		seq: sum.LastSeq, prev: sum.Prev, time: sum.LastTime, n: sum.LastN,
	}
	e.show(sum.Last, sum.Cut) // the store has left out what has disappeared
	if l.last.Seq > sum.LastSeq {
		if err := s.readEnd(ctx, l.row.Chat, l.last, &e); err != nil {
			return nil, err
		}
	}
	if !e.row.Role.In() || e.seq == 0 {
		return nil, nil
	}
	if len(e.last.JSON) == 0 {
		if err := s.readLast(ctx, &e); err != nil {
			return nil, err
		}
	}
	shown := &schemas.ListChat{
		Chat: e.row.Chat, Last: e.last, Unread: e.n - min(e.n, e.row.ReadN),
		Read: e.row.Read, Delivered: max(e.row.Delivered, e.row.Read),
	}
	if e.row.Chat.Kind() == schemas.Group {
		shown.Name, shown.Members, shown.Role = e.name, e.members, e.row.Role
	}
	return shown, nil
}

// readEnd folds what the log has of a chat behind the stored end. What cannot be
// read counts as nothing, as in persist.
func (s *Service) readEnd(ctx context.Context, chat schemas.Chat, last schemas.StoredEvent, e *end) error {
	at, walked := e.seq, 0
	for at < last.Seq && walked < tailEventsMax {
		events, _, err := s.cfg.Log.After(ctx, chat, at, tailChunkEvents, tailChunkBytes)
		if err != nil {
			return err
		}
		if len(events) == 0 { // it disappeared, or a replica lags: the list may, for a second
			return nil
		}
		for i := range events {
			at = events[i].Seq
			if err := e.fold(&events[i]); err != nil {
				return err
			}
		}
		walked += len(events)
	}
	return nil
}

func (e *end) fold(stored *schemas.StoredEvent) error {
	ev, err := schemas.DecodeEvent(stored.JSON)
	if err != nil {
		return nil
	}
	e.seq, e.prev, e.time = stored.Seq, e.seq, stored.Time
	if ev.Type == schemas.Message {
		e.n++
		if ev.From == e.by {
			e.read()
		}
	}
	if ev.Type == schemas.GroupEvent {
		e.name = ev.Name
	}
	if ev.ChangesGroup() {
		e.members = ev.Count
	}
	for user, role := range ev.Roles() {
		if user != e.by {
			continue
		}
		if e.row.Role = role; ev.Joins() && e.n > 0 { // what came before counts as read
			e.read()
		}
	}
	if at, disappears := ev.Expires(stored.Time); disappears && !e.now.Before(at) {
		return nil
	}
	short, cut, err := schemas.CutEvent(stored.JSON)
	if err != nil {
		return err
	}
	e.show(short, cut)
	return nil
}

// read moves the user's mark to the chat's last event, if it is not beyond: who has
// read the chat elsewhere may be ahead of what is folded here.
func (e *end) read() {
	if e.seq > e.row.Read {
		e.row.Read, e.row.ReadN = e.seq, e.n
	}
}

// show takes the chat's last event as the one to be shown.
func (e *end) show(short []byte, cut bool) {
	e.last = schemas.Item{StoredEvent: schemas.StoredEvent{Seq: e.seq, Prev: e.prev, Time: e.time, N: e.n, JSON: short}, Cut: cut}
}

// readLast takes the newest stored event that has not disappeared. Where there is
// none, nothing of the last one is left but its place: that is a direct chat's. In
// a group one's own coming in stays, so that it is nothing from before that either.
func (s *Service) readLast(ctx context.Context, e *end) error {
	events, _, err := s.cfg.Store.Page(ctx, e.row.Chat, store.Range{Limit: 1})
	if err != nil {
		return err
	}
	if len(events) == 0 {
		e.show(e.vanished(), false)
		e.last.Deleted = true
		return nil
	}
	ev := &events[0]
	shown, err := ev.Shown()
	if err != nil {
		return err
	}
	short, cut, err := schemas.CutEvent(shown)
	if err != nil {
		return err
	}
	e.last = schemas.Item{
		StoredEvent: schemas.StoredEvent{Seq: ev.Seq, Prev: ev.Prev, Time: ev.Time, N: ev.N, JSON: short},
		Edited:      ev.State.Edited, Deleted: ev.State.Deleted != 0, Pinned: ev.State.Pinned, Cut: cut,
	}
	return nil
}

// vanished stands for a message of which nothing is known any more. An event has
// an id and an author: those here are as good as any.
func (e *end) vanished() []byte {
	from := e.by
	if a, b, direct := e.row.Chat.Users(); direct {
		if from = a; a == e.by {
			from = b
		}
	}
	return []byte(`{"type":"` + string(schemas.Message) + `","id":"expired","from":"` + from.String() + `","body":{}}`)
}
