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
	// tailEventsMax bounds what is read of one chat's end: past it the list shows
	// the chat as it was then.
	tailEventsMax = 20_000
	// tailChunkEvents and tailChunkBytes bound one read of a chat's end.
	tailChunkEvents = 1000
	tailChunkBytes  = 1 << 20
)

// chatsAnswer is the frame chats without its t and ref.
type chatsAnswer struct {
	Chats  []schemas.ListChat `json:"chats"`
	Cursor string             `json:"cursor,omitzero"`
}

// listed is a chat on its way into a list.
type listed struct {
	row     store.UserChat
	at      time.Time           // when something happened last, as far as the log tells: its place
	last    schemas.StoredEvent // in the log; Seq is 0 where it holds nothing
	summary store.Summary       // in the store
	read    bool                // summary was
}

// chats answers a page of a user's chats. It costs three reads of the user's rows,
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
		answer.Cursor = newCursor(s.cfg.Now(), chatsPlace{Time: last.at.UnixNano(), Chat: last.row.Chat})
	}
	return answer, nil
}

// listed returns all of a user's chats with when something happened last.
func (s *Service) listed(ctx context.Context, by schemas.User) ([]*listed, error) {
	rows, err := s.cfg.Store.UserChats(ctx, by, store.AnyKind, userChatsMax)
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
		last := lasts[rows[i].Chat]
		if all[i] = (&listed{row: rows[i], at: last.Time, last: last}); last.Seq == 0 {
			quiet = append(quiet, all[i])
		}
	}
	if err := s.summarize(ctx, quiet); err != nil {
		return nil, err
	}
	for _, l := range quiet {
		l.at = l.summary.LastTime
	}
	return all, nil
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
	return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.row.Chat.String(), b.row.Chat.String()))
}

// firstBehind is where a list goes on behind a place.
func firstBehind(all []*listed, place chatsPlace) int {
	return slices.IndexFunc(append(slices.Clone(all), nil), func(l *listed) bool {
		if l == nil {
			return true
		}
		at := l.at.UnixNano()
		return at < place.Time || at == place.Time && l.row.Chat.String() > place.Chat.String()
	})
}

// show makes the items of a page. The user's marks are read behind the heads: what
// a head counts that the user sent itself, its mark is beyond. Chats that the user
// is not in any more are left out.
func (s *Service) show(ctx context.Context, by schemas.User, page []*listed) ([]schemas.ListChat, error) {
	if err := s.summarize(ctx, page); err != nil {
		return nil, err
	}
	if err := s.readMarks(ctx, by, page); err != nil {
		return nil, err
	}
	settings, err := s.cfg.Store.Settings(ctx, by)
	if err != nil {
		return nil, err
	}
	shown := make([]*schemas.ListChat, len(page))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tailsMax)
	for i, l := range page {
		group.Go(func() (err error) {
			shown[i], err = s.showOne(ctx, by, l)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	list := make([]schemas.ListChat, 0, len(page))
	for i, chat := range shown {
		if chat != nil {
			applySetting(chat, settings[page[i].row.Chat], s.cfg.Now())
			list = append(list, *chat)
		}
	}
	return list, nil
}

// readMarks reads the rows of a page's chats again.
func (s *Service) readMarks(ctx context.Context, by schemas.User, page []*listed) error {
	rows, err := s.cfg.Store.UserChats(ctx, by, store.AnyKind, userChatsMax)
	if err != nil {
		return err
	}
	byChat := make(map[schemas.Chat]*store.UserChat, len(rows))
	for i := range rows {
		byChat[rows[i].Chat] = &rows[i]
	}
	for _, l := range page {
		if row, ok := byChat[l.row.Chat]; ok {
			l.row = *row
		} else {
			l.row.Role = schemas.Left
		}
	}
	return nil
}

func applySetting(shown *schemas.ListChat, setting store.Setting, now time.Time) {
	shown.Pinned, shown.Archived = setting.Pinned, setting.Archived
	if setting.Muted && (setting.MutedUntil.IsZero() || setting.MutedUntil.After(now)) {
		shown.Muted, shown.MutedUntil = true, setting.MutedUntil
	}
}
