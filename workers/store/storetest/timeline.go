package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"parley/schemas"
	"parley/workers/store"
)

// Timeline makes the batches of one shard as a persister does: each event's
// place, n and bucket follow from the chat's head before it. Buckets close at
// BucketEvents, which is small so that a test sees many of them. It is the model
// too: it knows what a store has to answer once it has all batches.
type Timeline struct {
	Shard        string
	BucketEvents int64 // default: 5

	first  uint64 // the sequence before the log's first
	seq    uint64
	heads  map[schemas.Chat]store.Head
	states map[schemas.Chat]*state
	Events map[schemas.Chat][]store.Event // all that were made, by rising seq, as they are by now
}

// NewTimeline starts a shard's log after the sequence first.
func NewTimeline(shard string, first uint64) *Timeline {
	return &Timeline{Shard: shard, BucketEvents: 5, first: first, seq: first, heads: map[schemas.Chat]store.Head{},
		states: map[schemas.Chat]*state{}, Events: map[schemas.Chat][]store.Event{}}
}

// Message is what somebody says in a chat: a message, or what Event says.
type Message struct {
	Chat  schemas.Chat
	JSON  string        // default: a small message
	TTL   time.Duration // default: it stays
	Event schemas.Event // default: a message of the chat's first user, or of alice
}

// Start is when a timeline's first event was stored, nearly.
var Start = time.Unix(1_790_000_000, 0).UTC()

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

// add puts one event into its chat, and what follows from it into c.
func (l *Timeline) add(c *store.ChatBatch, m Message) {
	head, first := l.heads[c.Chat], l.heads[c.Chat].LastSeq == 0
	ev, text := l.event(m)
	now := l.time()
	switch {
	case first:
		head.Created = now
		c.Buckets = append(c.Buckets, store.Bucket{Bucket: 0, FirstSeq: l.seq})
	case head.BucketEvents >= l.BucketEvents:
		head.Bucket, head.BucketEvents, head.BucketBytes = head.Bucket+1, 0, 0
		c.Buckets = append(c.Buckets, store.Bucket{Bucket: head.Bucket, FirstSeq: l.seq})
	}
	if ev.Type == schemas.Message {
		head.LastN++
	}
	e := store.Event{Bucket: head.Bucket, Seq: l.seq, Prev: head.LastSeq, N: head.LastN, Time: now,
		Type: ev.Type, Author: ev.From, ID: ev.ID, JSON: []byte(text)}
	if m.TTL > 0 {
		e.Expires = now.Add(m.TTL)
	}
	if l.states[c.Chat] == nil {
		l.states[c.Chat] = newState()
	}
	s := l.states[c.Chat]
	if ev.HasTarget() {
		if change, ok := s.change(l.Events[c.Chat], &e, ev); ok {
			c.Changes = append(c.Changes, change)
		}
	}
	s.roles(c, &head, &e, ev, first)
	head.Disappearing = head.Disappearing || !e.Expires.IsZero()
	head.LastSeq, head.LastTime = e.Seq, now
	head.BucketEvents++
	head.BucketBytes += int64(len(e.JSON))
	l.heads[c.Chat], c.Head = head, head
	c.Events = append(c.Events, e)
	l.Events[c.Chat] = append(l.Events[c.Chat], e)
}

// time is when the log stored its newest event.
func (l *Timeline) time() time.Time {
	return Start.Add(time.Duration(l.seq-l.first) * 1_000_001)
}

// event is what m says at the log's newest sequence, with its JSON.
func (l *Timeline) event(m Message) (*schemas.Event, string) {
	ev := m.Event
	if ev.Type == "" {
		ev.Type = schemas.Message
	}
	if ev.From.IsZero() {
		ev.From = User("alice")
		if first, _, ok := m.Chat.Users(); ok {
			ev.From = first
		}
	}
	ev.ID = ID(fmt.Sprintf("m-%d", l.seq))
	if m.JSON != "" {
		return &ev, m.JSON
	}
	if ev.Type == schemas.Message && ev.Body == nil {
		ev.Body = TextBody(fmt.Sprintf("message %d", l.seq))
	}
	text, err := schemas.EncodeEvent(&ev)
	if err != nil {
		panic(err)
	}
	return &ev, string(text)
}

// Heads returns the head of each chat after all that was made.
func (l *Timeline) Heads() map[schemas.Chat]store.Head { return l.heads }

// Last is the sequence of the log's newest event.
func (l *Timeline) Last() uint64 { return l.seq }

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

// ID returns the id s, which is valid.
func ID(s string) schemas.ID {
	id, err := schemas.ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
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

// TextBody is a body of text, in which nothing needs to be escaped.
func TextBody(text string) jsontext.Value {
	return jsontext.Value(`{"kind":"text","text":"` + text + `"}`)
}

// Text is a message whose event has a body of n bytes of text.
func Text(chat schemas.Chat, n int) Message {
	return Message{Chat: chat, JSON: `{"type":"message","id":"x","from":"alice","body":{"kind":"text","text":"` + strings.Repeat("x", n) + `"}}`}
}

// WantAll checks that a store has all events of a timeline, in order.
func WantAll(t testing.TB, s Store, l *Timeline) {
	t.Helper()
	for chat, all := range l.Events {
		events, more, err := s.Page(t.Context(), chat, store.Range{Forward: true, Limit: len(all) + 1})
		if err != nil || more || len(events) != len(all) {
			t.Fatalf("%s has %d events, more %t, %v, want %d", chat, len(events), more, err, len(all))
		}
		for i := range all {
			if events[i].Seq != all[i].Seq || string(events[i].JSON) != string(all[i].JSON) {
				t.Fatalf("event %d of %s is %d, want %d", i, chat, events[i].Seq, all[i].Seq)
			}
		}
	}
}

// BatchOfMany returns a batch with events in many chats, so that a test can stop its commit
// in the middle.
func BatchOfMany(l *Timeline) store.Batch {
	var messages []Message
	for i := range 400 {
		messages = append(messages, Message{Chat: DirectChat("alice", fmt.Sprintf("user-%d", i%200))})
	}
	return l.Batch(messages...)
}

// Again repeats a call until it succeeds: a driver looks for lost nodes each second. Until
// then the call must return [store.ErrUnavailable].
func Again(t testing.TB, call func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := call()
		if err == nil {
			return
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("%v, want ErrUnavailable until it works again", err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not work again: %v", err)
		}
	}
}
