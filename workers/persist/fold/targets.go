package fold

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// Targets are the messages that the events of a batch are about, by chat and seq.
type Targets map[schemas.Chat]map[uint64]*target

// target is a message as the fold knows it by then: as it is stored, or as the
// batch itself brings it. Its row's seq is 0 as long as there is none.
type target struct {
	row   store.Event
	edits []store.Event // rows of its edits, where the batch deletes it
}

// targetReadsMax bounds the chats whose targets are read side by side.
const targetReadsMax = 16

// TargetStore reads what is stored of targets.
type TargetStore interface {
	// Events returns the chat's rows at seqs, those that there are, by rising seq.
	Events(ctx context.Context, chat schemas.Chat, seqs []uint64) ([]store.Event, error)
	// Edits returns the edits of events, by rising target, then seq.
	Edits(ctx context.Context, chat schemas.Chat, of []store.Event) ([]store.Edit, error)
}

// LoadTargets finds what events are about. Rows above a chat's head are the
// batch's own, also where an earlier try has stored them.
func LoadTargets(ctx context.Context, st TargetStore, heads Heads, events []Event) (Targets, error) {
	found := make(Targets)
	deleted := make(map[*target]bool)
	for i := range events {
		e := &events[i]
		if !e.Event.HasTarget() || e.Event.Target >= e.Seq || e.Seq <= heads(e.Chat).LastSeq {
			continue
		}
		if found[e.Chat] == nil {
			found[e.Chat] = make(map[uint64]*target)
		}
		t := found[e.Chat][e.Event.Target]
		if t == nil {
			t = &target{}
			found[e.Chat][e.Event.Target] = t
		}
		deleted[t] = deleted[t] || e.Event.Type == schemas.Delete
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
func editsOf(ctx context.Context, st TargetStore, chat schemas.Chat, row store.Event, upto uint64) ([]store.Event, error) {
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
