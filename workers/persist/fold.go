package persist

import (
	"parley/schemas"
	"parley/workers/store"
)

// fold returns the batch that commits events, which rise, up to the sequence
// committed. All that it assigns (prev, n, the bucket) comes from the chats'
// heads: whoever folds the same events again makes the same rows. An event that
// is not above its chat's head was applied before and is left out.
func fold(shard string, heads func(schemas.Chat) store.Head, events []event, committed uint64) store.Batch {
	batch := store.Batch{Shard: shard, Committed: committed}
	index := make(map[schemas.Chat]int)
	for i := range events {
		e := &events[i]
		at, ok := index[e.chat]
		if !ok {
			head := heads(e.chat)
			if e.seq <= head.LastSeq {
				continue
			}
			at = len(batch.Chats)
			index[e.chat] = at
			batch.Chats = append(batch.Chats, store.ChatBatch{Chat: e.chat, Head: head, Opened: head.LastSeq == 0})
		}
		foldEvent(&batch.Chats[at], e)
	}
	return batch
}

func foldEvent(chat *store.ChatBatch, e *event) {
	head := &chat.Head
	bytes := int64(len(e.data))
	first := head.LastSeq == 0
	full := head.BucketEvents >= store.BucketEventsMax || head.BucketBytes+bytes > store.BucketBytesMax
	if first {
		head.Created = e.time
	}
	if full && !first {
		head.Bucket, head.BucketEvents, head.BucketBytes = head.Bucket+1, 0, 0
	}
	if full || first {
		chat.Buckets = append(chat.Buckets, store.Bucket{Bucket: head.Bucket, FirstSeq: e.seq})
	}
	if e.event.Type == schemas.Message {
		head.LastN++
	}
	chat.Events = append(chat.Events, store.Event{
		Bucket: head.Bucket,
		Seq:    e.seq,
		Prev:   head.LastSeq,
		N:      head.LastN,
		Time:   e.time,
		Type:   e.event.Type,
		Author: e.event.From,
		ID:     e.event.ID,
		JSON:   e.data,
	})
	head.LastSeq, head.LastTime = e.seq, e.time
	head.BucketEvents++
	head.BucketBytes += bytes
}
