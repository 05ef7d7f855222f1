package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

const (
	insertName = `INSERT INTO users (user, name_stamp, name) VALUES (?, ?, ?)
		ON CONFLICT (user) DO UPDATE SET name_stamp = excluded.name_stamp, name = excluded.name
		WHERE excluded.name_stamp >= users.name_stamp`
	insertAvatar = `INSERT INTO users (user, avatar_stamp, avatar) VALUES (?, ?, ?)
		ON CONFLICT (user) DO UPDATE SET avatar_stamp = excluded.avatar_stamp, avatar = excluded.avatar
		WHERE excluded.avatar_stamp >= users.avatar_stamp`
	insertLang = `INSERT INTO users (user, lang_stamp, lang) VALUES (?, ?, ?)
		ON CONFLICT (user) DO UPDATE SET lang_stamp = excluded.lang_stamp, lang = excluded.lang
		WHERE excluded.lang_stamp >= users.lang_stamp`
	insertReadsHidden = `INSERT INTO users (user, reads_hidden_stamp, reads_hidden) VALUES (?, ?, ?)
		ON CONFLICT (user) DO UPDATE SET reads_hidden_stamp = excluded.reads_hidden_stamp, reads_hidden = excluded.reads_hidden
		WHERE excluded.reads_hidden_stamp >= users.reads_hidden_stamp`
	insertStatus = `INSERT INTO users (user, status_stamp, status) VALUES (?, ?, ?)
		ON CONFLICT (user) DO UPDATE SET status_stamp = excluded.status_stamp, status = excluded.status
		WHERE excluded.status_stamp >= users.status_stamp`

	insertBlocks = `INSERT INTO blocks (user, other, blocks_stamp, blocks) VALUES (?, ?, ?, ?)
		ON CONFLICT (user, other) DO UPDATE SET blocks_stamp = excluded.blocks_stamp, blocks = excluded.blocks
		WHERE excluded.blocks_stamp >= blocks.blocks_stamp`
	insertBlockedBy = `INSERT INTO blocks (user, other, blocked_by_stamp, blocked_by) VALUES (?, ?, ?, ?)
		ON CONFLICT (user, other) DO UPDATE SET blocked_by_stamp = excluded.blocked_by_stamp, blocked_by = excluded.blocked_by
		WHERE excluded.blocked_by_stamp >= blocks.blocked_by_stamp`

	selectProfiles = "SELECT user, name, avatar, lang, reads_hidden, status FROM users WHERE user IN (SELECT value FROM json_each(?))"
	selectBlocks   = "SELECT other FROM blocks WHERE user = ? AND (blocks = 1 OR blocked_by = 1) ORDER BY other LIMIT ?"
)

// Profiles returns the profiles of those users who have set anything of theirs. Of
// who was only seen there may be an empty one.
func (r *Reader) Profiles(ctx context.Context, users []schemas.User) (map[schemas.User]store.Profile, error) {
	profiles := make(map[schemas.User]store.Profile, len(users))
	if len(users) == 0 {
		return profiles, ctx.Err()
	}
	err := r.read(ctx, fmt.Sprintf("read profiles of %d users", len(users)), func(c *conn) error {
		return c.query(selectProfiles, func(row []driver.Value) error {
			user, err := schemas.ParseUser(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of users: %w", err)
			}
			profiles[user] = store.Profile{User: user, Name: text(row[1]), Avatar: text(row[2]), Lang: text(row[3]),
				HidesReads: integer(row[4]) != 0, Status: schemas.Status(text(row[5]))}
			return nil
		}, jsonNames(users))
	})
	return profiles, err
}

// SetProfile stores what set has of a user's profile. Of two times at which the
// same was set, the later wins.
func (s *Store) SetProfile(ctx context.Context, user schemas.User, set schemas.SetProfile, at time.Time) error {
	if err := store.ValidateUser(user, at); err != nil {
		return fmt.Errorf("set profile: %w", err)
	}
	stamp := at.UnixMicro()
	return s.write(ctx, fmt.Sprintf("set profile of %s", user), 4, func(c *conn) error {
		for _, field := range []struct {
			statement string
			value     *string
		}{{insertName, set.Name}, {insertAvatar, set.Avatar}, {insertLang, set.Lang}} {
			if field.value == nil {
				continue
			}
			if err := c.exec(field.statement, user.String(), stamp, *field.value); err != nil {
				return err
			}
		}
		if set.ReadReceipts == nil {
			return nil
		}
		return c.exec(insertReadsHidden, user.String(), stamp, flag(!*set.ReadReceipts))
	})
}

// SetStatus stores what a user chooses to be shown as. Of two times at which it was
// set, the later wins.
func (s *Store) SetStatus(ctx context.Context, user schemas.User, status schemas.Status, at time.Time) error {
	if err := store.ValidateStatus(user, status, at); err != nil {
		return fmt.Errorf("set status of %s: %w", user, err)
	}
	return s.write(ctx, fmt.Sprintf("set status of %s", user), 1, func(c *conn) error {
		return c.exec(insertStatus, user.String(), at.UnixMicro(), string(status))
	})
}

// Blocks returns whom user blocks and who blocks it, once each, by rising name,
// store.BlocksMax at most.
func (r *Reader) Blocks(ctx context.Context, user schemas.User) (others []schemas.User, err error) {
	err = r.read(ctx, fmt.Sprintf("read blocks of %s", user), func(c *conn) error {
		return c.query(selectBlocks, func(row []driver.Value) error {
			other, err := schemas.ParseUser(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of blocks: %w", err)
			}
			others = append(others, other)
			return nil
		}, user.String(), int64(store.BlocksMax))
	})
	return others, err
}

// SetBlock stores that user blocks another, or no longer does. Of two times at
// which it was set, the later wins.
func (s *Store) SetBlock(ctx context.Context, user, blocked schemas.User, on bool, at time.Time) error {
	if err := store.ValidateBlock(user, blocked, at); err != nil {
		return fmt.Errorf("set block: %w", err)
	}
	stamp := at.UnixMicro()
	return s.write(ctx, fmt.Sprintf("set block of %s by %s", blocked, user), 2, func(c *conn) error {
		if err := c.exec(insertBlocks, user.String(), blocked.String(), stamp, flag(on)); err != nil {
			return err
		}
		return c.exec(insertBlockedBy, blocked.String(), user.String(), stamp, flag(on))
	})
}
