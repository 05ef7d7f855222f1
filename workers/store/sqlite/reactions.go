package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// Rows of targets in one bucket: a range of their seqs, in which a caller finds its own.
const (
	selectEdits = `SELECT target, seq, time, CAST(body AS BLOB) FROM edits
		WHERE chat = ? AND bucket = ? AND target >= ? AND target <= ? ORDER BY target, seq`
	selectReactions = `SELECT target, emoji, user, seq FROM reactions
		WHERE chat = ? AND bucket = ? AND target >= ? AND target <= ? AND is_on = 1`
	selectReacted = `SELECT is_on FROM reactions
		WHERE chat = ? AND bucket = ? AND target = ? AND emoji = ? AND user = ? AND (expires = 0 OR expires > ?)`
)

// Edits returns the edits of events, which were read before, by rising target,
// then seq.
func (r *Reader) Edits(ctx context.Context, chat schemas.Chat, of []store.Event) (edits []store.Edit, err error) {
	targets := store.TargetsOf(of, r.cfg.now())
	err = r.read(ctx, fmt.Sprintf("read edits of %d events of %s", len(of), chat), func(c *conn) error {
		for _, in := range targets {
			err := c.query(selectEdits, func(row []driver.Value) error {
				edit := store.Edit{Target: uint64(integer(row[0])), Seq: uint64(integer(row[1])), Time: time.Unix(0, integer(row[2])).UTC()}
				if body, _ := row[3].([]byte); len(body) > 0 {
					edit.Body = body
				}
				if in.Has(edit.Target) {
					edits = append(edits, edit)
				}
				return nil
			}, chat.String(), in.Bucket, int64(in.Min), int64(in.Max))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return edits, nil
}

// Reactions returns what is under events, which were read before, by their seq;
// the emoji that came first is first.
func (r *Reader) Reactions(ctx context.Context, chat schemas.Chat, of []store.Event) (map[uint64][]store.Reactions, error) {
	targets, tally := store.TargetsOf(of, r.cfg.now()), store.NewTally()
	err := r.read(ctx, fmt.Sprintf("read reactions to %d events of %s", len(of), chat), func(c *conn) error {
		for _, in := range targets {
			err := c.query(selectReactions, func(row []driver.Value) error {
				target := uint64(integer(row[0]))
				if !in.Has(target) {
					return nil
				}
				user, err := schemas.ParseUser(text(row[2]))
				if err != nil {
					return fmt.Errorf("read a row of reactions: %w", err)
				}
				tally.Add(target, text(row[1]), user, uint64(integer(row[3])))
				return nil
			}, chat.String(), in.Bucket, int64(in.Min), int64(in.Max))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tally.Reactions(), nil
}

// Reacted tells whether a user's emoji is under an event.
func (r *Reader) Reacted(ctx context.Context, chat schemas.Chat, bucket int64, target uint64, emoji string, user schemas.User) (on bool, err error) {
	err = r.read(ctx, fmt.Sprintf("read reaction of %s to %d of %s", user, target, chat), func(c *conn) error {
		ints, err := c.int64s(selectReacted, chat.String(), bucket, int64(target), emoji, user.String(), r.cfg.now().UnixNano())
		on = len(ints) > 0 && ints[0] == 1
		return err
	})
	return on, err
}
