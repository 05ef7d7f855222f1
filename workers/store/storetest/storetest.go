// Package storetest is the contract of the permanent store: what every store
// passes, whatever is below it.
package storetest

import (
	"context"
	"iter"
	"testing"

	"parley/schemas"
	"parley/workers/store"
)

// Store is all that the workers ask of a store, together.
type Store interface {
	// Committed returns the sequence up to which a shard is stored, 0 where nothing is.
	Committed(ctx context.Context, shard string) (uint64, error)
	// Shards returns how far each shard is stored of which anything is: what
	// Committed tells of each.
	Shards(ctx context.Context) (map[string]uint64, error)
	// Chats yields each chat of which something is stored, once, with its head, in
	// no particular order. The heads are of no one moment, and a chat that is stored
	// only while Chats runs may be left out; those before are there. Memory is
	// bounded whatever the number of chats. An error ends it.
	Chats(ctx context.Context) iter.Seq2[store.ChatHead, error]
	// Heads returns the heads of those chats of which something is stored.
	Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error)
	// Head returns one chat's head; ok is false where nothing of it is stored.
	Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error)
	// Commit stores a batch. Batches may come again and in any order: the store is
	// then as if each had come once, in order. What it answered without an error is
	// seen by every later read.
	Commit(ctx context.Context, b store.Batch) error
	// Page returns events by rising seq, and whether there are further ones in the
	// direction that was asked.
	Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error)
}

// Subject is a store under test.
type Subject struct {
	Store
	// Dump returns all rows as text: the same text where, and only where, the rows are the same.
	Dump func() string
	// Close releases the store; the contract calls it once.
	Close func()
}

// Open gives an empty store.
type Open func(t testing.TB) Subject

// Run holds the stores that open gives to the contract.
func Run(t *testing.T, open Open) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"an empty store has nothing", testEmpty},
		{"a commit is read back", testReadBack},
		{"a page is what was asked for", testPages},
		{"a page is bounded in bytes", testPageBytes},
		{"text comes back as it was", testText},
		{"a batch may come twice", testTwice},
		{"batches may come in the order 2, 1", testBackwards},
		{"a stale batch changes nothing", testStale},
		{"a shard never goes back", testShards},
		{"a faulty batch is refused whole", testFaulty},
		{"an ended context stops each call", testContext},
		{"a large batch is stored whole", testLarge},
		{"shards commit side by side", testParallel},
		{"all shards are listed", testListShards},
		{"all chats are listed once", testListChats},
		{"chats are listed while others are stored", testListChatsMeanwhile},
		{"any order and repetition ends alike", testAnyOrder},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.run(t, open)
		})
	}
}

// opened opens a store for as long as the test runs.
func opened(t *testing.T, open Open) Subject {
	s := open(t)
	t.Cleanup(s.Close)
	return s
}

func testEmpty(t *testing.T, open Open) {
	s := opened(t, open)
	chat := DirectChat("alice", "bob")
	if seq, err := s.Committed(t.Context(), "0"); seq != 0 || err != nil {
		t.Errorf("Committed: %d, %v, want 0", seq, err)
	}
	if _, ok, err := s.Head(t.Context(), chat); ok || err != nil {
		t.Errorf("Head: ok %t, %v, want none", ok, err)
	}
	if heads, err := s.Heads(t.Context(), []schemas.Chat{chat}); len(heads) != 0 || err != nil {
		t.Errorf("Heads: %v, %v, want none", heads, err)
	}
	if heads, err := s.Heads(t.Context(), nil); len(heads) != 0 || err != nil {
		t.Errorf("Heads of no chats: %v, %v, want none", heads, err)
	}
	if shards, err := s.Shards(t.Context()); len(shards) != 0 || err != nil {
		t.Errorf("Shards: %v, %v, want none", shards, err)
	}
	for chat, err := range s.Chats(t.Context()) {
		t.Errorf("Chats: %v, %v, want none", chat, err)
	}
	for _, rng := range []store.Range{{Limit: 10}, {Before: 7, Limit: 10}, {Forward: true, Limit: 10}, {Forward: true, After: 7, Limit: 10}} {
		if events, more, err := s.Page(t.Context(), chat, rng); len(events) != 0 || more || err != nil {
			t.Errorf("Page %+v: %d events, more %t, %v, want none", rng, len(events), more, err)
		}
	}
}
