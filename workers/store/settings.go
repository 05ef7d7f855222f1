package store

import (
	"fmt"
	"time"

	"parley/schemas"
)

// Setting is a row of table settings: what a user wants of a chat. Its stamp is a
// time, for which the later one of two that set it wins.
type Setting struct {
	Chat       schemas.Chat
	Muted      bool
	MutedUntil time.Time // zero: for good
	Pinned     bool
	Archived   bool
}

// SettingKind names what of a [Setting] is set: each has a stamp of its own.
type SettingKind string

const (
	MutedSetting    SettingKind = "muted"
	PinnedSetting   SettingKind = "pinned"
	ArchivedSetting SettingKind = "archived"
)

// Profile is a row of table users, but for when the user was seen last. Each field
// has a stamp of its own, a time.
type Profile struct {
	User               schemas.User
	Name, Avatar, Lang string
	HidesReads         bool           // others are not told what it has read
	Status             schemas.Status // that it has chosen; empty: none
}

// ValidateSetting returns [ErrBatch] for what can never be set.
func ValidateSetting(user schemas.User, s Setting, kind SettingKind, at time.Time) error {
	switch {
	case user.IsZero() || s.Chat.IsZero():
		return fmt.Errorf("%w: setting %s: it names no user or no chat", ErrBatch, kind)
	case kind != MutedSetting && kind != PinnedSetting && kind != ArchivedSetting:
		return fmt.Errorf("%w: there is no setting %q", ErrBatch, kind)
	case !s.MutedUntil.IsZero() && !timeFits(s.MutedUntil):
		return fmt.Errorf("%w: setting %s of %s: the time %s is not between 1970 and 2262", ErrBatch, kind, user, s.MutedUntil)
	}
	return stampFault(at)
}

// ValidateUser returns [ErrBatch] where nothing of user can be set at that time.
func ValidateUser(user schemas.User, at time.Time) error {
	if user.IsZero() {
		return fmt.Errorf("%w: it names no user", ErrBatch)
	}
	return stampFault(at)
}

// ValidateStatus returns [ErrBatch] for a status that can never be set.
func ValidateStatus(user schemas.User, status schemas.Status, at time.Time) error {
	switch status {
	case schemas.Online, schemas.Away, schemas.Invisible:
		return ValidateUser(user, at)
	}
	return fmt.Errorf("%w: there is no status %q to choose", ErrBatch, status)
}

// ValidateSeen returns [ErrBatch] where one of the users can never have been seen
// at its time.
func ValidateSeen(seen map[schemas.User]time.Time) error {
	for user, at := range seen {
		if err := ValidateUser(user, at); err != nil {
			return err
		}
	}
	return nil
}

// ValidateBlock returns [ErrBatch] for a block that can never be set.
func ValidateBlock(user, blocked schemas.User, at time.Time) error {
	if user.IsZero() || blocked.IsZero() || user == blocked {
		return fmt.Errorf("%w: user %q cannot block user %q", ErrBatch, user, blocked)
	}
	return stampFault(at)
}

// stampFault returns [ErrBatch] for a time that cannot be a stamp.
func stampFault(at time.Time) error {
	if !timeFits(at) {
		return fmt.Errorf("%w: the time %s is not between 1970 and 2262", ErrBatch, at)
	}
	return nil
}
