package storetest

import (
	"testing"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// testExpiry lets messages disappear, with their edits and what was said of them.
func testExpiry(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	l.BucketEvents = 3
	chat := DirectChat("alice", "bob")
	target := l.seq + 2
	batches := []store.Batch{
		l.Batch(Message{Chat: chat}, Message{Chat: chat, TTL: time.Hour}, Message{Chat: chat, TTL: 2 * time.Hour}),
		l.Batch(Edit(chat, "alice", target, "gone soon"), React(chat, "bob", target, "+1", true), Pin(chat, "bob", target, true)),
		l.Batch(Edit(chat, "alice", target+1, "gone later"), Message{Chat: chat}, Edit(chat, "alice", target+1, "gone later too")),
		l.Batch(Delete(chat, "alice", target+1), Message{Chat: chat, TTL: 90 * time.Minute}),
	}
	commit(t, s, batches...)
	wantAll(t, t, s, l)
	last := len(l.Events[chat]) - 1
	for _, c := range []struct {
		advance time.Duration
		left    int
	}{{time.Hour - time.Second, last + 1}, {2 * time.Second, last - 1}, {30 * time.Minute, last - 2}, {time.Hour, last - 5}} {
		s.Clock.Advance(c.advance)
		if rows := there(l.Events[chat], s.Clock.Now()); len(rows) != c.left {
			t.Fatalf("the model has %d events at %s, want %d: the test misses its point", len(rows), s.Clock.Now(), c.left)
		}
		wantAll(t, t, s, l)
		commit(t, s, batches[2], batches[0], batches[3], batches[1]) // nothing comes back
		wantAll(t, t, s, l)
	}
	// Who has read them before gets nothing more of them.
	edits, err := s.Edits(t.Context(), chat, l.Events[chat])
	want(t, "edits of what has disappeared", nil, edits, err)
	reactions, err := s.Reactions(t.Context(), chat, l.Events[chat])
	want(t, "reactions to what has disappeared", nil, reactions, err)
	// To the nanosecond.
	precise := DirectChat("alice", "carol")
	commit(t, s, l.Batch(Message{Chat: precise, TTL: time.Minute + 3*time.Hour}))
	s.Clock.Advance(l.Events[precise][0].Expires.Sub(s.Clock.Now()) - time.Nanosecond)
	wantAll(t, t, s, l)
	s.Clock.Advance(time.Nanosecond)
	wantAll(t, t, s, l)
	if events, err := s.Events(t.Context(), precise, seqsOf(l.Events[precise])); len(events) != 0 || err != nil {
		t.Errorf("at its time: %d events, %v, want none", len(events), err)
	}
	// A batch that comes for the first time after its events' time leaves its chat's head.
	late := NewTimeline("1", 1<<40)
	b := late.Batch(Message{Chat: GroupChat("late"), TTL: time.Second, Event: schemas.Event{From: User("zoe")}})
	commit(t, s, b)
	wantAll(t, t, s, late)
}

// testExpiredBuckets has whole buckets disappear at the beginning, in the middle
// and at the end of a chat.
func testExpiredBuckets(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	l.BucketEvents = 2
	chat := DirectChat("alice", "bob")
	const gone, stays = time.Hour, 0
	for _, ttl := range []time.Duration{gone, gone, stays, gone, gone, gone, gone, gone, gone, stays, stays, gone, gone, gone, gone} {
		commit(t, s, l.Batch(Message{Chat: chat, TTL: ttl}))
	}
	check := func(left int) {
		t.Helper()
		rows := there(l.Events[chat], s.Clock.Now())
		if len(rows) != left {
			t.Fatalf("the model has %d events, want %d", len(rows), left)
		}
		for _, limit := range []int{1, 2, 3, 20} {
			for seq := l.first; seq <= l.seq+1; seq++ {
				for _, rng := range []store.Range{{Before: seq, Limit: limit}, {Forward: true, After: seq, Limit: limit}} {
					page, more := wantPage(rows, rng)
					got, gotMore, err := s.Page(t.Context(), chat, rng)
					want(t, "page", page, got, err)
					if more != gotMore {
						t.Fatalf("page %+v: more %t, want %t", rng, gotMore, more)
					}
				}
			}
		}
	}
	check(15)
	s.Clock.Advance(gone + time.Minute)
	check(3)
	all := there(l.Events[chat], s.Clock.Now())
	if all[0].Bucket != 1 || all[1].Bucket != 4 || all[2].Bucket != 5 || schemas.PageEventsMax < len(all) {
		t.Errorf("what stays is in buckets %d, %d and %d: the test misses its point", all[0].Bucket, all[1].Bucket, all[2].Bucket)
	}
}
