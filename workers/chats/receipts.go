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
	page, refused := s.membersOf(ctx, by, ask.Chat, ask.Cursor, pageLimit(ask.Limit, schemas.ReceiptsDefault, schemas.ReceiptsMax))
	if refused != nil {
		return nil, refused
	}
	known, err := s.toldTo(ctx, by, ask.Chat, &page)
	if err != nil {
		return nil, s.unavailable("read receipts", err)
	}
	answer := receiptsAnswer{Chat: ask.Chat, Receipts: make([]schemas.Receipt, len(page.members)), Cursor: page.cursor}
	for i := range page.members {
		answer.Receipts[i] = known.of(&page.members[i])
	}
	return answer, nil
}

// toldTo is what an asker may know of users in a chat.
type toldTo struct {
	by         schemas.User
	rows       map[schemas.User]store.Receipt
	others     []schemas.User // with whom the asker does not talk, by rising name
	hidesReads bool           // the asker does: what others have read it is not told
	few        bool           // the chat has no more members than are told what was delivered
}

func (s *Service) toldTo(ctx context.Context, by schemas.User, chat schemas.Chat, page *membersPage) (*toldTo, error) {
	known := &toldTo{by: by, few: page.count <= schemas.DeliveredMembersMax}
	users := make([]schemas.User, len(page.members))
	for i := range page.members {
		users[i] = page.members[i].User
	}
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
func (k *toldTo) of(m *schemas.ChatMember) schemas.Receipt {
	shown := k.shown(m.User, k.rows[m.User])
	shown.Delivered, shown.Read = max(shown.Delivered, m.Since), max(shown.Read, m.Since)
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
