package chats

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// receiptsAnswer is the frame receipts without its t and ref.
type receiptsAnswer struct {
	Chat     schemas.Chat      `json:"chat"`
	Receipts []schemas.Receipt `json:"receipts"`
	Cursor   string            `json:"cursor,omitzero"`
}

// receipts answers how far the members of a chat have got, as far as they have told
// and the asker may know. Of who has told nothing there are zeros.
func (s *Service) receipts(ctx context.Context, request []byte) (any, *schemas.Error) {
	by, ask, refused := schemas.DecodeBy[schemas.Receipts](schemas.TReceipts, request)
	if refused != nil {
		return nil, refused
	}
	var place membersPlace
	if refused := openCursor(ask.Cursor, s.cfg.Now(), &place); refused != nil {
		return nil, refused
	}
	limit := pageLimit(ask.Limit, schemas.ReceiptsDefault, schemas.ReceiptsMax)
	page, more, count, err := s.namesOf(ctx, by, ask.Chat, place.After, limit)
	if err != nil {
		return nil, s.unavailable("read group", err)
	}
	known, err := s.toldTo(ctx, by, ask.Chat, page)
	if err != nil {
		return nil, s.unavailable("read receipts", err)
	}
	known.few = ask.Chat.Kind() == schemas.Direct || count <= schemas.DeliveredMembersMax
	answer := receiptsAnswer{Chat: ask.Chat, Receipts: make([]schemas.Receipt, len(page))}
	for i, user := range page {
		answer.Receipts[i] = known.of(user)
	}
	if more {
		answer.Cursor = newCursor(s.cfg.Now(), membersPlace{After: page[limit-1]})
	}
	return answer, nil
}

// namesOf returns up to limit members of a chat above after, by rising name, and how
// many it has. Who asks has to be one of them.
func (s *Service) namesOf(ctx context.Context, by schemas.User, chat schemas.Chat, after schemas.User, limit int) (page []schemas.User, more bool, count uint64, err error) {
	if a, b, direct := chat.Users(); direct {
		if !chat.HasDirectMember(by) {
			return nil, false, 0, notMember(by, chat)
		}
		names := slices.Compact([]schemas.User{a, b})
		page, more = namesAbove(names, after, limit)
		return page, more, uint64(len(names)), nil
	}
	err = s.groups.use(ctx, chat, func(g *group) error {
		if !g.role(by).In() {
			return notMember(by, chat)
		}
		page, more = namesAbove(g.names(), after, limit)
		page, count = slices.Clone(page), g.count
		return nil
	})
	return page, more, count, err
}

// toldTo is what an asker may know of users in a chat.
type toldTo struct {
	by         schemas.User
	rows       map[schemas.User]store.Receipt
	others     []schemas.User // with whom the asker does not talk, by rising name
	hidesReads bool           // the asker does: what others have read it is not told
	few        bool           // the chat has no more members than are told what was delivered
}

func (s *Service) toldTo(ctx context.Context, by schemas.User, chat schemas.Chat, users []schemas.User) (*toldTo, error) {
	known := &toldTo{by: by}
	reads, ctx := errgroup.WithContext(ctx)
	reads.Go(func() (err error) {
		known.rows, err = s.cfg.Store.Receipts(ctx, chat, users)
		return err
	})
	reads.Go(func() (err error) {
		known.others, err = s.cfg.Store.Blocks(ctx, by)
		return err
	})
	reads.Go(func() error {
		profiles, err := s.cfg.Store.Profiles(ctx, []schemas.User{by})
		known.hidesReads = profiles[by].HidesReads
		return err
	})
	return known, reads.Wait()
}

// of returns how far a user has got. What was read was delivered, and of a large
// group no more than that is told of what was delivered.
func (k *toldTo) of(user schemas.User) schemas.Receipt {
	row, shown := k.rows[user], schemas.Receipt{User: user}
	if _, blocked := slices.BinarySearchFunc(k.others, user, compareUsers); blocked {
		return shown
	}
	if user == k.by || !k.hidesReads {
		shown.Read = row.Read
	}
	if shown.Delivered = shown.Read; k.few {
		shown.Delivered = max(row.Delivered, row.Read)
	}
	return shown
}
