package fold

import (
	"parley/schemas"
	"parley/workers/store"
)

// Late returns the rows of an event that is stored after its chat went on: behind the
// event before it, or as the chat's first where before is nil. They include the changes
// of its target and of users. head is the chat's head now, or the zero head.
//
// The event is not counted: the n of later messages is final.
func Late(late Event, targets Targets, before *store.Event, head store.Head) store.ChatBatch {
	b := store.ChatBatch{Chat: late.Chat, Head: head, Opened: before == nil}
	row := store.Event{
		Seq: late.Seq, Time: late.Time, Type: late.Event.Type, Author: late.Event.From, ID: late.Event.ID, JSON: late.Data,
	}
	if b.Opened {
		b.Head.Created = late.Time
		b.Buckets = []store.Bucket{{Bucket: 0, FirstSeq: late.Seq}}
	} else {
		row.Bucket, row.Prev, row.N = before.Bucket, before.Seq, before.N
	}
	row.Expires, _ = late.Event.Expires(late.Time)
	b.Head.LastSeq, b.Head.LastN, b.Head.LastTime, b.Head.Bucket = row.Seq, row.N, row.Time, row.Bucket
	t := targets[late.Chat][late.Event.Target]
	switch {
	case late.Event.Type == schemas.Edit && t != nil && t.row.State.Deleted != 0:
		row.JSON = blank(&row) // also where the delete came after it
	case late.Event.HasTarget():
		foldChange(&b, t, &late, &row)
	}
	foldRoles(&b, &late, b.Opened)
	b.Head.Disappearing = b.Head.Disappearing || !row.Expires.IsZero()
	b.Head.BucketEvents++
	b.Head.BucketBytes += int64(len(row.JSON))
	b.Events = []store.Event{row}
	return b
}
