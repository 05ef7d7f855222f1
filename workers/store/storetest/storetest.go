// Package storetest is the contract of the permanent store: what every store
// passes, whatever is below it.
package storetest

import (
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"time"

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
	// Commit stores a batch. Once batches have come in order they may come again in
	// any: the store is then as if each had come once. Batches that have messages
	// alone, of chats that are direct, may come in any order the first time too. What
	// it answered without an error is seen by every later read.
	Commit(ctx context.Context, b store.Batch) error
	// Page returns events by rising seq, and whether there are further ones in the
	// direction that was asked. No read returns an event that has disappeared.
	Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error)
	// Events returns the rows at seqs, those that there are, once each by rising seq.
	Events(ctx context.Context, chat schemas.Chat, seqs []uint64) ([]store.Event, error)
	// Edits returns the edits of events, by rising target, then seq.
	Edits(ctx context.Context, chat schemas.Chat, of []store.Event) ([]store.Edit, error)
	// Reactions returns what is under events, by their seqs; the emoji that came
	// first is first, and so is the user.
	Reactions(ctx context.Context, chat schemas.Chat, of []store.Event) (map[uint64][]store.Reactions, error)
	// Reacted tells whether a user's emoji is under the event target, which is in bucket.
	Reacted(ctx context.Context, chat schemas.Chat, bucket int64, target uint64, emoji string, user schemas.User) (bool, error)

	// Members returns up to limit rows of a group by rising name, from the first
	// above after on, those who have left included.
	Members(ctx context.Context, chat schemas.Chat, after schemas.User, limit int) ([]store.Member, error)
	// UserChats returns up to limit chats of a kind that a user is in, or of any, by rising name.
	UserChats(ctx context.Context, user schemas.User, kind schemas.ChatKind, limit int) ([]store.UserChat, error)
	// Summaries returns the summaries of those chats of which something is stored. A
	// last event that has disappeared is left out of its own.
	Summaries(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Summary, error)

	// Set stores what of a setting kind names; of two times at which a user set it,
	// the later wins, in whatever order they come.
	Set(ctx context.Context, user schemas.User, setting store.Setting, kind store.SettingKind, at time.Time) error
	// Settings returns what a user has set of chats, of store.SettingsMax at most.
	Settings(ctx context.Context, user schemas.User) (map[schemas.Chat]store.Setting, error)
	// SetProfile stores what set has of a user's profile, as Set does.
	SetProfile(ctx context.Context, user schemas.User, set schemas.SetProfile, at time.Time) error
	// SetStatus stores what a user chooses to be shown as, as Set does.
	SetStatus(ctx context.Context, user schemas.User, status schemas.Status, at time.Time) error
	// Profiles returns those of the users who have set anything of theirs. Of who was
	// only seen there may be an empty one.
	Profiles(ctx context.Context, users []schemas.User) (map[schemas.User]store.Profile, error)
	// SetBlock stores that a user blocks another, or no longer does, as Set does.
	SetBlock(ctx context.Context, user, blocked schemas.User, on bool, at time.Time) error
	// Blocks returns whom a user blocks and who blocks it, once each, by rising name,
	// store.BlocksMax at most.
	Blocks(ctx context.Context, user schemas.User) ([]schemas.User, error)

	// Mark stores how far users have got. Marks may come again, and in any order among
	// each other and with commits: the highest of each kind stays. Those of a chat, or
	// of a user in it, of which nothing else is stored are in force once it is.
	Mark(ctx context.Context, marks []store.Mark) error
	// Receipts returns what others are told of users in a chat, of those of whom
	// anything is.
	Receipts(ctx context.Context, chat schemas.Chat, users []schemas.User) (map[schemas.User]store.Receipt, error)
	// SetSeen stores when users were seen last. An earlier time than the stored one
	// changes nothing.
	SetSeen(ctx context.Context, seen map[schemas.User]time.Time) error
	// Seen returns when users were seen last, to the microsecond, of those of whom it is known.
	Seen(ctx context.Context, users []schemas.User) (map[schemas.User]time.Time, error)
}

// Subject is a store under test.
type Subject struct {
	Store
	// Dump returns all rows as text: the same text where, and only where, the rows are the same.
	Dump func() string
	// Clock is what tells the store the time.
	Clock *Clock
	// Close releases the store; the contract calls it once.
	Close func()
}

// Clock is a clock that a test moves.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock begins where timelines do.
func NewClock() *Clock { return &Clock{now: Start} }

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the time on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
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
		{"changes of events are read back", testChanges},
		{"a deleted message leaves nothing behind", testDelete},
		{"reactions are counted, and the earliest named", testReactions},
		{"a page is bounded with its bodies", testPageBodies},
		{"a group's members and their chats are read back", testGroups},
		{"a large group is read in pages", testLargeGroup},
		{"read marks only rise", testReads},
		{"summaries have the last event", testSummaries},
		{"what has disappeared is not read", testExpiry},
		{"pages go on behind what has disappeared", testExpiredBuckets},
		{"settings are last write wins by their times", testSettings},
		{"profiles are last write wins by their times", testProfiles},
		{"blocks are read from both sides", testBlocks},
		{"marks only rise", testMarks},
		{"marks and commits may come in any order", testMarkOrders},
		{"receipts are of the users that are asked for", testReceipts},
		{"faulty marks are refused whole", testFaultyMarks},
		{"what a user shows is last write wins by its times", testShown},
		{"when users were seen only rises", testSeen},
		{"faulty changes are refused whole", testFaultyChanges},
		{"all batches may come again in any order", testRedelivery},
		{"random schedules end as the model says", testSchedules},
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
	event := []store.Event{{Seq: 7}}
	if events, err := s.Events(t.Context(), chat, []uint64{1, 7}); len(events) != 0 || err != nil {
		t.Errorf("Events: %v, %v, want none", events, err)
	}
	if edits, err := s.Edits(t.Context(), chat, event); len(edits) != 0 || err != nil {
		t.Errorf("Edits: %v, %v, want none", edits, err)
	}
	if reactions, err := s.Reactions(t.Context(), chat, event); len(reactions) != 0 || err != nil {
		t.Errorf("Reactions: %v, %v, want none", reactions, err)
	}
	if on, err := s.Reacted(t.Context(), chat, 0, 7, "+1", User("alice")); on || err != nil {
		t.Errorf("Reacted: %t, %v, want not", on, err)
	}
	for _, rng := range []store.Range{{Limit: 10}, {Before: 7, Limit: 10}, {Forward: true, Limit: 10}, {Forward: true, After: 7, Limit: 10}} {
		if events, more, err := s.Page(t.Context(), chat, rng); len(events) != 0 || more || err != nil {
			t.Errorf("Page %+v: %d events, more %t, %v, want none", rng, len(events), more, err)
		}
	}
	testNobody(t, s)
}

// testNobody asks an empty store about users.
func testNobody(t *testing.T, s Store) {
	alice, chat := User("alice"), DirectChat("alice", "bob")
	if members, err := s.Members(t.Context(), GroupChat("team"), schemas.User{}, 10); len(members) != 0 || err != nil {
		t.Errorf("Members: %v, %v, want none", members, err)
	}
	if chats, err := s.UserChats(t.Context(), alice, store.AnyKind, 10); len(chats) != 0 || err != nil {
		t.Errorf("UserChats: %v, %v, want none", chats, err)
	}
	for _, chats := range [][]schemas.Chat{nil, {chat}} {
		if summaries, err := s.Summaries(t.Context(), chats); len(summaries) != 0 || err != nil {
			t.Errorf("Summaries of %v: %v, %v, want none", chats, summaries, err)
		}
	}
	if settings, err := s.Settings(t.Context(), alice); len(settings) != 0 || err != nil {
		t.Errorf("Settings: %v, %v, want none", settings, err)
	}
	for _, users := range [][]schemas.User{nil, {alice}} {
		if profiles, err := s.Profiles(t.Context(), users); len(profiles) != 0 || err != nil {
			t.Errorf("Profiles of %v: %v, %v, want none", users, profiles, err)
		}
	}
	for _, users := range [][]schemas.User{nil, {alice}} {
		if receipts, err := s.Receipts(t.Context(), chat, users); len(receipts) != 0 || err != nil {
			t.Errorf("Receipts of %v: %v, %v, want none", users, receipts, err)
		}
		if seen, err := s.Seen(t.Context(), users); len(seen) != 0 || err != nil {
			t.Errorf("Seen of %v: %v, %v, want none", users, seen, err)
		}
	}
	if err := errors.Join(s.Mark(t.Context(), nil), s.SetSeen(t.Context(), nil)); err != nil {
		t.Errorf("no marks and nobody seen: %v", err)
	}
	if blocks, err := s.Blocks(t.Context(), alice); len(blocks) != 0 || err != nil {
		t.Errorf("Blocks: %v, %v, want none", blocks, err)
	}
}
