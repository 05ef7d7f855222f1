package check

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// changesMax bounds what is remembered of a shard's edits, deletes, pins and
// reactions, and of their targets, at some 200 bytes each. Past it, no further
// target is compared with what they made of it, nor one that is changed again.
const changesMax = 300_000

// change is what an event does to its target.
type change struct {
	seq   uint64
	time  time.Time
	kind  schemas.EventType
	from  schemas.User
	emoji string
	on    bool
	body  uint64 // hash of an edit's
}

type targeted struct {
	target uint64
	change
}

// bodySeed hashes bodies for as long as the process runs.
var bodySeed = maphash.MakeSeed()

func hashBody(body []byte) uint64 { return maphash.Bytes(bodySeed, body) }

// changed is a message and what the log's events do to it, by rising seq.
type changed struct {
	changes []change
	partial bool // not all of them are known
}

type chatSeq struct {
	chat schemas.Chat
	seq  uint64
}

// changes are those of a shard's log, as far as it was walked, by their targets.
type changes struct {
	byTarget map[chatSeq]*changed
	kept     int // targets and changes
}

func newChanges() changes { return changes{byTarget: make(map[chatSeq]*changed)} }

// add takes what a chat's part of a window does, and what is claimed of its rows.
// Windows come in the order of the log, so that a target comes before its changes.
func (cs *changes) add(found *comparison) {
	for _, seq := range found.claims {
		cs.of(found.chat, seq)
	}
	for seq := range found.partial {
		if t := cs.of(found.chat, seq); t != nil {
			t.partial = true
		}
	}
	slices.SortFunc(found.changes, func(a, b targeted) int { return cmp.Compare(a.seq, b.seq) })
	for _, c := range found.changes {
		t := cs.of(found.chat, c.target)
		switch {
		case t == nil || t.partial:
		case cs.kept >= changesMax:
			t.partial, t.changes = true, nil
		default:
			t.changes = append(t.changes, c.change)
			cs.kept++
		}
	}
}

// of returns a target, nil where there is no room for it.
func (cs *changes) of(chat schemas.Chat, seq uint64) *changed {
	key := chatSeq{chat, seq}
	t := cs.byTarget[key]
	if t == nil && cs.kept < changesMax {
		t = &changed{}
		cs.byTarget[key] = t
		cs.kept++
	}
	return t
}

// take remembers what an event does, and whether something was done to its row.
func (found *comparison) take(row *store.Event, e event, ev *schemas.Event) {
	switch {
	case ev.HasTarget():
		c := change{seq: e.seq, time: e.time, kind: ev.Type, from: ev.From, emoji: ev.Emoji, on: !ev.Remove}
		if ev.Type == schemas.Edit {
			c.body = hashBody(ev.Body)
		}
		found.changes = append(found.changes, targeted{ev.Target, c})
	case isOfMembers(found.chat, ev):
		found.members = append(found.members, memberEvent{e.seq, ev})
	case ev.Type == schemas.Message:
		if row.State.Edited != 0 || row.State.Deleted != 0 || row.State.Pinned {
			found.claims = append(found.claims, e.seq)
		}
		found.messages = append(found.messages, store.Event{Bucket: row.Bucket, Seq: row.Seq, Expires: row.Expires})
	}
}

// leaveOut says of an event whose row is not there that it may have been applied or not.
func (found *comparison) leaveOut(ev *schemas.Event) {
	switch {
	case ev.HasTarget():
		if found.partial == nil {
			found.partial = make(map[uint64]struct{})
		}
		found.partial[ev.Target] = struct{}{}
	case isOfMembers(found.chat, ev):
		found.membersPartial = true
	}
}

// claimReacted finds the messages of a window that have reactions.
func (c *Checker) claimReacted(ctx context.Context, found *comparison) error {
	if len(found.messages) == 0 {
		return nil
	}
	reactions, err := c.reactions(ctx, found.chat, found.messages)
	for seq := range reactions {
		found.claims = append(found.claims, seq)
	}
	found.messages = nil
	return err
}

func (c *Checker) reactions(ctx context.Context, chat schemas.Chat, of []store.Event) (map[uint64][]store.Reactions, error) {
	return again(ctx, c.cfg.RetryWithin, func() (map[uint64][]store.Reactions, error) { return c.cfg.Store.Reactions(ctx, chat, of) })
}

// made is what the log makes of a message: persist's fold, once more.
type made struct {
	state     store.State // without the body
	body      uint64      // hash of the last edit's
	edits     []change
	reactions []store.Reactions
}

// foldChanges applies changes to a message in the order of the log.
func foldChanges(row *store.Event, changes []change) (m made) {
	reacted := make(map[[2]string]change)
	for _, c := range changes {
		late := !row.Expires.IsZero() && !c.time.Before(row.Expires)
		gone := m.state.Deleted != 0
		switch {
		case row.Type != schemas.Message || late || c.seq <= row.Seq:
		case c.kind == schemas.Edit && !gone && c.from == row.Author:
			m.state.Edited, m.body = c.seq, c.body
			m.edits = append(m.edits, c)
		case c.kind == schemas.Delete && !gone:
			m.state.Deleted = c.seq
		case c.kind == schemas.Pin:
			m.state.Pinned = c.on
		case c.kind == schemas.React:
			reacted[[2]string{c.emoji, c.from.String()}] = c
		}
	}
	tally := store.NewTally()
	for _, c := range reacted {
		if c.on {
			tally.Add(row.Seq, c.emoji, c.from, c.seq)
		}
	}
	m.reactions = tally.Reactions()[row.Seq]
	return m
}
