package persist

import (
	"parley/schemas"
	"parley/workers/store"
)

// fold returns the batch that commits events, which rise, up to the sequence
// committed. All that it assigns (prev, n, the bucket) comes from the chats'
// heads, and what an event does to an earlier one from that one's row: whoever
// folds the same events again makes the same rows. An event that is not above its
// chat's head was applied before and is left out.
func fold(shard string, heads func(schemas.Chat) store.Head, targets targets, events []event, committed uint64) store.Batch {
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
		foldEvent(&batch.Chats[at], targets[e.chat], e)
	}
	return batch
}

// foldEvent adds an event's row to its chat, and what it does to others'.
func foldEvent(chat *store.ChatBatch, targets map[uint64]*target, e *event) {
	head := &chat.Head
	foldBy(head, e)
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
	row := store.Event{
		Bucket: head.Bucket,
		Seq:    e.seq,
		Prev:   head.LastSeq,
		N:      head.LastN,
		Time:   e.time,
		Type:   e.event.Type,
		Author: e.event.From,
		ID:     e.event.ID,
		JSON:   e.data,
	}
	row.Expires, _ = e.event.Expires(e.time)
	if e.event.HasTarget() {
		foldChange(chat, targets[e.event.Target], e, &row)
	}
	foldRoles(chat, e, first)
	if e.event.Type == schemas.Message {
		chat.Reads = raise(chat.Reads, store.Read{User: e.event.From, Seq: e.seq, N: head.LastN})
		if t, wanted := targets[e.seq]; wanted {
			t.row = row
		}
	}
	chat.Events = append(chat.Events, row)
	head.Disappearing = head.Disappearing || !row.Expires.IsZero()
	head.LastSeq, head.LastTime = e.seq, e.time
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

// foldRoles adds what an event makes of users: those of a direct chat are in it
// from its first event on.
func foldRoles(chat *store.ChatBatch, e *event, first bool) {
	if a, b, direct := chat.Chat.Users(); direct {
		if first {
			chat.Roles = append(chat.Roles, store.Role{User: a, Role: schemas.Member, Seq: e.seq, Joins: true})
			if a != b {
				chat.Roles = append(chat.Roles, store.Role{User: b, Role: schemas.Member, Seq: e.seq, Joins: true})
			}
		}
		return
	}
	head, ev := &chat.Head, e.event
	foldGroup(head, ev)
	for user, role := range ev.Roles() {
		change := store.Role{User: user, Role: role, Seq: e.seq}
		if ev.Joins() {
			change.Joins, change.From = true, head.History.ReadFrom(e.seq)
			if head.LastN > 0 { // what came before counts as read
				chat.Reads = raise(chat.Reads, store.Read{User: user, Seq: e.seq, N: head.LastN})
			}
		}
		chat.Roles = append(chat.Roles, change)
	}
}

// foldGroup changes a group's head as an event says.
func foldGroup(head *store.Head, ev *schemas.Event) {
	if ev.Type == schemas.GroupEvent {
		head.Name = ev.Name
		if ev.Change == schemas.Created {
			head.History = ev.History
		}
	}
	if ev.ChangesGroup() {
		head.Members = ev.Count
	}
}
