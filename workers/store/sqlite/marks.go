package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// A mark and when a user was seen last are their own stamps. Where a row is not
// there yet it is made: without a role it is in no list.
const (
	insertUserDelivered = `INSERT INTO chats_by_user (user, chat, stamp, role, since, delivered) VALUES (?, ?, 0, '', 0, ?)
		ON CONFLICT (user, chat) DO UPDATE SET delivered = excluded.delivered
		WHERE excluded.delivered >= chats_by_user.delivered`
	insertDelivered = `INSERT INTO receipts (chat, user, delivered) VALUES (?, ?, ?)
		ON CONFLICT (chat, user) DO UPDATE SET delivered = excluded.delivered
		WHERE excluded.delivered >= receipts.delivered`
	insertRead = `INSERT INTO receipts (chat, user, read) VALUES (?, ?, ?)
		ON CONFLICT (chat, user) DO UPDATE SET read = excluded.read
		WHERE excluded.read >= receipts.read`
	insertSeen = `INSERT INTO users (user, last_seen) VALUES (?, ?)
		ON CONFLICT (user) DO UPDATE SET last_seen = excluded.last_seen
		WHERE excluded.last_seen >= users.last_seen`

	selectReceipts = `SELECT user, delivered, read FROM receipts
		WHERE chat = ? AND user IN (SELECT value FROM json_each(?))`
	selectSeen = "SELECT user, last_seen FROM users WHERE user IN (SELECT value FROM json_each(?)) AND last_seen > 0"
)

// rowsPerMark is how many writes a mark is, at most.
const rowsPerMark = 4

// Mark stores how far users have got, all of it or nothing. It may be given again,
// in any order: what is higher stays. It returns store.ErrBatch,
// store.ErrUnavailable, or the error of ctx, after which marks may be stored or not.
func (s *Store) Mark(ctx context.Context, marks []store.Mark) error {
	if err := store.ValidateMarks(marks); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	return s.write(ctx, fmt.Sprintf("store %d marks", len(marks)), rowsPerMark*len(marks), func(c *conn) error {
		for i := range marks {
			if err := writeMark(c, &marks[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeMark(c *conn, m *store.Mark) error {
	user, chat := m.User.String(), m.Chat.String()
	if m.Delivered > 0 {
		if err := c.exec(insertUserDelivered, user, chat, int64(m.Delivered)); err != nil {
			return err
		}
		if err := c.exec(insertDelivered, chat, user, int64(m.Delivered)); err != nil {
			return err
		}
	}
	if m.Read == 0 {
		return nil
	}
	if err := c.exec(insertUserRead, user, chat, int64(m.Read), int64(m.ReadN)); err != nil {
		return err
	}
	if !m.Told {
		return nil
	}
	return c.exec(insertRead, chat, user, int64(m.Read))
}

// Receipts returns what others are told of users in a chat, of those of whom
// anything is.
func (r *Reader) Receipts(ctx context.Context, chat schemas.Chat, users []schemas.User) (map[schemas.User]store.Receipt, error) {
	receipts := make(map[schemas.User]store.Receipt, len(users))
	if len(users) == 0 {
		return receipts, ctx.Err()
	}
	err := r.read(ctx, fmt.Sprintf("read receipts of %d users in %s", len(users), chat), func(c *conn) error {
		return c.query(selectReceipts, func(row []driver.Value) error {
			user, err := schemas.ParseUser(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of receipts: %w", err)
			}
			receipts[user] = store.Receipt{Delivered: uint64(integer(row[1])), Read: uint64(integer(row[2]))}
			return nil
		}, chat.String(), jsonNames(users))
	})
	return receipts, err
}

// SetSeen stores when users were seen last, all of it or nothing. An earlier time
// than the stored one changes nothing.
func (s *Store) SetSeen(ctx context.Context, seen map[schemas.User]time.Time) error {
	if err := store.ValidateSeen(seen); err != nil {
		return fmt.Errorf("set seen: %w", err)
	}
	return s.write(ctx, fmt.Sprintf("set when %d users were seen", len(seen)), len(seen), func(c *conn) error {
		for user, at := range seen {
			if err := c.exec(insertSeen, user.String(), at.UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Seen returns when users were seen last, to the microsecond, of those of whom it is known.
func (r *Reader) Seen(ctx context.Context, users []schemas.User) (map[schemas.User]time.Time, error) {
	seen := make(map[schemas.User]time.Time, len(users))
	if len(users) == 0 {
		return seen, ctx.Err()
	}
	err := r.read(ctx, fmt.Sprintf("read when %d users were seen", len(users)), func(c *conn) error {
		return c.query(selectSeen, func(row []driver.Value) error {
			user, err := schemas.ParseUser(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of users: %w", err)
			}
			seen[user] = time.UnixMicro(integer(row[1])).UTC()
			return nil
		}, jsonNames(users))
	})
	return seen, err
}
