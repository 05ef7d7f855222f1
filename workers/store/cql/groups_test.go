package cql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"parley/schemas"
	"parley/workers/store"
	"parley/workers/store/storetest"
)

// requests are those that the driver made, with their times.
type requests struct {
	mu    sync.Mutex
	began []time.Time
	ended []time.Time
	rows  []int // of each
}

func (r *requests) add(began, ended time.Time, rows int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began, r.ended, r.rows = append(r.began, began), append(r.ended, ended), append(r.rows, rows)
}

func (r *requests) ObserveQuery(_ context.Context, q gocql.ObservedQuery) {
	if strings.HasPrefix(q.Statement, "INSERT") {
		r.add(q.Start, q.End, 1)
	}
}

func (r *requests) ObserveBatch(_ context.Context, b gocql.ObservedBatch) {
	r.add(b.Start, b.End, len(b.Statements))
}

// atOnce is how many were under way at the same time, at most.
func (r *requests) atOnce() (most int) {
	for _, at := range r.began {
		n := 0
		for i := range r.began {
			if !r.began[i].After(at) && r.ended[i].After(at) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// TestChangesShareRequests: what an event does to one of its bucket goes with it.
func TestChangesShareRequests(t *testing.T) {
	t.Parallel()
	s, seen := open(t), &requests{}
	observe(t, s, seen)
	l := storetest.NewTimeline("0", 1<<40)
	chat := storetest.DirectChat("alice", "bob")
	target := l.Last() + 1
	b := l.Batch(storetest.Message{Chat: chat}, storetest.Edit(chat, "alice", target, "edited"), storetest.React(chat, "bob", target, "+1", true),
		storetest.Pin(chat, "bob", target, true), storetest.Delete(chat, "alice", target))
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	// Five events; an edit, a reaction, a pin and two blanks with their edit: one
	// batch. Then a bucket, two users, a read mark, the head, the shard.
	slices.Sort(seen.rows)
	if want := []int{1, 1, 1, 1, 1, 1, 5 + 2 + 1 + 1 + 3}; !slices.Equal(seen.rows, want) {
		t.Errorf("requests of %v rows were made, want %v", seen.rows, want)
	}
}

// TestLargeGroupKeepsToItsBound: a thousand users are a thousand partitions.
func TestLargeGroupKeepsToItsBound(t *testing.T) {
	t.Parallel()
	s, seen := open(t), &requests{}
	observe(t, s, seen)
	s.cfg.WritesMax = 8
	l := storetest.NewTimeline("0", 1<<40)
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("user-%d", i))
	}
	var messages []storetest.Message
	for i := range 3 {
		messages = append(messages, storetest.Create(storetest.GroupChat(fmt.Sprintf("team-%d", i)), "owner", schemas.HistoryAll, names...))
	}
	if err := s.Commit(t.Context(), l.Batch(messages...)); err != nil {
		t.Fatal(err)
	}
	most := seen.atOnce()
	t.Logf("%d requests, %d at once", len(seen.rows), most)
	if most > s.cfg.WritesMax || most < 2 {
		t.Errorf("%d requests were under way at once, want 2 to %d", most, s.cfg.WritesMax)
	}
	if n := len(seen.rows); n > 3*(1001+1001/batchRowsMax+1+3)+1 {
		t.Errorf("%d requests were made", n)
	}
}

// wantOnlyWhatStays wants no trace of the messages that have disappeared from a chat. The
// store's own clock stands still: the database alone removes them.
func wantOnlyWhatStays(t *testing.T, s *Store, l *storetest.Timeline, chat schemas.Chat) {
	t.Helper()
	var stay []uint64
	for _, e := range l.Events[chat] {
		if e.Expires.IsZero() {
			stay = append(stay, e.Seq)
		}
	}
	var got []uint64
	events, more, err := s.Page(t.Context(), chat, store.Range{Forward: true, Limit: 100})
	for _, e := range events {
		got = append(got, e.Seq)
	}
	if !slices.Equal(got, stay) || more || err != nil {
		t.Errorf("the page has %v, more %t, %v, want %v", got, more, err, stay)
	}
	if rows := dump(t, s); strings.Contains(rows, "edits ") || strings.Contains(rows, "reactions ") || strings.Count(rows, "events ") != len(stay) {
		t.Errorf("rows are left:\n%s", rows)
	}
	summaries, err := s.Summaries(t.Context(), []schemas.Chat{chat})
	if got := summaries[chat]; got.Last != nil || got.LastSeq != l.Last() || err != nil {
		t.Errorf("the summary is %+v, %v, want one without its last event", got, err)
	}
}

// wantNothingOfLate commits a message for the first time after its time, with a reaction
// and an edit. They leave nothing but a head.
func wantNothingOfLate(t *testing.T, s *Store, l *storetest.Timeline, m storetest.Message) {
	t.Helper()
	if err := s.Commit(t.Context(), l.Batch(m, storetest.React(m.Chat, "carol", l.Last()+1, "+1", true), storetest.Edit(m.Chat, "alice", l.Last()+1, "secret edit"))); err != nil {
		t.Fatal(err)
	}
	if rows := dump(t, s); strings.Count(rows, "secret") != 1 || strings.Contains(rows, "reactions ") {
		t.Errorf("what came late left rows:\n%s", rows)
	}
}

// TestRowsEndByThemselves: the database lets go of what has disappeared, of its
// edits, of what was said of it, and of a head's last event.
func TestRowsEndByThemselves(t *testing.T) {
	t.Parallel()
	s, clock := open(t), storetest.NewClock()
	s.cfg.Now = clock.Now
	l := storetest.NewTimeline("0", 1<<40)
	l.BucketEvents = 2
	chat := storetest.DirectChat("alice", "bob")
	target := l.Last() + 1
	const ttl = 3 * time.Second
	secret := func(id string) storetest.Message {
		return storetest.Message{Chat: chat, TTL: ttl, JSON: `{"type":"message","id":"` + id + `","from":"alice","body":{"kind":"text","text":"secret"}}`}
	}
	batches := []store.Batch{
		l.Batch(secret("a"), secret("b"), storetest.Message{Chat: chat}),
		l.Batch(storetest.Edit(chat, "alice", target, "secret edit"), storetest.React(chat, "bob", target, "secret-emoji", true),
			storetest.Pin(chat, "bob", target, true), storetest.Edit(chat, "alice", target+1, "secret edit")),
		l.Batch(storetest.Delete(chat, "alice", target+1), secret("c")),
	}
	for _, b := range batches {
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(dump(t, s), "secret"); n < 6 {
		t.Fatalf("%d secrets are there: the test misses its point", n)
	}
	deadline := time.Now().Add(time.Minute)
	for strings.Count(dump(t, s), "secret") != 1 { // the reaction's own event stays
		if time.Now().After(deadline) {
			t.Fatalf("secrets stay:\n%s", dump(t, s))
		}
	}
	wantOnlyWhatStays(t, s, l, chat)
	clock.Advance(time.Minute)
	before := dump(t, s)
	for _, i := range []int{2, 0, 1} {
		if err := s.Commit(t.Context(), batches[i]); err != nil {
			t.Fatal(err)
		}
	}
	if after := dump(t, s); after != before {
		t.Errorf("batches that came again made of\n%s\nthis:\n%s", before, after)
	}
	late := secret("d")
	late.Chat = storetest.DirectChat("alice", "carol")
	wantNothingOfLate(t, s, l, late)
}

// TestChangesThatDoNotFit are refused before anything is written.
func TestChangesThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := open(t)
	before := dump(t, s)
	chat := storetest.GroupChat("team")
	for name, spoil := range map[string]func(*store.ChatBatch){
		"body too large": func(c *store.ChatBatch) { c.Changes[0].Body = make([]byte, eventBytesMax+1) },
		"body no UTF-8":  func(c *store.ChatBatch) { c.Changes[0].Body = []byte("\xff") },
		"emoji no UTF-8": func(c *store.ChatBatch) { c.Changes[1].Emoji = "\xff" },
		"blank no UTF-8": func(c *store.ChatBatch) { c.Changes[2].Blanks[0].JSON = []byte("\xff") },
		"name no UTF-8":  func(c *store.ChatBatch) { c.Head.Name = "\xff" },
	} {
		l := storetest.NewTimeline("0", 1)
		b := l.Batch(storetest.Message{Chat: chat}, storetest.Edit(chat, "alice", 2, "x"), storetest.React(chat, "bob", 2, "+1", true), storetest.Delete(chat, "alice", 2))
		spoil(&b.Chats[0])
		if err := s.Commit(t.Context(), b); !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
	}
	bad := "\xff"
	if err := s.SetProfile(t.Context(), storetest.User("alice"), schemas.SetProfile{Lang: &bad}, storetest.Start); !errors.Is(err, store.ErrBatch) {
		t.Errorf("profile: %v, want ErrBatch", err)
	}
	if after := dump(t, s); after != before {
		t.Errorf("what was refused left rows: %s", after)
	}
}
