package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/schemas"
	"parley/workers/store"
)

// byName lets cmp compare the names of schemas, which have no exported fields,
// and JSON at once rather than byte by byte.
var byName = cmp.Options{
	cmp.Comparer(bytes.Equal),
	cmp.Comparer(func(a, b schemas.User) bool { return a == b }),
	cmp.Comparer(func(a, b schemas.ID) bool { return a == b }),
	cmp.Comparer(func(a, b schemas.Chat) bool { return a == b }),
}

// wantPage is what Page returns of a chat that has the events all.
func wantPage(all []store.Event, rng store.Range) (page []store.Event, more bool) {
	all = slices.Clone(all)
	if !rng.Forward {
		slices.Reverse(all)
	}
	size := 0
	for _, e := range all {
		if rng.Forward && e.Seq <= rng.After || !rng.Forward && rng.Before > 0 && e.Seq >= rng.Before {
			continue
		}
		size += len(e.JSON) + len(e.State.Body)
		if len(page) == rng.Limit || len(page) > 0 && size > schemas.PageBytesMax {
			more = true
			break
		}
		page = append(page, e)
	}
	if !rng.Forward {
		slices.Reverse(page)
	}
	return page, more
}

// wantPages reads rng of chat and compares it with what l made.
func wantPages(t *testing.T, s Store, l *Timeline, chat schemas.Chat, ranges ...store.Range) {
	t.Helper()
	for _, rng := range ranges {
		want, wantMore := wantPage(l.Events[chat], rng)
		head := l.Heads()[chat]
		for _, rng.Head = range []*store.Head{nil, &head} {
			got, more, err := s.Page(t.Context(), chat, rng)
			if err != nil {
				t.Fatalf("page %+v of %s: %v", rng, chat, err)
			}
			if diff := cmp.Diff(want, got, byName); diff != "" || more != wantMore {
				t.Fatalf("page %+v of %s: more %t, want %t; -want +got:\n%s", rng, chat, more, wantMore, diff)
			}
		}
	}
}

// everything is a range that takes all of a test's chat.
var everything = store.Range{Forward: true, Limit: 1 << 20}

func testReadBack(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("3", 1<<40)
	chats := []schemas.Chat{DirectChat("alice", "bob"), DirectChat("alice", "bob2"), DirectChat("alice", "alice"), GroupChat("bob")}
	for range 4 {
		var messages []Message
		for i, chat := range chats {
			for range i + 1 {
				messages = append(messages, Message{Chat: chat})
			}
		}
		b := l.Batch(messages...)
		commit(t, s, b)
		if seq, err := s.Committed(t.Context(), "3"); seq != b.Committed || err != nil {
			t.Fatalf("Committed: %d, %v, want %d", seq, err, b.Committed)
		}
		heads, err := s.Heads(t.Context(), append(chats, DirectChat("no", "body")))
		if diff := cmp.Diff(l.Heads(), heads, byName); diff != "" || err != nil {
			t.Fatalf("Heads: %v; -want +got:\n%s", err, diff)
		}
		for _, chat := range chats {
			head, ok, err := s.Head(t.Context(), chat)
			if diff := cmp.Diff(l.Heads()[chat], head); diff != "" || !ok || err != nil {
				t.Fatalf("Head of %s: ok %t, %v; -want +got:\n%s", chat, ok, err, diff)
			}
			wantPages(t, s, l, chat, everything)
		}
	}
}

// testPages asks for every page there is of a chat with three full buckets, an
// open one, and neighbours of almost its name.
func testPages(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 100)
	l.BucketEvents = 4
	chat := DirectChat("alice", "bob")
	for i := range 14 {
		commit(t, s, l.Batch(Message{Chat: DirectChat("alice", "bo")}, Message{Chat: chat}, Message{Chat: DirectChat("alice", "bobo")}))
		if i < 13 {
			commit(t, s, l.Skip(2))
		}
	}
	first, last := l.Events[chat][0].Seq, l.Events[chat][13].Seq
	for _, limit := range []int{1, 2, 3, 4, 5, 8, 13, 14, 15, 200} {
		wantPages(t, s, l, chat, store.Range{Limit: limit}, store.Range{Forward: true, Limit: limit})
		for seq := first - 2; seq <= last+2; seq++ {
			wantPages(t, s, l, chat, store.Range{Before: seq, Limit: limit}, store.Range{Forward: true, After: seq, Limit: limit})
		}
		wantPages(t, s, l, chat,
			store.Range{Before: 1, Limit: limit},
			store.Range{Before: schemas.SeqMax, Limit: limit},
			store.Range{Forward: true, After: schemas.SeqMax, Limit: limit})
	}
}

func testPageBytes(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 0)
	l.BucketEvents = 3
	chat := DirectChat("alice", "bob")
	for _, size := range []int{10, schemas.BodyBytesMax, schemas.BodyBytesMax, schemas.BodyBytesMax, schemas.BodyBytesMax,
		schemas.BodyBytesMax, schemas.BodyBytesMax, 10, 2 * schemas.PageBytesMax, 10, 20} {
		commit(t, s, l.Batch(Text(chat, size)))
	}
	for seq := uint64(0); seq <= 12; seq++ {
		for _, limit := range []int{1, 3, 200} {
			wantPages(t, s, l, chat, store.Range{Before: seq, Limit: limit}, store.Range{Forward: true, After: seq, Limit: limit})
		}
	}
	// The comparison above is worth something only if the bound was met.
	if page, more := wantPage(l.Events[chat], store.Range{Forward: true, Limit: 200}); len(page) != 6 || !more {
		t.Fatalf("the first page has %d events, more %t: the test's sizes miss the bound", len(page), more)
	}
	// A page of exactly the bound is whole.
	exact := GroupChat("exact")
	commit(t, s, l.Batch(exactly(exact, schemas.PageBytesMax-1), exactly(exact, 1), exactly(exact, 1)))
	wantPages(t, s, l, exact, everything, store.Range{Limit: 200}, store.Range{Before: l.Events[exact][2].Seq, Limit: 200})
}

// exactly is a message whose event has n bytes. The store does not look inside.
func exactly(chat schemas.Chat, n int) Message {
	return Message{Chat: chat, JSON: strings.Repeat("1", n)}
}

func testText(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 0)
	chat := DirectChat("-_aZ09", "Z")
	for _, text := range []string{
		`it's "quoted"`, `\u0000 \n \\`, `'; DROP TABLE events; --`, `?1 :name @at $dollar`,
		"ß é 漢字 עברית العربية", "👩‍👩‍👧‍👦 🏳️‍🌈", "\u2028\u2029\ufeff", "e\u0301", string(rune(0x10FFFF)), "%s %d {{.}}",
	} {
		commit(t, s, l.Batch(Message{Chat: chat, JSON: fmt.Sprintf(`{"type":"message","body":{"kind":"text","text":"%s"}}`, text)}))
	}
	wantPages(t, s, l, chat, everything)
}
