package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parley/schemas"
	"parley/workers/store"
)

// commit is Commit that must succeed.
func commit(t *testing.T, s Store, batches ...store.Batch) {
	t.Helper()
	for i := range batches {
		if err := s.Commit(t.Context(), batches[i]); err != nil {
			t.Fatal(err)
		}
	}
}

// dumpOf returns what a store holds after batches, in order.
func dumpOf(t *testing.T, open Open, batches ...store.Batch) string {
	t.Helper()
	s := opened(t, open)
	commit(t, s, batches...)
	return s.Dump()
}

func wantDump(t *testing.T, s Subject, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(s.Dump(), "\n")); diff != "" {
		t.Fatalf("the rows differ; -want +got:\n%s", diff)
	}
}

// threeBatches open a chat, close its first bucket and open another chat.
func threeBatches() []store.Batch {
	l := NewTimeline("0", 1<<40)
	ab, ac := DirectChat("alice", "bob"), DirectChat("alice", "carol")
	return []store.Batch{
		l.Batch(Message{Chat: ab}, Message{Chat: ab}, Message{Chat: ab}),
		l.Batch(Message{Chat: ab}, Message{Chat: ac}, Message{Chat: ab}, Message{Chat: ab}, Message{Chat: ac}),
		l.Batch(Message{Chat: ab}, Message{Chat: ac}),
	}
}

func testTwice(t *testing.T, open Open) {
	b := threeBatches()
	s := opened(t, open)
	commit(t, s, b[0], b[0], b[1], b[0], b[1], b[2], b[2])
	wantDump(t, s, dumpOf(t, open, b...))
}

func testBackwards(t *testing.T, open Open) {
	b := threeBatches()
	s := opened(t, open)
	commit(t, s, b[1], b[0])
	wantDump(t, s, dumpOf(t, open, b[0], b[1]))
	s = opened(t, open)
	commit(t, s, b[2], b[1], b[0])
	wantDump(t, s, dumpOf(t, open, b...))
}

// testStale gives rows of lower stamps other content than the store has.
func testStale(t *testing.T, open Open) {
	b := threeBatches()
	s := opened(t, open)
	commit(t, s, b...)
	before := s.Dump()

	stale := b[1]
	stale.Chats = append([]store.ChatBatch(nil), stale.Chats...)
	for i := range stale.Chats {
		head := &stale.Chats[i].Head
		head.BucketBytes, head.Created = 1, head.Created.Add(time.Hour)
	}
	commit(t, s, stale)
	wantDump(t, s, before)
}

func testShards(t *testing.T, open Open) {
	s := opened(t, open)
	for _, step := range []struct {
		shard      string
		give, want uint64
	}{
		{"0", 5, 5}, {"1", 3, 3}, {"0", 4, 5}, {"0", 5, 5}, {"0", 0, 5}, {"2_0", schemas.SeqMax, schemas.SeqMax}, {"1", 4, 4}, {"0", 6, 6},
	} {
		commit(t, s, store.Batch{Shard: step.shard, Committed: step.give})
		if got, err := s.Committed(t.Context(), step.shard); got != step.want || err != nil {
			t.Fatalf("shard %s after %d: %d, %v, want %d", step.shard, step.give, got, err, step.want)
		}
	}
}

// testFaulty breaks one rule at a time in the second chat of a batch.
func testFaulty(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 10)
	ab, ac := DirectChat("alice", "bob"), DirectChat("alice", "carol")
	commit(t, s, l.Batch(Message{Chat: ab}))
	before := s.Dump()
	for name, spoil := range map[string]func(*store.Batch, *store.ChatBatch){
		"no shard":           func(b *store.Batch, _ *store.ChatBatch) { b.Shard = "" },
		"committed too high": func(b *store.Batch, _ *store.ChatBatch) { b.Committed = schemas.SeqMax + 1 },
		"no chat":            func(_ *store.Batch, c *store.ChatBatch) { c.Chat = schemas.Chat{} },
		"no events":          func(_ *store.Batch, c *store.ChatBatch) { c.Events = nil },
		"seq 0":              func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].Seq = 0 },
		"seq beyond 2^53":    func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].Seq = schemas.SeqMax + 1 },
		"seq not rising":     func(_ *store.Batch, c *store.ChatBatch) { c.Events[1].Seq = c.Events[0].Seq },
		"prev not lower":     func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].Prev = c.Events[0].Seq },
		"no type":            func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].Type = "" },
		"no author":          func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].Author = schemas.User{} },
		"no id":              func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].ID = schemas.ID{} },
		"no JSON":            func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].JSON = nil },
		"no time":            func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].Time = time.Time{} },
		"bucket falling":     func(_ *store.Batch, c *store.ChatBatch) { c.Events[0].Bucket = 9 },
		"bucket not named":   func(_ *store.Batch, c *store.ChatBatch) { c.Buckets = nil },
		"bucket misnamed":    func(_ *store.Batch, c *store.ChatBatch) { c.Buckets[0].FirstSeq++ },
		"bucket not opened": func(_ *store.Batch, c *store.ChatBatch) {
			c.Buckets = append(c.Buckets, store.Bucket{Bucket: 7, FirstSeq: 99})
		},
		"head of another seq":  func(_ *store.Batch, c *store.ChatBatch) { c.Head.LastSeq++ },
		"head of another n":    func(_ *store.Batch, c *store.ChatBatch) { c.Head.LastN++ },
		"head without created": func(_ *store.Batch, c *store.ChatBatch) { c.Head.Created = time.Time{} },
	} {
		b := NewTimeline("0", 11).Batch(Message{Chat: ab}, Message{Chat: ac}, Message{Chat: ac})
		spoil(&b, &b.Chats[1])
		if err := s.Commit(t.Context(), b); !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
		wantDump(t, s, before)
	}
}

func testContext(t *testing.T, open Open) {
	s := opened(t, open)
	l, chat := NewTimeline("0", 1<<40), DirectChat("alice", "bob")
	b := []store.Batch{l.Batch(Message{Chat: chat}), l.Batch(Message{Chat: chat}, React(chat, "bob", l.first+1, "+1", true))}
	commit(t, s, b[0])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	alice, rows := User("alice"), []store.Event{{Seq: 1<<40 + 1}}
	calls := map[string]func() error{
		"Committed": func() error { _, err := s.Committed(ctx, "0"); return err },
		"Shards":    func() error { _, err := s.Shards(ctx); return err },
		"Chats": func() (err error) {
			for _, err = range s.Chats(ctx) {
			}
			return err
		},
		"Head":       func() error { _, _, err := s.Head(ctx, chat); return err },
		"Heads":      func() error { _, err := s.Heads(ctx, []schemas.Chat{chat}); return err },
		"Summaries":  func() error { _, err := s.Summaries(ctx, []schemas.Chat{chat}); return err },
		"Page":       func() error { _, _, err := s.Page(ctx, chat, store.Range{Limit: 1}); return err },
		"Events":     func() error { _, err := s.Events(ctx, chat, seqsOf(rows)); return err },
		"Edits":      func() error { _, err := s.Edits(ctx, chat, rows); return err },
		"Reactions":  func() error { _, err := s.Reactions(ctx, chat, rows); return err },
		"Reacted":    func() error { _, err := s.Reacted(ctx, chat, 0, 1, "+1", alice); return err },
		"Members":    func() error { _, err := s.Members(ctx, GroupChat("team"), schemas.User{}, 5); return err },
		"UserChats":  func() error { _, err := s.UserChats(ctx, alice, store.AnyKind, 5); return err },
		"Settings":   func() error { _, err := s.Settings(ctx, alice); return err },
		"Profiles":   func() error { _, err := s.Profiles(ctx, []schemas.User{alice}); return err },
		"Blocks":     func() error { _, err := s.Blocks(ctx, alice); return err },
		"Set":        func() error { return s.Set(ctx, alice, store.Setting{Chat: chat}, store.PinnedSetting, Start) },
		"SetProfile": func() error { return s.SetProfile(ctx, alice, schemas.SetProfile{Name: new(string)}, Start) },
		"SetBlock":   func() error { return s.SetBlock(ctx, alice, User("bob"), true, Start) },
		"SetStatus":  func() error { return s.SetStatus(ctx, alice, schemas.Away, Start) },
		"Mark":       func() error { return s.Mark(ctx, []store.Mark{{Chat: chat, User: alice, Delivered: 1}}) },
		"Receipts":   func() error { _, err := s.Receipts(ctx, chat, []schemas.User{alice}); return err },
		"SetSeen":    func() error { return s.SetSeen(ctx, map[schemas.User]time.Time{alice: Start}) },
		"Seen":       func() error { _, err := s.Seen(ctx, []schemas.User{alice}); return err },
		"Commit":     func() error { return s.Commit(ctx, b[1]) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	// The outcome of the commit was left open; given again, it is stored.
	commit(t, s, b[1])
	wantAll(t, t, s, l)
}

func testLarge(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	var messages []Message
	var chats []schemas.Chat
	for i := range 300 {
		chats = append(chats, DirectChat(fmt.Sprintf("user%d", i), fmt.Sprintf("user%d", i*7%300)))
	}
	for i := range 2000 {
		messages = append(messages, Message{Chat: chats[i*i%300]})
	}
	b := l.Batch(messages...)
	commit(t, s, b, b)
	heads, err := s.Heads(t.Context(), chats)
	if diff := cmp.Diff(l.Heads(), heads, byName); diff != "" || err != nil {
		t.Fatalf("Heads: %v; -want +got:\n%s", err, diff)
	}
	for chat := range l.Events {
		wantPages(t, s, l, chat, everything)
	}
}

// testParallel commits in eight shards at once, and reads meanwhile.
func testParallel(t *testing.T, open Open) {
	s := opened(t, open)
	var wg sync.WaitGroup
	var lines [8]*Timeline
	for i := range lines {
		l := NewTimeline(fmt.Sprint(i), 1<<40)
		lines[i] = l
		wg.Go(func() {
			chats := []schemas.Chat{DirectChat("alice", fmt.Sprintf("a%d", i)), DirectChat("alice", fmt.Sprintf("b%d", i))}
			for range 20 {
				b := l.Batch(Message{Chat: chats[0]}, Message{Chat: chats[1]}, Message{Chat: chats[0]})
				if err := s.Commit(t.Context(), b); err != nil {
					t.Error(err)
					return
				}
				if got, err := s.Committed(t.Context(), l.Shard); got != b.Committed || err != nil {
					t.Errorf("shard %s: %d, %v, want %d", l.Shard, got, err, b.Committed)
				}
				wantSeen(t, s, l, chats[0])
			}
		})
	}
	wg.Wait()
	for _, l := range lines {
		for chat := range l.Events {
			wantPages(t, s, l, chat, everything)
		}
	}
}

// wantSeen reads the head and the newest event of chat, whose last commit was answered.
func wantSeen(t *testing.T, s Store, l *Timeline, chat schemas.Chat) {
	all := l.Events[chat]
	last := all[len(all)-1].Seq
	if head, _, err := s.Head(t.Context(), chat); head.LastSeq != last || err != nil {
		t.Errorf("%s has last seq %d, %v, want %d", chat, head.LastSeq, err, last)
	}
	if events, _, err := s.Page(t.Context(), chat, store.Range{Limit: 1}); len(events) != 1 || events[0].Seq != last || err != nil {
		t.Errorf("the newest event of %s is %v, %v, want %d", chat, events, err, last)
	}
}

// testAnyOrder: the same batches, in any order and any number of times, end in the same rows.
func testAnyOrder(t *testing.T, open Open) {
	chats := []schemas.Chat{DirectChat("alice", "bob"), DirectChat("alice", "carol"), DirectChat("bob", "bob"), GroupChat("team")}
	rapid.Check(t, func(rt *rapid.T) {
		lines := []*Timeline{NewTimeline("0", 1<<40), NewTimeline("1", 1<<40)}
		var batches []store.Batch
		for range rapid.IntRange(1, 5).Draw(rt, "batches") {
			shard := rapid.IntRange(0, 1).Draw(rt, "shard")
			lines[shard].BucketEvents = 3
			var messages []Message
			for _, i := range rapid.SliceOfN(rapid.IntRange(0, 1), 0, 8).Draw(rt, "chats") {
				messages = append(messages, Message{Chat: chats[2*i+shard]})
			}
			batches = append(batches, lines[shard].Batch(messages...))
		}
		apply := func(order []int) string {
			s := open(t)
			defer s.Close()
			for _, i := range order {
				if err := s.Commit(t.Context(), batches[i]); err != nil {
					rt.Fatal(err)
				}
			}
			return s.Dump()
		}
		once := make([]int, len(batches))
		for i := range once {
			once[i] = i
		}
		extra := rapid.SliceOfN(rapid.SampledFrom(once), 0, 4).Draw(rt, "again")
		order := rapid.Permutation(append(extra, once...)).Draw(rt, "order")
		if diff := cmp.Diff(strings.Split(apply(once), "\n"), strings.Split(apply(order), "\n")); diff != "" {
			rt.Fatalf("order %v; -in order +got:\n%s", order, diff)
		}
	})
}
