package cql

import (
	"context"
	"fmt"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// The stamps of what users set for themselves are microseconds since 1970.
const (
	insertMuted    = "INSERT INTO settings (user, chat, muted, muted_until) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
	insertPinned   = "INSERT INTO settings (user, chat, pinned) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertArchived = "INSERT INTO settings (user, chat, archived) VALUES (?, ?, ?) USING TIMESTAMP ?"

	selectSettings = "SELECT chat, muted, muted_until, pinned, archived FROM settings WHERE user = ? LIMIT ?"
)

// Set stores what user wants of a chat: of setting that which kind names. Of two
// times at which the same was set, the later wins.
func (s *Store) Set(ctx context.Context, user schemas.User, setting store.Setting, kind store.SettingKind, at time.Time) error {
	if err := store.ValidateSetting(user, setting, kind, at); err != nil {
		return fmt.Errorf("set: %w", err)
	}
	name, chat, stamp := user.String(), setting.Chat.String(), at.UnixMicro()
	var err error
	switch kind {
	case store.PinnedSetting:
		err = s.write(ctx, insertPinned, name, chat, setting.Pinned, stamp)
	case store.ArchivedSetting:
		err = s.write(ctx, insertArchived, name, chat, setting.Archived, stamp)
	default:
		err = s.write(ctx, insertMuted, name, chat, setting.Muted, nanos(setting.MutedUntil), stamp)
	}
	return classify(ctx, fmt.Sprintf("set %s of %s for %s", kind, chat, name), err)
}

// Settings returns what user has set of chats, of store.SettingsMax at most.
func (s *Store) Settings(ctx context.Context, user schemas.User) (map[schemas.Chat]store.Setting, error) {
	type settingRow struct {
		Chat             string
		Muted            bool
		MutedUntil       int64
		Pinned, Archived bool
	}
	settings := make(map[schemas.Chat]store.Setting)
	err := each(ctx, s, func(row *settingRow) (bool, error) {
		chat, err := schemas.ParseChat(row.Chat)
		if err != nil {
			return false, fmt.Errorf("read a row of settings: %w", err)
		}
		settings[chat] = store.Setting{Chat: chat, Muted: row.Muted, MutedUntil: timeOf(row.MutedUntil), Pinned: row.Pinned, Archived: row.Archived}
		return true, nil
	}, selectSettings, user.String(), store.SettingsMax)
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read settings of %s", user), err)
	}
	return settings, nil
}
