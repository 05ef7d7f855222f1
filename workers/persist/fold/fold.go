package fold

import (
	"parley/schemas"
	"parley/workers/store"
)

// Heads returns a chat's head before the events; the zero head for a chat without events.
type Heads func(schemas.Chat) store.Head

// Batch returns the batch that commits events, which rise, up to the sequence
// committed. All that it assigns (prev, n, the bucket) comes from the chats'
// heads, and what an event does to an earlier one from that one's row: whoever
// folds the same events again makes the same rows. An event that is not above its
// chat's head was applied before and is left out.
func Batch(shard string, heads Heads, targets Targets, events []Event, committed uint64) store.Batch {
	return CorrectedBatch(shard, heads, targets, events, committed, func(*store.Head, *Event) {})
}

// CorrectedBatch is [Batch] for a log that lacks events which the store has. It calls
// correct before each event that it folds; correct can move the chat's head to where
// it was before that event.
func CorrectedBatch(shard string, heads Heads, targets Targets, events []Event, committed uint64, correct func(*store.Head, *Event)) store.Batch {
	batch := store.Batch{Shard: shard, Committed: committed}
	index := make(map[schemas.Chat]int)
	for i := range events {
		e := &events[i]
		at, ok := index[e.Chat]
		if !ok {
			head := heads(e.Chat)
			if e.Seq <= head.LastSeq {
				continue
			}
			at = len(batch.Chats)
			index[e.Chat] = at
			batch.Chats = append(batch.Chats, store.ChatBatch{Chat: e.Chat, Head: head, Opened: head.LastSeq == 0})
		}
		correct(&batch.Chats[at].Head, e)
		foldEvent(&batch.Chats[at], targets[e.Chat], e)
	}
	return batch
}

// foldEvent adds an event's row to its chat, and what it does to others'.
func foldEvent(chat *store.ChatBatch, targets map[uint64]*target, e *Event) {
	head := &chat.Head
	bytes := int64(len(e.Data))
	first := head.LastSeq == 0
	full := head.BucketEvents >= store.BucketEventsMax || head.BucketBytes+bytes > store.BucketBytesMax
	if first {
		head.Created = e.Time
	}
	if full && !first {
		head.Bucket, head.BucketEvents, head.BucketBytes = head.Bucket+1, 0, 0
	}
	if full || first {
		chat.Buckets = append(chat.Buckets, store.Bucket{Bucket: head.Bucket, FirstSeq: e.Seq})
	}
	if e.Event.Type == schemas.Message {
		head.LastN++
	}
	row := store.Event{
		Bucket: head.Bucket,
		Seq:    e.Seq,
		Prev:   head.LastSeq,
		N:      head.LastN,
		Time:   e.Time,
		Type:   e.Event.Type,
		Author: e.Event.From,
		ID:     e.Event.ID,
		JSON:   e.Data,
	}
	row.Expires, _ = e.Event.Expires(e.Time)
	if e.Event.HasTarget() {
		foldChange(chat, targets[e.Event.Target], e, &row)
	}
	foldRoles(chat, e, first)
	if e.Event.Type == schemas.Message {
		chat.Reads = raise(chat.Reads, store.Read{User: e.Event.From, Seq: e.Seq, N: head.LastN})
		if t, wanted := targets[e.Seq]; wanted {
			t.row = row
		}
	}
	chat.Events = append(chat.Events, row)
	head.Disappearing = head.Disappearing || !row.Expires.IsZero()
	head.LastSeq, head.LastTime = e.Seq, e.Time
	head.BucketEvents++
	head.BucketBytes += bytes
}

// raise moves a user's read mark: who sends has read what came before.
func raise(reads []store.Read, read store.Read) []store.Read {
	for i := range reads {
		if reads[i].User == read.User {
			reads[i] = read
			return reads
		}
	}
	return append(reads, read)
}
