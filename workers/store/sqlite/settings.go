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
	insertMuted = `INSERT INTO settings (user, chat, muted_stamp, muted, muted_until) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (user, chat) DO UPDATE SET muted_stamp = excluded.muted_stamp, muted = excluded.muted,
			muted_until = excluded.muted_until
		WHERE excluded.muted_stamp >= settings.muted_stamp`
	insertPinned = `INSERT INTO settings (user, chat, pinned_stamp, pinned) VALUES (?, ?, ?, ?)
		ON CONFLICT (user, chat) DO UPDATE SET pinned_stamp = excluded.pinned_stamp, pinned = excluded.pinned
		WHERE excluded.pinned_stamp >= settings.pinned_stamp`
	insertArchived = `INSERT INTO settings (user, chat, archived_stamp, archived) VALUES (?, ?, ?, ?)
		ON CONFLICT (user, chat) DO UPDATE SET archived_stamp = excluded.archived_stamp, archived = excluded.archived
		WHERE excluded.archived_stamp >= settings.archived_stamp`

	selectSettings = `SELECT chat, muted, muted_until, pinned, archived FROM settings
		WHERE user = ? ORDER BY chat LIMIT ?`
)

// Set stores what user wants of a chat: of setting that which kind names. Of two
// times at which the same was set, the later wins.
func (s *Store) Set(ctx context.Context, user schemas.User, setting store.Setting, kind store.SettingKind, at time.Time) error {
	if err := store.ValidateSetting(user, setting, kind, at); err != nil {
		return fmt.Errorf("set: %w", err)
	}
	name, chat, stamp := user.String(), setting.Chat.String(), at.UnixMicro()
	return s.write(ctx, fmt.Sprintf("set %s of %s for %s", kind, chat, name), 1, func(c *conn) error {
		switch kind {
		case store.PinnedSetting:
			return c.exec(insertPinned, name, chat, stamp, flag(setting.Pinned))
		case store.ArchivedSetting:
			return c.exec(insertArchived, name, chat, stamp, flag(setting.Archived))
		default:
			return c.exec(insertMuted, name, chat, stamp, flag(setting.Muted), nanos(setting.MutedUntil))
		}
	})
}

// Settings returns what user has set of chats, of store.SettingsMax at most.
func (r *Reader) Settings(ctx context.Context, user schemas.User) (map[schemas.Chat]store.Setting, error) {
	settings := make(map[schemas.Chat]store.Setting)
	err := r.read(ctx, fmt.Sprintf("read settings of %s", user), func(c *conn) error {
		return c.query(selectSettings, func(row []driver.Value) error {
			chat, err := schemas.ParseChat(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of settings: %w", err)
			}
			settings[chat] = store.Setting{Chat: chat, Muted: integer(row[1]) != 0, MutedUntil: timeOf(row[2]),
				Pinned: integer(row[3]) != 0, Archived: integer(row[4]) != 0}
			return nil
		}, user.String(), int64(store.SettingsMax))
	})
	return settings, err
}
