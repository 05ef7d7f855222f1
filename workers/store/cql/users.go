package cql

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"parley/schemas"
	"parley/workers/store"
)

const (
	insertName        = "INSERT INTO users (user, name) VALUES (?, ?) USING TIMESTAMP ?"
	insertAvatar      = "INSERT INTO users (user, avatar) VALUES (?, ?) USING TIMESTAMP ?"
	insertLang        = "INSERT INTO users (user, lang) VALUES (?, ?) USING TIMESTAMP ?"
	insertReadsHidden = "INSERT INTO users (user, reads_hidden) VALUES (?, ?) USING TIMESTAMP ?"
	insertStatus      = "INSERT INTO users (user, status) VALUES (?, ?) USING TIMESTAMP ?"
	insertBlocks      = "INSERT INTO blocks (user, other, blocks) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertBlockedBy   = "INSERT INTO blocks (user, other, blocked_by) VALUES (?, ?, ?) USING TIMESTAMP ?"

	selectProfiles = "SELECT user, name, avatar, lang, reads_hidden, status FROM users WHERE user IN ?"
	selectBlocks   = "SELECT other, blocks, blocked_by FROM blocks WHERE user = ?"
)

// Profiles returns the profiles of those users who have set anything of theirs. Of
// who was only seen there may be an empty one.
func (s *Store) Profiles(ctx context.Context, users []schemas.User) (map[schemas.User]store.Profile, error) {
	type profileRow struct {
		User, Name, Avatar, Lang string
		ReadsHidden              bool
		Status                   string
	}
	profiles := make(map[schemas.User]store.Profile, len(users))
	err := eachOf(ctx, s, users, func(row *profileRow) error {
		user, err := schemas.ParseUser(row.User)
		profiles[user] = store.Profile{User: user, Name: row.Name, Avatar: row.Avatar, Lang: row.Lang,
			HidesReads: row.ReadsHidden, Status: schemas.Status(row.Status)}
		return err
	}, selectProfiles)
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read profiles of %d users", len(users)), err)
	}
	return profiles, nil
}

// SetProfile stores what set has of a user's profile. Of two times at which the
// same was set, the later wins.
func (s *Store) SetProfile(ctx context.Context, user schemas.User, set schemas.SetProfile, at time.Time) error {
	if err := store.ValidateUser(user, at); err != nil {
		return fmt.Errorf("set profile: %w", err)
	}
	var all []statement
	for _, field := range []struct {
		text  string
		value *string
	}{{insertName, set.Name}, {insertAvatar, set.Avatar}, {insertLang, set.Lang}} {
		if field.value == nil {
			continue
		}
		if !utf8.ValidString(*field.value) {
			return fmt.Errorf("set profile of %s: %w: %q is no UTF-8", user, store.ErrBatch, *field.value)
		}
		all = append(all, statement{text: field.text, values: []any{user.String(), *field.value, at.UnixMicro()}})
	}
	if set.ReadReceipts != nil {
		all = append(all, statement{text: insertReadsHidden, values: []any{user.String(), !*set.ReadReceipts, at.UnixMicro()}})
	}
	if len(all) == 0 {
		return ctx.Err()
	}
	return classify(ctx, fmt.Sprintf("set profile of %s", user), s.writeAll(ctx, all))
}

// SetStatus stores what a user chooses to be shown as. Of two times at which it was
// set, the later wins.
func (s *Store) SetStatus(ctx context.Context, user schemas.User, status schemas.Status, at time.Time) error {
	if err := store.ValidateStatus(user, status, at); err != nil {
		return fmt.Errorf("set status of %s: %w", user, err)
	}
	err := s.write(ctx, insertStatus, user.String(), string(status), at.UnixMicro())
	return classify(ctx, fmt.Sprintf("set status of %s", user), err)
}

// Blocks returns whom user blocks and who blocks it, once each, by rising name,
// store.BlocksMax at most.
func (s *Store) Blocks(ctx context.Context, user schemas.User) (others []schemas.User, err error) {
	type blockRow struct {
		Other             string
		Blocks, BlockedBy bool
	}
	err = each(ctx, s, func(row *blockRow) (bool, error) {
		if !row.Blocks && !row.BlockedBy {
			return true, nil
		}
		other, err := schemas.ParseUser(row.Other)
		if err != nil {
			return false, fmt.Errorf("read a row of blocks: %w", err)
		}
		others = append(others, other)
		return len(others) < store.BlocksMax, nil
	}, selectBlocks, user.String())
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read blocks of %s", user), err)
	}
	return others, nil
}

// SetBlock stores that user blocks another, or no longer does. Of two times at
// which it was set, the later wins. After an error one of its two rows may be
// written: the same call again writes both.
func (s *Store) SetBlock(ctx context.Context, user, blocked schemas.User, on bool, at time.Time) error {
	if err := store.ValidateBlock(user, blocked, at); err != nil {
		return fmt.Errorf("set block: %w", err)
	}
	stamp := at.UnixMicro()
	err := s.write(ctx, insertBlocks, user.String(), blocked.String(), on, stamp)
	if err == nil {
		err = s.write(ctx, insertBlockedBy, blocked.String(), user.String(), on, stamp)
	}
	return classify(ctx, fmt.Sprintf("set block of %s by %s", blocked, user), err)
}
