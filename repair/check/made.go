package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// targetsPerRead bounds the messages whose rows, edits and reactions are read at once.
const targetsPerRead = 200

// compareMade compares what a shard's log makes of messages and of groups'
// members with what is stored of them, once all of the log was walked. Messages
// and groups that the log's beginning has passed by now are left out: some of what
// was done to them may have gone before it was met.
func (c *Checker) compareMade(ctx context.Context, s *shard) error {
	first, _, err := c.bounds(ctx, s.shard)
	if err != nil {
		return err
	}
	first = max(first, s.first)
	byChat := make(map[schemas.Chat][]uint64)
	for key, t := range s.changes.byTarget {
		if key.seq >= first && !t.partial {
			byChat[key.chat] = append(byChat[key.chat], key.seq)
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(c.cfg.Readers)
	for chat, seqs := range byChat {
		slices.Sort(seqs)
		for part := range slices.Chunk(seqs, targetsPerRead) {
			group.Go(func() error { return c.compareTargets(groupCtx, s, chat, part) })
		}
	}
	for chat, g := range s.groups.byChat {
		if g.created >= first && !g.partial {
			group.Go(func() error { return c.compareMembers(groupCtx, s, chat, g) })
		}
	}
	err = group.Wait()
	s.changes, s.groups = newChanges(), newGroups()
	return err
}

// compareTargets compares some messages of a chat.
func (c *Checker) compareTargets(ctx context.Context, s *shard, chat schemas.Chat, seqs []uint64) error {
	rows, err := c.events(ctx, chat, seqs)
	if err != nil {
		return err
	}
	reactions, err := c.reactions(ctx, chat, rows)
	if err != nil {
		return fmt.Errorf("read reactions of %s: %w", chat, err)
	}
	edits, err := again(ctx, c.cfg.RetryWithin, func() ([]store.Edit, error) { return c.cfg.Store.Edits(ctx, chat, rows) })
	if err != nil {
		return fmt.Errorf("read edits of %s: %w", chat, err)
	}
	for i := range rows {
		row := &rows[i]
		m := foldChanges(row, s.changes.byTarget[chatSeq{chat, row.Seq}].changes)
		wrong := m.differences(row, reactions[row.Seq], editsOf(edits, row.Seq))
		unblanked, err := c.unblanked(ctx, chat, &m)
		if err != nil {
			return err
		}
		if wrong = append(wrong, unblanked...); len(wrong) == 0 || isOver(row.Expires) {
			continue
		}
		if known, err := c.isKnown(ctx, s, chat, row); err != nil || known {
			if err != nil {
				return err
			}
			continue
		}
		s.report.add(Finding{Kind: Different, Shard: s.shard.Token, Chat: chat, Seq: row.Seq,
			Text: "the row is not what later events of the log make of it: " + strings.Join(wrong, ", ")})
	}
	return nil
}

func (c *Checker) events(ctx context.Context, chat schemas.Chat, seqs []uint64) ([]store.Event, error) {
	rows, err := again(ctx, c.cfg.RetryWithin, func() ([]store.Event, error) { return c.cfg.Store.Events(ctx, chat, seqs) })
	if err != nil {
		return nil, fmt.Errorf("read %d rows of %s: %w", len(seqs), chat, err)
	}
	return rows, nil
}

func editsOf(edits []store.Edit, target uint64) (of []store.Edit) {
	for _, edit := range edits {
		if edit.Target == target {
			of = append(of, edit)
		}
	}
	return of
}

// differences says in what a message's row, reactions and edits are not what the log makes.
func (m *made) differences(row *store.Event, reactions []store.Reactions, edits []store.Edit) (wrong []string) {
	differs := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	state, deleted := &row.State, m.state.Deleted != 0
	differs(state.Deleted != m.state.Deleted, "deleted by %d and not by %d", state.Deleted, m.state.Deleted)
	differs(state.Pinned != m.state.Pinned, "pinned %t and not %t", state.Pinned, m.state.Pinned)
	// A dead letter that was replayed may have deleted it after further edits.
	differs(!deleted && state.Edited != m.state.Edited, "edited by %d and not by %d", state.Edited, m.state.Edited)
	switch {
	case deleted:
		differs(len(state.Body) > 0, "its body is still there")
	case state.Edited == m.state.Edited && state.Edited != 0:
		differs(hashBody(state.Body) != m.body, "its body is not that of its edit %d", state.Edited)
	}
	differs(!slices.EqualFunc(reactions, m.reactions, sameReactions), "its reactions are others")
	differs(!m.hasEdits(edits), "its former bodies are others")
	return wrong
}

func sameReactions(a, b store.Reactions) bool {
	return a.Emoji == b.Emoji && a.First == b.First && a.Count == b.Count && slices.Equal(a.Users, b.Users)
}

// hasEdits tells whether rows of table edits are those of the message's edits;
// those of a deleted one have lost their bodies.
func (m *made) hasEdits(edits []store.Edit) bool {
	if m.state.Deleted != 0 {
		return !slices.ContainsFunc(edits, func(e store.Edit) bool { return e.Seq < m.state.Deleted && len(e.Body) > 0 })
	}
	return slices.EqualFunc(edits, m.edits, func(e store.Edit, c change) bool {
		return e.Seq == c.seq && hashBody(e.Body) == c.body && e.Time.Equal(c.time)
	})
}

// unblanked says which edits of a deleted message still have their content.
func (c *Checker) unblanked(ctx context.Context, chat schemas.Chat, m *made) (wrong []string, err error) {
	if m.state.Deleted == 0 || len(m.edits) == 0 {
		return nil, nil
	}
	seqs := make([]uint64, len(m.edits))
	for i := range m.edits {
		seqs[i] = m.edits[i].seq
	}
	rows, err := c.events(ctx, chat, seqs)
	for i := range rows {
		if !isBlank(rows[i].JSON) {
			wrong = append(wrong, fmt.Sprintf("its edit %d still has its content", rows[i].Seq))
		}
	}
	return wrong, err
}

// isKnown tells whether a message may differ: an event came meanwhile that is
// about it; or it was given up and replayed after what changes it.
func (c *Checker) isKnown(ctx context.Context, s *shard, chat schemas.Chat, row *store.Event) (bool, error) {
	before, _, err := c.page(ctx, chat, store.Range{Before: row.Seq, Limit: 1})
	if err != nil {
		return false, err
	}
	n := uint64(0)
	if len(before) > 0 {
		n = before[0].N
	}
	if row.Type == schemas.Message && row.N == n {
		return true, nil
	}
	return c.cameSince(ctx, s, chat, func(ev *schemas.Event) bool { return ev.HasTarget() && ev.Target == row.Seq })
}

// cameSince tells whether the chat has a row above the shard's, as it was when the
// check began, whose event is one of those asked for.
func (c *Checker) cameSince(ctx context.Context, s *shard, chat schemas.Chat, is func(*schemas.Event) bool) (bool, error) {
	for after := s.committed; ; {
		rows, more, err := c.page(ctx, chat, store.Range{Forward: true, After: after, Limit: rowsPerRead})
		if err != nil {
			return false, err
		}
		for i := range rows {
			if ev, err := schemas.DecodeEvent(rows[i].JSON); err == nil && is(ev) {
				return true, nil
			}
		}
		if !more || len(rows) == 0 || rows[len(rows)-1].Seq <= after {
			return false, nil
		}
		after = rows[len(rows)-1].Seq
	}
}
