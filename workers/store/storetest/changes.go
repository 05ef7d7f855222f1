package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// Edit, Delete, React and Pin are what a user says of the event target.
func Edit(chat schemas.Chat, from string, target uint64, text string) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.Edit, From: User(from), Target: target, Body: TextBody(text)}}
}

func Delete(chat schemas.Chat, from string, target uint64) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.Delete, From: User(from), Target: target}}
}

func React(chat schemas.Chat, from string, target uint64, emoji string, on bool) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.React, From: User(from), Target: target, Emoji: emoji, Remove: !on}}
}

func Pin(chat schemas.Chat, from string, target uint64, on bool) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.Pin, From: User(from), Target: target, Remove: !on}}
}

// testChanges has targets in the same batch, in an earlier one, and in closed buckets.
func testChanges(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	l.BucketEvents = 3
	ab, ac := DirectChat("alice", "bob"), DirectChat("alice", "carol")
	first := l.seq + 1
	for _, batch := range [][]Message{
		{{Chat: ab}, {Chat: ac}, Edit(ab, "alice", first, "same batch"), Edit(ac, "alice", first+1, "other chat")},
		{Edit(ab, "alice", first, "again"), {Chat: ab}, Pin(ab, "bob", first, true), React(ab, "bob", first, "+1", true)},
		{React(ab, "bob", first, "+1", false), React(ab, "alice", first+5, "👍🏽", true), React(ab, "bob", first+5, "👍🏽", true), Pin(ab, "bob", first+5, true)},
		{Pin(ab, "alice", first, false), React(ab, "bob", first+5, "it's \\", true), Edit(ab, "alice", first, "a third time")},
		{Edit(ab, "alice", first+900, "of nothing"), React(ab, "bob", first+2, "of an edit", true), Pin(ab, "bob", first+1, true)},
	} {
		commit(t, s, l.Batch(batch...))
		wantAll(t, t, s, l)
	}
	last := l.Events[ab]
	if last[0].State.Edited == 0 || !strings.Contains(string(last[0].State.Body), "a third time") || len(l.Edits(ab, last)) != 3 {
		t.Fatalf("the model has %+v: the test misses its point", last[0].State)
	}
	for _, c := range []struct {
		target uint64
		emoji  string
		user   string
		want   bool
	}{{first, "+1", "bob", false}, {first + 5, "👍🏽", "bob", true}, {first + 5, "👍🏽", "alice", true}, {first + 5, "👍", "alice", false}, {first + 5, "👍🏽", "carol", false}} {
		row := rowAt(last, c.target)
		on, err := s.Reacted(t.Context(), ab, row.Bucket, row.Seq, c.emoji, User(c.user))
		want(t, fmt.Sprintf("%s of %s to %d", c.emoji, c.user, c.target), c.want, on, err)
	}
	if events, err := s.Events(t.Context(), ab, []uint64{first, first, schemas.SeqMax, 0, first + 1}); len(events) != 1 || err != nil {
		t.Errorf("Events of the same seq twice, and of none: %d events, %v, want 1", len(events), err)
	}
}

// testDelete deletes a message with edits in three buckets: no row has its text.
func testDelete(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	l.BucketEvents = 3
	chat := DirectChat("alice", "bob")
	target := l.seq + 1
	const secret = "hush-hush"
	for i := range 4 {
		message := Message{Chat: chat, Event: schemas.Event{Body: TextBody(secret), Mentions: []string{"bob"}}}
		if i > 0 {
			message = Edit(chat, "alice", target, secret+" again")
		}
		commit(t, s, l.Batch(message, Message{Chat: chat}))
	}
	commit(t, s, l.Batch(Pin(chat, "bob", target, true), React(chat, "bob", target, "+1", true)))
	if n := strings.Count(s.Dump(), secret); n < 8 {
		t.Fatalf("the text is in %d places: the test misses its point", n)
	}
	commit(t, s, l.Batch(Delete(chat, "alice", target)))
	wantAll(t, t, s, l)
	if strings.Contains(s.Dump(), secret) {
		t.Errorf("the text is still there:\n%s", s.Dump())
	}
	// What comes later of it changes nothing, and leaves nothing either.
	commit(t, s, l.Batch(Edit(chat, "alice", target, secret), Delete(chat, "bob", target)))
	wantAll(t, t, s, l)
	if strings.Contains(s.Dump(), secret) {
		t.Errorf("the text came back:\n%s", s.Dump())
	}
}

// testReactions has more users under an emoji than a page names, who come in
// another order than that of their names, and some of whom go.
func testReactions(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	l.BucketEvents = 40
	chat := GroupChat("team")
	commit(t, s, l.Batch(Message{Chat: chat}, Message{Chat: chat}, Message{Chat: chat}))
	first := l.first + 1
	const users = 3 * schemas.ReactionUsersMax
	var messages []Message
	for i := range users {
		user := fmt.Sprintf("u%d", i*67%users)
		messages = append(messages, React(chat, user, first, "+1", true), React(chat, user, first+2, [...]string{"b", "a", "c"}[i%3], true))
	}
	for i := range users / 3 {
		messages = append(messages, React(chat, fmt.Sprintf("u%d", i), first, "+1", false))
	}
	messages = append(messages, React(chat, "u0", first, "+1", true))
	commit(t, s, l.Batch(messages...))
	rows := l.Events[chat][:3]
	reactions, err := s.Reactions(t.Context(), chat, rows)
	want(t, "reactions", l.Reactions(chat, rows), reactions, err)
	if got := reactions[first][0]; got.Count != users-users/3+1 || len(got.Users) != schemas.ReactionUsersMax {
		t.Errorf("%d users are counted and %d named", got.Count, len(got.Users))
	}
	// Of events that were not asked for nothing comes.
	some := []store.Event{rows[0], rows[2]}
	reactions, err = s.Reactions(t.Context(), chat, some)
	want(t, "reactions to two", l.Reactions(chat, some), reactions, err)
	reactions, err = s.Reactions(t.Context(), chat, rows[1:2])
	want(t, "reactions to one", nil, reactions, err)
}

// testPageBodies: short messages that were edited into long ones fill a page.
func testPageBodies(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	chat := DirectChat("alice", "bob")
	var messages, edits []Message
	for i := range 8 {
		messages = append(messages, Message{Chat: chat})
		edits = append(edits, Edit(chat, "alice", l.first+1+uint64(i), strings.Repeat("x", schemas.BodyBytesMax-100)))
	}
	commit(t, s, l.Batch(messages...))
	commit(t, s, l.Batch(edits...))
	page, more := wantPage(l.Events[chat], everything)
	if len(page) >= 8 || !more {
		t.Fatalf("the page has %d events: the test misses its point", len(page))
	}
	wantPages(t, s, l, chat, everything, store.Range{Limit: 3}, store.Range{Before: l.first + 7, Limit: 8})
}

// testFaultyChanges breaks one rule of changes, roles and reads at a time.
func testFaultyChanges(t *testing.T, open Open) {
	s := opened(t, open)
	chat := GroupChat("team")
	base := NewTimeline("0", 10)
	setup := base.Batch(Message{Chat: chat})
	commit(t, s, setup)
	before := s.Dump()
	type batch = store.ChatBatch
	for name, spoil := range map[string]func(*batch){
		"event expires before it is":      func(c *batch) { c.Events[0].Expires = c.Events[0].Time },
		"event expires in two years":      func(c *batch) { c.Events[0].Expires = c.Events[0].Time.AddDate(2, 0, 0) },
		"change of no event":              func(c *batch) { c.Changes[0].Seq = c.Events[0].Seq },
		"change after the events":         func(c *batch) { c.Changes[0].Seq = c.Head.LastSeq + 1 },
		"changes not in order":            func(c *batch) { c.Changes[0], c.Changes[1] = c.Changes[1], c.Changes[0] },
		"change of another type":          func(c *batch) { c.Changes[0].Type = schemas.Pin },
		"change of no type":               func(c *batch) { c.Changes[0].Type = schemas.Message; c.Events[1].Type = schemas.Message },
		"target 0":                        func(c *batch) { c.Changes[0].Target = 0 },
		"target itself":                   func(c *batch) { c.Changes[0].Target = c.Changes[0].Seq },
		"target's bucket negative":        func(c *batch) { c.Changes[0].Bucket = -1 },
		"target's bucket later":           func(c *batch) { c.Changes[0].Bucket = 9 },
		"target expires before 1970":      func(c *batch) { c.Changes[1].Expires = time.Unix(-1, 0) },
		"edit without a body":             func(c *batch) { c.Changes[0].Body = nil },
		"edit without a time":             func(c *batch) { c.Changes[0].Time = time.Time{} },
		"edit that outlives its target":   func(c *batch) { c.Changes[0].Expires = c.Events[1].Time.Add(time.Hour) },
		"delete that blanks nothing":      func(c *batch) { c.Changes[3].Blanks = nil },
		"delete that blanks another":      func(c *batch) { c.Changes[3].Blanks[0].Seq++ },
		"delete in another bucket":        func(c *batch) { c.Changes[3].Blanks[0].Bucket++ },
		"delete of an edit before it":     func(c *batch) { c.Changes[3].Blanks[1].Seq = 1 },
		"delete of an edit after it":      func(c *batch) { c.Changes[3].Blanks[1].Seq = c.Changes[3].Seq },
		"delete of an edit in no bucket":  func(c *batch) { c.Changes[3].Blanks[1].Bucket = -1 },
		"delete without JSON":             func(c *batch) { c.Changes[3].Blanks[1].JSON = nil },
		"reaction without an emoji":       func(c *batch) { c.Changes[1].Emoji = "" },
		"reaction of nobody":              func(c *batch) { c.Changes[1].User = schemas.User{} },
		"role of nobody":                  func(c *batch) { c.Roles[0].User = schemas.User{} },
		"role of no event":                func(c *batch) { c.Roles[0].Seq = 11 },
		"role that there is not":          func(c *batch) { c.Roles[0].Role = "guest" },
		"role that joins and has left":    func(c *batch) { c.Roles[0].Role = schemas.Left },
		"role that reads what is to come": func(c *batch) { c.Roles[0].From = c.Roles[0].Seq + 1 },
		"read mark of nobody":             func(c *batch) { c.Reads[0].User = schemas.User{} },
		"read mark 0":                     func(c *batch) { c.Reads[0].Seq = 0 },
		"read mark beyond the last":       func(c *batch) { c.Reads[0].Seq = c.Head.LastSeq + 1 },
		"read mark of more messages":      func(c *batch) { c.Reads[0].N = c.Head.LastN + 1 },
		"members beyond 2^53":             func(c *batch) { c.Head.Members = schemas.SeqMax + 1 },
	} {
		l := NewTimeline("0", 10)
		l.Batch(Message{Chat: chat})
		b := l.Batch(Message{Chat: chat}, Edit(chat, "alice", 11, "once"), React(chat, "bob", 11, "+1", true),
			Pin(chat, "bob", 11, true), Delete(chat, "alice", 11), Add(chat, "alice", "bob"))
		spoil(&b.Chats[0])
		if err := s.Commit(t.Context(), b); !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
		wantDump(t, s, before)
	}
}
