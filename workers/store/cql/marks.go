package cql

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// A mark and when a user was seen last are their own stamps.
const (
	insertUserDelivered = "INSERT INTO chats_by_user (user, chat, delivered) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertDelivered     = "INSERT INTO receipts (chat, user, delivered) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertRead          = "INSERT INTO receipts (chat, user, read) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertSeen          = "INSERT INTO users (user, last_seen) VALUES (?, ?) USING TIMESTAMP ?"

	selectReceipts = "SELECT user, delivered, read FROM receipts WHERE chat = ? AND user IN ?"
	selectSeen     = "SELECT user, last_seen FROM users WHERE user IN ?"
)

// Mark stores how far users have got. It may be given again, in any order: what is
// higher stays. It returns store.ErrBatch where nothing of it was written, or
// store.ErrUnavailable or the error of ctx where some of it may have been: the same
// call again writes all.
func (s *Store) Mark(ctx context.Context, marks []store.Mark) error {
	if err := store.ValidateMarks(marks); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	byChat, byUser := make(map[schemas.Chat][]statement), make(map[schemas.User][]statement)
	for i := range marks {
		m := &marks[i]
		inReceipts, inChats := rowsOf(m)
		if len(inReceipts) > 0 {
			byChat[m.Chat] = append(byChat[m.Chat], inReceipts...)
		}
		byUser[m.User] = append(byUser[m.User], inChats...)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.WritesMax)
	for _, all := range byChat {
		group.Go(func() error { return s.writePartition(groupCtx, all) })
	}
	for _, all := range byUser {
		group.Go(func() error { return s.writePartition(groupCtx, all) })
	}
	err := group.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return classify(ctx, fmt.Sprintf("store %d marks", len(marks)), err)
}

// rowsOf returns what a mark writes into its chat's receipts and into its user's
// list of chats.
func rowsOf(m *store.Mark) (inReceipts, inChats []statement) {
	user, chat := m.User.String(), m.Chat.String()
	one := func(text string, values ...any) statement {
		return statement{text: text, values: values, bytes: rowBytes}
	}
	if at := int64(m.Delivered); at > 0 {
		inReceipts = append(inReceipts, one(insertDelivered, chat, user, at, at))
		inChats = append(inChats, one(insertUserDelivered, user, chat, at, at))
	}
	if at := int64(m.Read); at > 0 {
		inChats = append(inChats, one(insertUserRead, user, chat, at, int64(m.ReadN), at))
		if m.Told {
			inReceipts = append(inReceipts, one(insertRead, chat, user, at, at))
		}
	}
	return inReceipts, inChats
}

// writePartition writes statements of one partition, a batch after the other.
func (s *Store) writePartition(ctx context.Context, all []statement) error {
	for len(all) > 0 {
		n := batchOf(all)
		if err := s.writeAll(ctx, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// Receipts returns what others are told of users in a chat, of those of whom
// anything is.
func (s *Store) Receipts(ctx context.Context, chat schemas.Chat, users []schemas.User) (map[schemas.User]store.Receipt, error) {
	type receiptRow struct {
		User            string
		Delivered, Read int64
	}
	receipts := make(map[schemas.User]store.Receipt, len(users))
	err := eachOf(ctx, s, users, func(row *receiptRow) error {
		user, err := schemas.ParseUser(row.User)
		receipts[user] = store.Receipt{Delivered: uint64(row.Delivered), Read: uint64(row.Read)}
		return err
	}, selectReceipts, chat.String())
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read receipts of %d users in %s", len(users), chat), err)
	}
	return receipts, nil
}

// SetSeen stores when users were seen last. An earlier time than the stored one
// changes nothing. After an error some of it may be written: the same call again
// writes all.
func (s *Store) SetSeen(ctx context.Context, seen map[schemas.User]time.Time) error {
	if err := store.ValidateSeen(seen); err != nil {
		return fmt.Errorf("set seen: %w", err)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.WritesMax)
	for user, at := range seen {
		micros := at.UnixMicro()
		group.Go(func() error { return s.write(groupCtx, insertSeen, user.String(), micros, micros) })
	}
	err := group.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return classify(ctx, fmt.Sprintf("set when %d users were seen", len(seen)), err)
}

// Seen returns when users were seen last, to the microsecond, of those of whom it is known.
func (s *Store) Seen(ctx context.Context, users []schemas.User) (map[schemas.User]time.Time, error) {
	type seenRow struct {
		User     string
		LastSeen int64
	}
	seen := make(map[schemas.User]time.Time, len(users))
	err := eachOf(ctx, s, users, func(row *seenRow) error {
		user, err := schemas.ParseUser(row.User)
		if row.LastSeen > 0 {
			seen[user] = time.UnixMicro(row.LastSeen).UTC()
		}
		return err
	}, selectSeen)
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read when %d users were seen", len(users)), err)
	}
	return seen, nil
}
