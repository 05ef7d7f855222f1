package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"parley/schemas"
	"parley/workers/store"
)

// A role, what came with joining, and a read mark are written by different events.
const (
	insertUserRole = `INSERT INTO chats_by_user (user, chat, stamp, role, since) VALUES (?, ?, ?, ?, 0)
		ON CONFLICT (user, chat) DO UPDATE SET stamp = excluded.stamp, role = excluded.role
		WHERE excluded.stamp >= chats_by_user.stamp`
	insertUserJoin = `INSERT INTO chats_by_user (user, chat, stamp, role, since, visible) VALUES (?, ?, 0, '', ?, ?)
		ON CONFLICT (user, chat) DO UPDATE SET since = excluded.since, visible = excluded.visible
		WHERE excluded.since >= chats_by_user.since`
	insertUserRead = `INSERT INTO chats_by_user (user, chat, stamp, role, since, read, read_n) VALUES (?, ?, 0, '', 0, ?, ?)
		ON CONFLICT (user, chat) DO UPDATE SET read = excluded.read, read_n = excluded.read_n
		WHERE excluded.read >= chats_by_user.read`

	insertMemberRole = `INSERT INTO members_by_chat (chat, user, stamp, role) VALUES (?, ?, ?, ?)
		ON CONFLICT (chat, user) DO UPDATE SET stamp = excluded.stamp, role = excluded.role
		WHERE excluded.stamp >= members_by_chat.stamp`
	insertMemberJoin = `INSERT INTO members_by_chat (chat, user, since, visible) VALUES (?, ?, ?, ?)
		ON CONFLICT (chat, user) DO UPDATE SET since = excluded.since, visible = excluded.visible
		WHERE excluded.since >= members_by_chat.since`

	selectMembers = `SELECT user, role, since, visible FROM members_by_chat
		WHERE chat = ? AND user > ? ORDER BY user LIMIT ?`
	selectUserChats = `SELECT chat, role, since, visible, read, read_n, delivered FROM chats_by_user
		WHERE user = ? AND chat >= ? AND chat < ? AND role IN ('owner', 'admin', 'member') ORDER BY chat LIMIT ?`
)

// writeRoles writes what users are in a chat, and their read marks.
func writeRoles(c *conn, b *store.ChatBatch) error {
	chat := b.Chat.String()
	for i := range b.Roles {
		if err := writeRole(c, chat, b.Chat.Kind() == schemas.Group, &b.Roles[i]); err != nil {
			return err
		}
	}
	for i := range b.Reads {
		read := &b.Reads[i]
		if err := c.exec(insertUserRead, read.User.String(), chat, int64(read.Seq), int64(read.N)); err != nil {
			return err
		}
	}
	return nil
}

func writeRole(c *conn, chat string, group bool, role *store.Role) error {
	user, seq := role.User.String(), int64(role.Seq)
	if err := c.exec(insertUserRole, user, chat, seq, string(role.Role)); err != nil {
		return err
	}
	if group {
		if err := c.exec(insertMemberRole, chat, user, seq, string(role.Role)); err != nil {
			return err
		}
	}
	if !role.Joins {
		return nil
	}
	if err := c.exec(insertUserJoin, user, chat, seq, int64(role.From)); err != nil {
		return err
	}
	if !group {
		return nil
	}
	return c.exec(insertMemberJoin, chat, user, seq, int64(role.From))
}

// Members returns up to limit rows of a group by rising name, from the first
// above after on, those who have left included.
func (r *Reader) Members(ctx context.Context, chat schemas.Chat, after schemas.User, limit int) (members []store.Member, err error) {
	err = r.read(ctx, fmt.Sprintf("read members of %s", chat), func(c *conn) error {
		return c.query(selectMembers, func(row []driver.Value) error {
			user, err := schemas.ParseUser(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of members_by_chat: %w", err)
			}
			members = append(members, store.Member{User: user, Role: schemas.Role(text(row[1])),
				Since: uint64(integer(row[2])), From: uint64(integer(row[3]))})
			return nil
		}, chat.String(), after.String(), int64(max(limit, 0)))
	})
	return members, err
}

// UserChats returns up to limit chats of a kind that user is in, or of any, by rising name.
func (r *Reader) UserChats(ctx context.Context, user schemas.User, kind schemas.ChatKind, limit int) (chats []store.UserChat, err error) {
	first, beyond := store.NamesOf(kind)
	err = r.read(ctx, fmt.Sprintf("read chats of %s", user), func(c *conn) error {
		return c.query(selectUserChats, func(row []driver.Value) error {
			chat, err := schemas.ParseChat(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of chats_by_user: %w", err)
			}
			chats = append(chats, store.UserChat{Chat: chat, Role: schemas.Role(text(row[1])), Since: uint64(integer(row[2])),
				From: uint64(integer(row[3])), Read: uint64(integer(row[4])), ReadN: uint64(integer(row[5])), Delivered: uint64(integer(row[6]))})
			return nil
		}, user.String(), first, beyond, int64(max(limit, 0)))
	})
	return chats, err
}
