package storetest

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/schemas"
	"parley/workers/store"
)

func compareNames(a, b schemas.User) int { return cmp.Compare(a.String(), b.String()) }

// testRedelivery gives all batches again, one by one and as a whole, in many
// orders: not a byte changes.
func testRedelivery(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	l.BucketEvents = 3
	team, chat := GroupChat("team"), DirectChat("alice", "bob")
	first := l.seq + 1 // of chat
	batches := []store.Batch{
		l.Batch(Message{Chat: chat}, Create(team, "alice", schemas.HistoryJoined, "bob", "carol"), Message{Chat: team}, Message{Chat: chat, TTL: time.Hour}),
		l.Batch(Edit(chat, "alice", first, "once"), Pin(chat, "bob", first, true), React(chat, "bob", first, "+1", true), Remove(team, "alice", "bob")),
		l.Batch(Edit(chat, "alice", first, "twice"), React(chat, "bob", first, "+1", false), Edit(chat, "alice", first+3, "gone soon"), Message{Chat: team}),
		l.Batch(Delete(chat, "alice", first), Pin(chat, "bob", first, false), Add(team, "alice", "bob"), SetRole(team, "alice", "bob", schemas.Owner)),
		l.Batch(Edit(team, "alice", first+2, "once"), Message{Chat: chat}),
		l.Batch(Edit(team, "alice", first+2, "twice"), Pin(team, "alice", first+2, true), Pin(team, "bob", first+2, false)),
		l.Batch(React(chat, "alice", first+3, "+1", true), Leave(team, "bob", "alice"), Message{Chat: chat}, Rename(team, "alice", "Us")),
	}
	commit(t, s, batches...)
	wantAll(t, t, s, l)
	before := s.Dump()
	for _, order := range [][]int{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {0, 1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1, 0}, {1, 0, 3, 2, 5, 4, 6, 0}, {2, 4, 2, 0}, {3, 1, 6, 4, 1}} {
		for _, i := range order {
			commit(t, s, batches[i])
		}
		wantDump(t, s, before)
	}
	wantAll(t, t, s, l)
	var twice []store.Batch
	for _, b := range batches {
		twice = append(twice, b, b)
	}
	wantDump(t, s, dumpOf(t, open, twice...))
}

// testSchedules draws what users say and do, commits it in order, and again in
// any order: what is read is what the model has. All checks share one store, in
// chats and with users of their own.
func testSchedules(t *testing.T, open Open) {
	s := opened(t, open)
	check := 0
	rapid.Check(t, func(rt *rapid.T) {
		check++
		d := drawer{rt: rt, line: NewTimeline(fmt.Sprint(check), 1<<40)}
		d.line.BucketEvents = int64(rapid.IntRange(1, 6).Draw(rt, "events a bucket"))
		for i := range 4 {
			d.names = append(d.names, fmt.Sprintf("u%d-%d", check, i))
		}
		d.chats = []schemas.Chat{DirectChat(d.names[0], d.names[1]), GroupChat(fmt.Sprintf("g%d", check))}
		give := func(b store.Batch) {
			if err := s.Commit(t.Context(), b); err != nil {
				rt.Fatal(err)
			}
		}
		batches := []store.Batch{d.line.Batch(Create(d.chats[1], d.names[0], schemas.HistoryJoined, d.names[1]))}
		for range rapid.IntRange(1, 5).Draw(rt, "batches") {
			var messages []Message
			for range rapid.IntRange(0, 6).Draw(rt, "messages") {
				// Each is made of what is there before it: a batch of one at a time shows it.
				messages = append(messages, d.message())
			}
			batches = append(batches, d.line.Batch(messages...))
		}
		for _, b := range batches {
			give(b)
		}
		wantAll(t, rt, s, d.line)
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(batches)-1), 0, 6).Draw(rt, "again") {
			give(batches[i])
		}
		wantAll(t, rt, s, d.line)
	})
	t.Logf("%d schedules", check)
}

// drawer draws what is said next.
type drawer struct {
	rt    *rapid.T
	line  *Timeline
	chats []schemas.Chat
	names []string
}

func (d *drawer) name() string { return rapid.SampledFrom(d.names).Draw(d.rt, "name") }

func (d *drawer) message() Message {
	chat := rapid.SampledFrom(d.chats).Draw(d.rt, "chat")
	from, on := d.name(), rapid.Bool().Draw(d.rt, "on")
	// A target may be in this batch, in another chat, an edit, or not there at all.
	target := d.line.first + uint64(rapid.IntRange(1, int(d.line.seq-d.line.first)+4).Draw(d.rt, "target"))
	kinds := []string{"message", "message", "disappearing", "edit", "edit", "delete", "react", "react", "pin"}
	if chat.Kind() == schemas.Group {
		kinds = append(kinds, "add", "remove", "leave", "role", "rename")
	}
	switch rapid.SampledFrom(kinds).Draw(d.rt, "kind") {
	case "disappearing":
		return Message{Chat: chat, TTL: time.Hour, Event: schemas.Event{From: User(from)}}
	case "edit":
		return Edit(chat, from, target, fmt.Sprintf("edited by %s", from))
	case "delete":
		return Delete(chat, from, target)
	case "react":
		return React(chat, from, target, rapid.SampledFrom([]string{"+1", "👍"}).Draw(d.rt, "emoji"), on)
	case "pin":
		return Pin(chat, from, target, on)
	case "add":
		return Add(chat, from, d.name())
	case "remove":
		return Remove(chat, from, d.name())
	case "leave":
		return Leave(chat, from, "")
	case "role":
		return SetRole(chat, from, d.name(), rapid.SampledFrom([]schemas.Role{schemas.Owner, schemas.Admin, schemas.Member}).Draw(d.rt, "role"))
	case "rename":
		return Rename(chat, from, "named by "+from)
	}
	return Message{Chat: chat, Event: schemas.Event{From: User(from)}}
}
