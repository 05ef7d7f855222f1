package persist

import (
	"context"
	"fmt"

	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
	"parley/workers/store"
)

// ReplayStore is what a [Replayer] needs: the writing store and its pages.
type ReplayStore interface {
	Store
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
	store  ReplayStore
	layout streams.Layout
}

var _ dead.Handler = (*Replayer)(nil)

// NewReplayer returns a Replayer on st.
func NewReplayer(st ReplayStore, layout streams.Layout) *Replayer {
	return &Replayer{store: st, layout: layout}
}

// Replay stores the event of a letter.
func (r *Replayer) Replay(ctx context.Context, l dead.Letter) error {
	shard, ok := streams.ParseStream(l.Stream)
	if !ok {
		return fmt.Errorf("stream %q is no chat stream", l.Stream)
	}
	chat, err := chatOf(r.layout, shard, l.Subject)
	if err != nil {
		return err
	}
	ev, err := decodeEvent(chat, l.Data)
	if err != nil {
		return err
	}
	committed, err := r.store.Committed(ctx, shard.Token)
	if err != nil {
		return fmt.Errorf("read row of shard %s: %w", shard.Token, err)
	}
	// A shard that was made anew is passed for good: what was not persisted is lost.
	lost := shard.Generation < r.layout.At(shard.Index).Generation
	if committed < l.Seq && !lost {
		return fmt.Errorf("shard %s is persisted up to %d only: event %d is not its turn yet", shard.Token, committed, l.Seq)
	}
	before, _, err := r.store.Page(ctx, chat, store.Range{Before: l.Seq + 1, Limit: 1})
	if err != nil {
		return fmt.Errorf("read events before %d of %s: %w", l.Seq, chat, err)
	}
	if len(before) > 0 && before[0].Seq == l.Seq {
		return nil
	}
	heads, err := r.store.Heads(ctx, []schemas.Chat{chat})
	if err != nil {
		return fmt.Errorf("read head of %s: %w", chat, err)
	}
	head, begun := heads[chat]
	if begun && len(before) == 0 {
		return fmt.Errorf("event %d of %s comes before the first one that is stored", l.Seq, chat)
	}
	late := event{entry: entry{seq: l.Seq, subject: l.Subject, time: l.Time, data: l.Data}, chat: chat, event: ev}
	below := func(schemas.Chat) store.Head { return store.Head{LastSeq: l.Seq - 1} }
	targets, err := loadTargets(ctx, r.store, below, []event{late})
	if err != nil {
		return err
	}
	return r.store.Commit(ctx, store.Batch{
		Shard:     shard.Token,
		Committed: committed, // the row only rises: this is no step back where persist is ahead
		Chats:     []store.ChatBatch{place(late, targets[chat][ev.Target], before, head)},
	})
}

// place makes the row of late behind the event before it, or as the chat's first,
// with what it does to its target and to users.
func place(late event, t *target, before []store.Event, head store.Head) store.ChatBatch {
	b := store.ChatBatch{Chat: late.chat, Head: head, Opened: len(before) == 0}
	row := store.Event{
		Seq: late.seq, Time: late.time, Type: late.event.Type, Author: late.event.From, ID: late.event.ID, JSON: late.data,
	}
	if b.Opened {
		b.Head.Created = late.time
		b.Buckets = []store.Bucket{{Bucket: 0, FirstSeq: late.seq}}
	} else {
		row.Bucket, row.Prev, row.N = before[0].Bucket, before[0].Seq, before[0].N
	}
	row.Expires, _ = late.event.Expires(late.time)
	b.Head.LastSeq, b.Head.LastN, b.Head.LastTime, b.Head.Bucket = row.Seq, row.N, row.Time, row.Bucket
	switch {
	case late.event.Type == schemas.Edit && t != nil && t.row.State.Deleted != 0:
		row.JSON = blank(&row) // also where the delete came after it
	case late.event.HasTarget():
		foldChange(&b, t, &late, &row)
	}
	foldRoles(&b, &late, b.Opened)
	b.Head.Disappearing = b.Head.Disappearing || !row.Expires.IsZero()
	b.Head.BucketEvents++
	b.Head.BucketBytes += int64(len(row.JSON))
	b.Events = []store.Event{row}
	return b
}
