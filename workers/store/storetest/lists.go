package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/schemas"
	"parley/workers/store"
)

func testListShards(t *testing.T, open Open) {
	s := opened(t, open)
	want := map[string]uint64{}
	for i := range 70 {
		shard, committed := fmt.Sprintf("2_%d", i), uint64(2<<40+i)
		commit(t, s, store.Batch{Shard: shard, Committed: committed}, store.Batch{Shard: shard, Committed: committed - 1})
		want[shard] = committed
		got, err := s.Shards(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("Shards: %v; -want +got:\n%s", err, diff)
		}
	}
}

// manyChats is more than a store reads of its chats at once.
const manyChats = 2500

// listed are the chats of s with their heads, each of which comes once.
func listed(t *testing.T, s Store) map[schemas.Chat]store.Head {
	t.Helper()
	heads := map[schemas.Chat]store.Head{}
	for row, err := range s.Chats(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := heads[row.Chat]; twice {
			t.Fatalf("%s comes twice", row.Chat)
		}
		heads[row.Chat] = row.Head
	}
	return heads
}

func testListChats(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	var messages []Message
	for i := range manyChats {
		messages = append(messages, Message{Chat: DirectChat("alice", fmt.Sprintf("user%d", i))})
	}
	messages = append(messages, messages[:100]...)
	messages = append(messages, Message{Chat: GroupChat("team")}, Message{Chat: DirectChat("alice", "alice")})
	for len(messages) > 0 {
		n := min(len(messages), 1000)
		commit(t, s, l.Batch(messages[:n]...))
		messages = messages[n:]
	}
	if diff := cmp.Diff(l.Heads(), listed(t, s), byName); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for stop := range 3 { // who has seen enough stops, and the store goes on serving
		n := 0
		for _, err := range s.Chats(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n > stop {
				break
			}
		}
	}
	if diff := cmp.Diff(l.Heads(), listed(t, s), byName); diff != "" {
		t.Errorf("after a list that ended early: -want +got:\n%s", diff)
	}
}

// testListChatsMeanwhile lists again and again while chats are added and move on:
// those that were there before a list begins are in it, not behind where they were.
func testListChatsMeanwhile(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	chat := func(i int) schemas.Chat { return DirectChat("alice", fmt.Sprintf("user%d", i*7919%10_007)) }
	var messages []Message
	for i := range manyChats {
		messages = append(messages, Message{Chat: chat(i)})
	}
	commit(t, s, l.Batch(messages...))
	before := listed(t, s)
	var batches []store.Batch
	for i := range 40 {
		batches = append(batches, l.Batch(Message{Chat: chat(manyChats + i)}, Message{Chat: chat(i * 60)}))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, b := range batches {
			if err := s.Commit(t.Context(), b); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 5 {
		now := listed(t, s)
		for chat, head := range before {
			if got, ok := now[chat]; !ok || got.LastSeq < head.LastSeq {
				t.Errorf("%s is listed: %t, at %d; it was at %d before", chat, ok, got.LastSeq, head.LastSeq)
			}
		}
		before = now
	}
	wg.Wait()
	if diff := cmp.Diff(l.Heads(), listed(t, s), byName); diff != "" {
		t.Errorf("at rest: -want +got:\n%s", diff)
	}
}
