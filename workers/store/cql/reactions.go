package cql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gocql/gocql"

	"parley/schemas"
	"parley/workers/store"
)

// Rows of targets in one bucket: a range of their seqs, in which a caller finds its own.
const (
	selectEdits     = "SELECT target, seq, time, body FROM edits WHERE chat = ? AND bucket = ? AND target >= ? AND target <= ?"
	selectReactions = "SELECT target, emoji, user, is_on, seq FROM reactions WHERE chat = ? AND bucket = ? AND target >= ? AND target <= ?"
	selectReacted   = "SELECT is_on FROM reactions WHERE chat = ? AND bucket = ? AND target = ? AND emoji = ? AND user = ?"
)

// Edits returns the edits of events, which were read before, by rising target,
// then seq. It is one request for each bucket that the events are in.
func (s *Store) Edits(ctx context.Context, chat schemas.Chat, of []store.Event) (edits []store.Edit, err error) {
	type editRow struct {
		Target, Seq, Time int64
		Body              []byte
	}
	for _, in := range store.TargetsOf(of, s.cfg.Now()) {
		err := each(ctx, s, func(row *editRow) (bool, error) {
			// A row without a time is what is left of one whose time is over.
			if in.Has(uint64(row.Target)) && row.Time != 0 {
				edit := store.Edit{Target: uint64(row.Target), Seq: uint64(row.Seq), Time: time.Unix(0, row.Time).UTC()}
				if len(row.Body) > 0 {
					edit.Body = row.Body
				}
				edits = append(edits, edit)
			}
			return true, nil
		}, selectEdits, chat.String(), in.Bucket, int64(in.Min), int64(in.Max))
		if err != nil {
			return nil, classify(ctx, fmt.Sprintf("read edits of %d events of %s", len(of), chat), err)
		}
	}
	return edits, ctx.Err()
}

// Reactions returns what is under events, which were read before, by their seq;
// the emoji that came first is first. It is one request for each bucket that the
// events are in.
func (s *Store) Reactions(ctx context.Context, chat schemas.Chat, of []store.Event) (map[uint64][]store.Reactions, error) {
	type reactionRow struct {
		Target      int64
		Emoji, User string
		IsOn        bool
		Seq         int64
	}
	tally := store.NewTally()
	for _, in := range store.TargetsOf(of, s.cfg.Now()) {
		err := each(ctx, s, func(row *reactionRow) (bool, error) {
			if !row.IsOn || !in.Has(uint64(row.Target)) {
				return true, nil
			}
			user, err := schemas.ParseUser(row.User)
			if err != nil {
				return false, fmt.Errorf("read a row of reactions: %w", err)
			}
			tally.Add(uint64(row.Target), row.Emoji, user, uint64(row.Seq))
			return true, nil
		}, selectReactions, chat.String(), in.Bucket, int64(in.Min), int64(in.Max))
		if err != nil {
			return nil, classify(ctx, fmt.Sprintf("read reactions to %d events of %s", len(of), chat), err)
		}
	}
	return tally.Reactions(), ctx.Err()
}

// Reacted tells whether a user's emoji is under an event.
func (s *Store) Reacted(ctx context.Context, chat schemas.Chat, bucket int64, target uint64, emoji string, user schemas.User) (on bool, err error) {
	q, err := s.read(ctx, selectReacted, chat.String(), bucket, int64(target), emoji, user.String())
	if err == nil {
		err = q.GetRelease(&on)
	}
	if errors.Is(err, gocql.ErrNotFound) {
		return false, nil
	}
	return on, classify(ctx, fmt.Sprintf("read reaction of %s to %d of %s", user, target, chat), err)
}
