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
	page, since, more, err := s.membersOf(ctx, by, ask.Chat, place.After, limit)
	if err != nil {
		return nil, s.unavailable("read group", err)
	}
	known, err := s.toldTo(ctx, by, ask.Chat, page)
	if err != nil {
		return nil, s.unavailable("read receipts", err)
	}
	known.since = since
	answer := receiptsAnswer{Chat: ask.Chat, Receipts: make([]schemas.Receipt, len(page))}
	for i, user := range page {
		answer.Receipts[i] = known.of(user)
	}
	if more {
		answer.Cursor = newCursor(s.cfg.Now(), membersPlace{After: page[limit-1]})
	}
	return answer, nil
}

// since is when the members of a group came in, of a page of them.
type since struct {
	seqs map[schemas.User]uint64 // nil: the chat is direct
	few  bool                    // it has no more members than are told what was delivered
}

// membersOf returns up to limit members of a chat above after, by rising name. Who
// asks has to be one of them.
func (s *Service) membersOf(ctx context.Context, by schemas.User, chat schemas.Chat, after schemas.User, limit int) (page []schemas.User, in since, more bool, err error) {
	if a, b, direct := chat.Users(); direct {
		if !chat.HasDirectMember(by) {
			return nil, in, false, notMember(by, chat)
		}
		page, more = namesAbove(slices.Compact([]schemas.User{a, b}), after, limit)
		return page, since{few: true}, more, nil
	}
	err = s.groups.use(ctx, chat, func(g *group) error {
		if !g.role(by).In() {
			return notMember(by, chat)
		}
		page, more = namesAbove(g.names(), after, limit)
		page = slices.Clone(page)
		in = since{seqs: make(map[schemas.User]uint64, len(page)), few: g.count <= schemas.DeliveredMembersMax}
		for _, user := range page {
			in.seqs[user] = g.members[user].since
		}
		return nil
	})
	return page, in, more, err
}

// toldTo is what an asker may know of users in a chat.
type toldTo struct {
	by         schemas.User
	rows       map[schemas.User]store.Receipt
	others     []schemas.User // with whom the asker does not talk, by rising name
	hidesReads bool           // the asker does: what others have read it is not told
	since                     // of whom
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
// group no more than that is told of what was delivered. What was said before it came
// in, nobody waits for it to read.
func (k *toldTo) of(user schemas.User) schemas.Receipt {
	row, in := k.rows[user], k.seqs[user]
	shown := k.shown(user, row)
	shown.Delivered, shown.Read = max(shown.Delivered, in), max(shown.Read, in)
	return shown
}

func (k *toldTo) shown(user schemas.User, row store.Receipt) schemas.Receipt {
	shown := schemas.Receipt{User: user}
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
