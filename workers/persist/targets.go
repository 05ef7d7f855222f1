package persist

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// targets are the messages that the events of a batch are about, by chat and seq.
type targets map[schemas.Chat]map[uint64]*target

// target is a message as the fold knows it by then: as it is stored, or as the
// batch itself brings it. Its row's seq is 0 as long as there is none.
type target struct {
	row   store.Event
	edits []store.Event // rows of its edits, where the batch deletes it
}

// targetReadsMax bounds the chats whose targets are read side by side.
const targetReadsMax = 16

// targetStore reads what is stored of targets.
type targetStore interface {
	// Events returns the chat's rows at seqs, those that there are, by rising seq.
	Events(ctx context.Context, chat schemas.Chat, seqs []uint64) ([]store.Event, error)
	// Edits returns the edits of events, by rising target, then seq.
	Edits(ctx context.Context, chat schemas.Chat, of []store.Event) ([]store.Edit, error)
}

// loadTargets finds what events are about. Rows above a chat's head are the
// batch's own, also where an earlier try has stored them.
func loadTargets(ctx context.Context, st targetStore, heads func(schemas.Chat) store.Head, events []event) (targets, error) {
	found := make(targets)
	deleted := make(map[*target]bool)
	for i := range events {
		e := &events[i]
		if !e.event.HasTarget() || e.event.Target >= e.seq || e.seq <= heads(e.chat).LastSeq {
			continue
		}
		if found[e.chat] == nil {
			found[e.chat] = make(map[uint64]*target)
		}
		t := found[e.chat][e.event.Target]
		if t == nil {
			t = &target{}
			found[e.chat][e.event.Target] = t
		}
		deleted[t] = deleted[t] || e.event.Type == schemas.Delete
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(targetReadsMax)
	for chat, ofChat := range found {
		var stored []uint64
		for seq := range ofChat {
			if seq <= heads(chat).LastSeq {
				stored = append(stored, seq)
			}
		}
		if len(stored) == 0 {
			continue
		}
		group.Go(func() error {
			rows, err := st.Events(ctx, chat, stored)
			if err != nil {
				return fmt.Errorf("read %d targets in %s: %w", len(stored), chat, err)
			}
			for _, row := range rows {
				t := ofChat[row.Seq]
				t.row = row
				if !deleted[t] {
					continue
				}
				if t.edits, err = editsOf(ctx, st, chat, row, heads(chat).LastSeq); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return found, group.Wait()
}

// editsOf returns the rows of a message's edits up to a seq.
func editsOf(ctx context.Context, st targetStore, chat schemas.Chat, row store.Event, upto uint64) ([]store.Event, error) {
	edits, err := st.Edits(ctx, chat, []store.Event{row})
	if err != nil {
		return nil, fmt.Errorf("read edits of %d in %s: %w", row.Seq, chat, err)
	}
	var seqs []uint64
	for _, edit := range edits {
		if edit.Seq <= upto {
			seqs = append(seqs, edit.Seq)
		}
	}
	if len(seqs) == 0 {
		return nil, nil
	}
	rows, err := st.Events(ctx, chat, seqs)
	if err != nil {
		return nil, fmt.Errorf("read %d edits of %d in %s: %w", len(seqs), row.Seq, chat, err)
	}
	return rows, nil
}

// foldChange adds what an event does to its target, which row, the event's own,
// is not part of yet. Only a message of the same chat that has not disappeared is
// a target; for anything else the event changes nothing. After the delete of a
// message, further deletes and edits change nothing of it, and such an edit is
// stored without its body; it can be unpinned, and nobody is shown its reactions.
func foldChange(chat *store.ChatBatch, t *target, e *event, row *store.Event) {
	if t == nil || t.row.Seq == 0 || t.row.Type != schemas.Message {
		return
	}
	if !t.row.Expires.IsZero() && !e.time.Before(t.row.Expires) {
		return
	}
	state := &t.row.State
	gone := state.Deleted != 0 && state.Deleted < e.seq
	ev := e.event
	change := store.Change{Type: ev.Type, Seq: e.seq, Target: t.row.Seq, Bucket: t.row.Bucket, Expires: t.row.Expires, On: !ev.Remove}
	switch ev.Type {
	case schemas.Edit:
		if gone {
			row.JSON = blank(row)
			return
		}
		if ev.From != t.row.Author {
			return
		}
		change.Body, change.Time = ev.Body, e.time
		row.Expires = t.row.Expires // what it says does not outlive the message
		state.Edited = max(state.Edited, e.seq)
		t.edits = append(t.edits, *row)
	case schemas.Delete:
		if gone {
			return
		}
		state.Deleted = e.seq
		change.Blanks = append(change.Blanks, blankOf(&t.row))
		for i := range t.edits {
			if t.edits[i].Seq < e.seq {
				change.Blanks = append(change.Blanks, blankOf(&t.edits[i]))
			}
		}
	case schemas.React:
		change.Emoji, change.User = ev.Emoji, ev.From
	}
	chat.Changes = append(chat.Changes, change)
}

func blankOf(row *store.Event) store.Blank {
	return store.Blank{Seq: row.Seq, Bucket: row.Bucket, JSON: blank(row)}
}

// blank is a row's JSON without its content. What cannot be read any more, as
// after a way back to an older version, loses all but who said it.
func blank(row *store.Event) []byte {
	if empty, err := schemas.Blank(row.JSON); err == nil {
		return empty
	}
	return []byte(`{"type":"` + string(schemas.Message) + `","id":"` + row.ID.String() + `","from":"` + row.Author.String() + `","body":{}}`)
}
