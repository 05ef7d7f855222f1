package replay

import (
	"context"
	"fmt"

	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
	"parley/workers/persist"
	"parley/workers/persist/fold"
	"parley/workers/store"
)

// Store is the store that a [Replayer] writes to.
type Store interface {
	persist.Store
	// Page returns the events of chat that r asks for, by rising seq.
	Page(ctx context.Context, chat schemas.Chat, r store.Range) (events []store.Event, more bool, err error)
}

// Replayer writes events that persist gave up on into the store after all, once
// this binary can read them.
//
// Each goes where its sequence puts it, as the row that stands behind the event
// before it: with that one's bucket and its n. So it is in every page, and is not
// counted: the n of later messages was given out long ago, and no unread count
// moves. The row's stamp is its own sequence, like any other's. The chat's head
// is written with that stamp too, so that it changes only where the event is the
// chat's last; there, persist may overwrite it at any time, with the same n. A
// letter whose row is there already is done.
//
// What it does to an earlier message and to users is done too, and yields to what
// later events did. What those did to it is not made up for: where a message was
// given up, its edits, reactions and deletes found nothing to change; and where a
// delete was, the message's edits behind it keep what they said, in its history.
//
// It is refused, and the letter stays, while persist has not passed the event,
// since what stands before it may not be stored yet; and where the chat's first
// stored event is a later one, since nothing tells where a chat begins but that.
type Replayer struct {
	store  Store
	layout streams.Layout
}

var _ Handler = (*Replayer)(nil)

// New returns a Replayer that writes to st.
func New(st Store, layout streams.Layout) *Replayer {
	return &Replayer{store: st, layout: layout}
}

// Replay stores the event of a letter.
func (r *Replayer) Replay(ctx context.Context, l dead.Letter) error {
	shard, ok := streams.ParseStream(l.Stream)
	if !ok {
		return fmt.Errorf("stream %q is no chat stream", l.Stream)
	}
	late, err := fold.Decode(r.layout, shard, fold.Entry{Seq: l.Seq, Subject: l.Subject, Time: l.Time, Data: l.Data})
	if err != nil {
		return err
	}
	chat := late.Chat
	committed, err := r.store.Committed(ctx, shard.Token)
	if err != nil {
		return fmt.Errorf("read row of shard %s: %w", shard.Token, err)
	}
	// A shard that was made anew is passed for good: what was not persisted is lost.
	lost := shard.Generation < r.layout.At(shard.Index).Generation
	if committed < l.Seq && !lost {
		return fmt.Errorf("shard %s is persisted up to %d only: event %d is not its turn yet", shard.Token, committed, l.Seq)
	}
	before, err := r.eventUpTo(ctx, chat, l.Seq)
	if err != nil {
		return err
	}
	if before != nil && before.Seq == l.Seq {
		return nil
	}
	heads, err := r.store.Heads(ctx, []schemas.Chat{chat})
	if err != nil {
		return fmt.Errorf("read head of %s: %w", chat, err)
	}
	head, begun := heads[chat]
	if begun && before == nil {
		return fmt.Errorf("event %d of %s comes before the first one that is stored", l.Seq, chat)
	}
	below := func(schemas.Chat) store.Head { return store.Head{LastSeq: l.Seq - 1} }
	targets, err := fold.LoadTargets(ctx, r.store, below, []fold.Event{late})
	if err != nil {
		return err
	}
	return r.store.Commit(ctx, store.Batch{
		Shard:     shard.Token,
		Committed: committed, // the row only rises: this is no step back where persist is ahead
		Chats:     []store.ChatBatch{fold.Late(late, targets, before, head)},
	})
}

// eventUpTo returns the chat's last stored event up to seq; nil where there is none.
func (r *Replayer) eventUpTo(ctx context.Context, chat schemas.Chat, seq uint64) (*store.Event, error) {
	events, _, err := r.store.Page(ctx, chat, store.Range{Before: seq + 1, Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("read events before %d of %s: %w", seq, chat, err)
	}
	if len(events) == 0 {
		return nil, nil
	}
	return &events[0], nil
}
