package cql

import (
	"context"
	"fmt"

	"parley/schemas"
	"parley/workers/store"
)

const (
	selectMembers   = "SELECT user, role, since, visible FROM members_by_chat WHERE chat = ? AND user > ? LIMIT ?"
	selectUserChats = "SELECT chat, role, since, visible, read, read_n, delivered FROM chats_by_user WHERE user = ? AND chat >= ? AND chat < ?"
)

// listRows bounds what one request brings of rows that are small.
const listRows = 1000

// each calls fn with each row of a statement, read into a new one every time,
// until it returns false or an error.
func each[Row any](ctx context.Context, s *Store, fn func(*Row) (bool, error), text string, values ...any) error {
	q, err := s.read(ctx, text, values...)
	if err != nil {
		return err
	}
	defer q.Release()
	iter := q.PageSize(listRows).Iter()
	for {
		var row Row
		if !iter.StructScan(&row) {
			return iter.Close()
		}
		if on, err := fn(&row); !on || err != nil {
			_ = iter.Close() // what is not read has no fault
			return err
		}
	}
}

// Members returns up to limit rows of a group by rising name, from the first
// above after on, those who have left included.
func (s *Store) Members(ctx context.Context, chat schemas.Chat, after schemas.User, limit int) (members []store.Member, err error) {
	type memberRow struct {
		User, Role     string
		Since, Visible int64
	}
	if limit <= 0 {
		return nil, ctx.Err()
	}
	err = each(ctx, s, func(row *memberRow) (bool, error) {
		user, err := schemas.ParseUser(row.User)
		if err != nil {
			return false, fmt.Errorf("read a row of members_by_chat: %w", err)
		}
		members = append(members, store.Member{User: user, Role: schemas.Role(row.Role), Since: uint64(row.Since), From: uint64(row.Visible)})
		return true, nil
	}, selectMembers, chat.String(), after.String(), limit)
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read members of %s", chat), err)
	}
	return members, nil
}

// UserChats returns up to limit chats of a kind that user is in, or of any, by rising name.
func (s *Store) UserChats(ctx context.Context, user schemas.User, kind schemas.ChatKind, limit int) (chats []store.UserChat, err error) {
	type chatRow struct {
		Chat, Role                             string
		Since, Visible, Read, ReadN, Delivered int64
	}
	if limit <= 0 {
		return nil, ctx.Err()
	}
	first, beyond := store.NamesOf(kind)
	err = each(ctx, s, func(row *chatRow) (bool, error) {
		chat, err := schemas.ParseChat(row.Chat)
		if err != nil {
			return false, fmt.Errorf("read a row of chats_by_user: %w", err)
		}
		if role := schemas.Role(row.Role); role.In() {
			chats = append(chats, store.UserChat{Chat: chat, Role: role, Since: uint64(row.Since), From: uint64(row.Visible),
				Read: uint64(row.Read), ReadN: uint64(row.ReadN), Delivered: uint64(row.Delivered)})
		}
		return len(chats) < limit, nil
	}, selectUserChats, user.String(), first, beyond)
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read chats of %s", user), err)
	}
	return chats, nil
}
