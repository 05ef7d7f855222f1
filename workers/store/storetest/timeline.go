package storetest

import (
	"fmt"
	"strings"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// Timeline makes the batches of one shard as a persister does: each event's
// place, n and bucket follow from the chat's head before it. Buckets close at
// BucketEvents, which is small so that a test sees many of them.
type Timeline struct {
	Shard        string
	BucketEvents int64 // default: 5

	seq    uint64
	heads  map[schemas.Chat]store.Head
	Events map[schemas.Chat][]store.Event // all that were made, by rising seq
}

// NewTimeline starts a shard's log after the sequence first.
func NewTimeline(shard string, first uint64) *Timeline {
	return &Timeline{Shard: shard, BucketEvents: 5, seq: first,
		heads: map[schemas.Chat]store.Head{}, Events: map[schemas.Chat][]store.Event{}}
}

// Message is one message to be put into a chat.
type Message struct {
	Chat schemas.Chat
	JSON string // default: a small event
}

// Batch puts messages into the log, in this order, and returns the commit that stores them.
func (l *Timeline) Batch(messages ...Message) store.Batch {
	b := store.Batch{Shard: l.Shard}
	at := map[schemas.Chat]int{}
	for _, m := range messages {
		l.seq++
		i, ok := at[m.Chat]
		if !ok {
			i = len(b.Chats)
			at[m.Chat] = i
			b.Chats = append(b.Chats, store.ChatBatch{Chat: m.Chat, Opened: l.heads[m.Chat].LastSeq == 0})
		}
		l.add(&b.Chats[i], m)
	}
	b.Committed = l.seq
	return b
}

func (l *Timeline) add(c *store.ChatBatch, m Message) {
	head := l.heads[c.Chat]
	now := time.Unix(1_790_000_000, 0).Add(time.Duration(l.seq) * 1_000_001).UTC()
	switch {
	case head.LastSeq == 0:
		head.Created = now
		c.Buckets = append(c.Buckets, store.Bucket{Bucket: 0, FirstSeq: l.seq})
	case head.BucketEvents >= l.BucketEvents:
		head.Bucket, head.BucketEvents, head.BucketBytes = head.Bucket+1, 0, 0
		c.Buckets = append(c.Buckets, store.Bucket{Bucket: head.Bucket, FirstSeq: l.seq})
	}
	author := User("alice")
	if first, _, ok := c.Chat.Users(); ok {
		author = first
	}
	id, err := schemas.ParseID(fmt.Sprintf("m-%d", l.seq))
	if err != nil {
		panic(err)
	}
	if m.JSON == "" {
		m.JSON = fmt.Sprintf(`{"type":"message","id":"%s","from":"%s","body":{"kind":"text","text":"message %d"}}`, id, author, l.seq)
	}
	e := store.Event{Bucket: head.Bucket, Seq: l.seq, Prev: head.LastSeq, N: head.LastN + 1, Time: now,
		Type: schemas.Message, Author: author, ID: id, JSON: []byte(m.JSON)}
	head.LastSeq, head.LastN, head.LastTime = e.Seq, e.N, now
	head.BucketEvents++
	head.BucketBytes += int64(len(e.JSON))
	l.heads[c.Chat], c.Head = head, head
	c.Events = append(c.Events, e)
	l.Events[c.Chat] = append(l.Events[c.Chat], e)
}

// Heads returns the head of each chat after all that was made.
func (l *Timeline) Heads() map[schemas.Chat]store.Head { return l.heads }

// Skip lets the log go on without events, as where a sequence is gone.
func (l *Timeline) Skip(n uint64) store.Batch {
	l.seq += n
	return store.Batch{Shard: l.Shard, Committed: l.seq}
}

// User returns the user named s, which is valid.
func User(s string) schemas.User {
	u, err := schemas.ParseUser(s)
	if err != nil {
		panic(err)
	}
	return u
}

// DirectChat returns the chat of a and b.
func DirectChat(a, b string) schemas.Chat { return schemas.DirectChat(User(a), User(b)) }

// GroupChat returns the group named id.
func GroupChat(id string) schemas.Chat {
	chat, err := schemas.ParseChat("group." + id)
	if err != nil {
		panic(err)
	}
	return chat
}

// Text is a message whose event has a body of n bytes of text.
func Text(chat schemas.Chat, n int) Message {
	return Message{Chat: chat, JSON: `{"type":"message","id":"x","from":"alice","body":{"kind":"text","text":"` + strings.Repeat("x", n) + `"}}`}
}
