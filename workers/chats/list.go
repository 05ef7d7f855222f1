package chats

import (
	"cmp"
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

const (
	// userChatsMax bounds the chats of one user that its list is made of.
	userChatsMax = 20_000
	// tailsMax bounds the chats whose ends are read from the log at once.
	tailsMax = 16
	// tailEventsMax bounds what is read of one chat's end: past it unread is what
	// the store knows.
	tailEventsMax = 20_000
)

// chatsAnswer is the frame chats without its t and ref.
type chatsAnswer struct {
	Chats  []schemas.ListChat `json:"chats"`
	Cursor string             `json:"cursor,omitzero"`
}

// listed is a chat on its way into a list.
type listed struct {
	row     store.UserChat
	last    schemas.StoredEvent // in the log; Seq is 0 where it holds nothing
	summary store.Summary       // in the store
	read    bool                // summary was
}

// at is when something happened last.
func (l *listed) at() time.Time {
	if l.summary.LastSeq > l.last.Seq {
		return l.summary.LastTime
	}
	return l.last.Time
}

// chats answers a page of a user's chats. It costs two reads of the user's rows,
// a question to each stream for the last events of all chats, and heads for those
// of which the log holds nothing and those on the page, whatever was said in them.
func (s *Service) chats(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, ask, refused := schemas.DecodeBy[schemas.Chats](schemas.TChats, request)
	if refused != nil {
		return nil, refused
	}
	var place chatsPlace
	if refused := openCursor(ask.Cursor, s.cfg.Now(), &place); refused != nil {
		return nil, refused
	}
	all, err := s.listed(ctx, by)
	if err != nil {
		return nil, s.unavailable("list chats", err)
	}
	slices.SortFunc(all, newestFirst)
	if !place.Chat.IsZero() {
		all = all[firstBehind(all, place):]
	}
	limit := pageLimit(ask.Limit, schemas.ChatsDefault, schemas.ChatsMax)
	page := all[:min(limit, len(all))]
	answer := chatsAnswer{}
	if answer.Chats, err = s.show(ctx, by, page); err != nil {
		return nil, s.unavailable("list chats", err)
	}
	if len(page) < len(all) {
		last := page[len(page)-1]
		answer.Cursor = newCursor(s.cfg.Now(), chatsPlace{Time: last.at().UnixNano(), Chat: last.row.Chat})
	}
	return answer, nil
}

// listed returns all of a user's chats with when something happened last.
func (s *Service) listed(ctx context.Context, by schemas.User) ([]*listed, error) {
	rows, err := s.cfg.Store.UserChats(ctx, by, userChatsMax)
	if err != nil {
		return nil, err
	}
	chats := make([]schemas.Chat, len(rows))
	for i := range rows {
		chats[i] = rows[i].Chat
	}
	lasts, err := s.cfg.Log.LastEvents(ctx, chats)
	if err != nil {
		return nil, err
	}
	all := make([]*listed, len(rows))
	var quiet []*listed
	for i := range rows {
		all[i] = &listed{row: rows[i], last: lasts[rows[i].Chat]}
		if all[i].last.Seq == 0 {
			quiet = append(quiet, all[i])
		}
	}
	return all, s.summarize(ctx, quiet)
}

// summarize reads the summaries of those that have none yet.
func (s *Service) summarize(ctx context.Context, chats []*listed) error {
	var names []schemas.Chat
	for _, l := range chats {
		if !l.read {
			names = append(names, l.row.Chat)
		}
	}
	if len(names) == 0 {
		return nil
	}
	summaries, err := s.cfg.Store.Summaries(ctx, names)
	if err != nil {
		return err
	}
	for _, l := range chats {
		if !l.read {
			l.summary, l.read = summaries[l.row.Chat], true
		}
	}
	return nil
}

func newestFirst(a, b *listed) int {
	return cmp.Or(b.at().Compare(a.at()), cmp.Compare(a.row.Chat.String(), b.row.Chat.String()))
}

// firstBehind is where a list goes on behind a place.
func firstBehind(all []*listed, place chatsPlace) int {
	return slices.IndexFunc(append(slices.Clone(all), nil), func(l *listed) bool {
		if l == nil {
			return true
		}
		at := l.at().UnixNano()
		return at < place.Time || at == place.Time && l.row.Chat.String() > place.Chat.String()
	})
}

// show makes the items of a page.
func (s *Service) show(ctx context.Context, by schemas.User, page []*listed) ([]schemas.ListChat, error) {
	if err := s.summarize(ctx, page); err != nil {
		return nil, err
	}
	settings, err := s.cfg.Store.Settings(ctx, by)
	if err != nil {
		return nil, err
	}
	shown := make([]schemas.ListChat, len(page))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tailsMax)
	for i, l := range page {
		group.Go(func() (err error) {
			shown[i], err = s.showOne(ctx, by, l)
			applySetting(&shown[i], settings[l.row.Chat], s.cfg.Now())
			return err
		})
	}
	return shown, group.Wait()
}

func applySetting(shown *schemas.ListChat, setting store.Setting, now time.Time) {
	shown.Pinned, shown.Archived = setting.Pinned, setting.Archived
	if setting.Muted && (setting.MutedUntil.IsZero() || setting.MutedUntil.After(now)) {
		shown.Muted, shown.MutedUntil = true, setting.MutedUntil
	}
}

// end is a chat's end: what is stored, and what the log has behind it.
type end struct {
	last    schemas.Item
	n       uint64
	read    uint64 // the asker's mark
	readN   uint64
	name    string
	members uint64
	role    schemas.Role
}

// showOne makes one item of a list.
func (s *Service) showOne(ctx context.Context, by schemas.User, l *listed) (schemas.ListChat, error) {
	sum, row := &l.summary, &l.row
	e := end{n: sum.LastN, read: row.Read, readN: row.ReadN, name: sum.Name, members: sum.Members, role: row.Role}
	e.last = schemas.Item{
		StoredEvent: schemas.StoredEvent{Seq: sum.LastSeq, Prev: sum.Prev, Time: sum.LastTime, N: sum.LastN, JSON: sum.Last},
		Cut:         sum.Cut,
	}
	if l.last.Seq > sum.LastSeq {
		if err := s.readEnd(ctx, by, row.Chat, sum.LastSeq, l.last, &e); err != nil {
			return schemas.ListChat{}, err
		}
	}
	if gone := !sum.Expires.IsZero() && !sum.Expires.After(s.cfg.Now()); gone && e.last.Seq == sum.LastSeq {
		if err := s.readLast(ctx, row, &e); err != nil {
			return schemas.ListChat{}, err
		}
	}
	shown := schemas.ListChat{Chat: row.Chat, Last: e.last, Unread: e.n - min(e.n, e.readN), Read: e.read}
	if row.Chat.Kind() == schemas.Group {
		shown.Name, shown.Members, shown.Role = e.name, e.members, e.role
	}
	return shown, nil
}

// readEnd folds what the log has of a chat behind the stored end. What cannot be
// read counts as nothing, as in persist.
func (s *Service) readEnd(ctx context.Context, by schemas.User, chat schemas.Chat, after uint64, last schemas.StoredEvent, e *end) error {
	at, walked := after, 0
	for at < last.Seq && walked < tailEventsMax {
		events, _, err := s.cfg.Log.After(ctx, chat, at, tailChunkEvents, tailChunkBytes)
		if err != nil {
			return err
		}
		if len(events) == 0 { // it disappeared, or a replica lags: the list may, for a second
			return nil
		}
		for i := range events {
			e.fold(by, &events[i])
			at = events[i].Seq
		}
		walked += len(events)
	}
	return nil
}

func (e *end) fold(by schemas.User, stored *schemas.StoredEvent) {
	ev, err := schemas.DecodeEvent(stored.JSON)
	if err != nil {
		return
	}
	if ev.Type == schemas.Message {
		e.n++
		if ev.From == by {
			e.read, e.readN = stored.Seq, e.n
		}
	}
	if ev.Type == schemas.GroupEvent {
		e.name = ev.Name
	}
	if ev.Type == schemas.GroupEvent || ev.Type == schemas.MemberEvent {
		e.members = ev.Count
	}
	for user, role := range ev.Roles() {
		if user != by {
			continue
		}
		if e.role = role; ev.Joins() {
			e.read, e.readN = stored.Seq, e.n
		}
	}
	short, cut, err := schemas.CutEvent(stored.JSON)
	if err != nil {
		return
	}
	e.last = schemas.Item{StoredEvent: schemas.StoredEvent{Seq: stored.Seq, Prev: e.last.Seq, Time: stored.Time, N: e.n, JSON: short}, Cut: cut}
}

// readLast takes the newest event that has not disappeared, as far as the user may
// read it. Where there is none, nothing of the last one is left but its place.
func (s *Service) readLast(ctx context.Context, row *store.UserChat, e *end) error {
	events, _, err := s.cfg.Store.Page(ctx, row.Chat, store.Range{Limit: 1})
	if err != nil {
		return err
	}
	if len(events) > 0 && events[0].Seq >= row.From {
		ev := &events[0]
		short, cut, err := schemas.CutEvent(shownJSON(ev))
		if err != nil {
			return err
		}
		e.last = schemas.Item{
			StoredEvent: schemas.StoredEvent{Seq: ev.Seq, Prev: ev.Prev, Time: ev.Time, N: ev.N, JSON: short},
			Edited:      ev.State.Edited, Deleted: ev.State.Deleted != 0, Pinned: ev.State.Pinned, Cut: cut,
		}
		return nil
	}
	e.last.Deleted, e.last.Cut = true, false
	e.last.JSON, err = schemas.Blank(e.last.JSON)
	return err
}

// shownJSON is an event with its current body.
func shownJSON(ev *store.Event) []byte {
	if ev.State.Edited != 0 && ev.State.Deleted == 0 {
		if text, err := schemas.WithBody(ev.JSON, ev.State.Body); err == nil {
			return text
		}
	}
	return ev.JSON
}
