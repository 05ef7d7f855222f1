package cql

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/schemas"
	"parley/workers/store"
	"parley/workers/store/storetest"
)

// TestMarksShareRequests: those of one chat go together, and those of one user, and
// a chat of many users is several batches.
func TestMarksShareRequests(t *testing.T) {
	t.Parallel()
	s, seen := open(t), &requests{}
	observe(t, s, seen)
	chat, team := storetest.DirectChat("alice", "bob"), storetest.GroupChat("team")
	alice, bob := storetest.User("alice"), storetest.User("bob")
	marks := []store.Mark{
		{Chat: chat, User: alice, Delivered: 7},
		{Chat: chat, User: bob, Delivered: 9, Read: 8, ReadN: 2, Told: true},
		{Chat: team, User: bob, Read: 5, ReadN: 5},
	}
	if err := s.Mark(t.Context(), marks); err != nil {
		t.Fatal(err)
	}
	// Of alice one row; of bob two and one; of chat three.
	slices.Sort(seen.rows)
	if want := []int{1, 3, 3}; !slices.Equal(seen.rows, want) {
		t.Errorf("requests of %v rows were made, want %v", seen.rows, want)
	}
	many := make([]store.Mark, 3*batchRowsMax)
	for i := range many {
		many[i] = store.Mark{Chat: team, User: alice, Delivered: uint64(i + 1)}
	}
	seen.rows = nil
	if err := s.Mark(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	if want := slices.Repeat([]int{batchRowsMax}, 6); !slices.Equal(seen.rows, want) {
		t.Errorf("requests of %v rows were made, want %v", seen.rows, want)
	}
}

// TestMarksKeepToTheirBound: each user is a partition of its own.
func TestMarksKeepToTheirBound(t *testing.T) {
	t.Parallel()
	s, seen := open(t), &requests{}
	observe(t, s, seen)
	s.cfg.WritesMax = 8
	var marks []store.Mark
	when := map[schemas.User]time.Time{}
	for i := range 500 {
		user := storetest.User(fmt.Sprintf("user-%d", i))
		marks = append(marks, store.Mark{Chat: storetest.GroupChat(fmt.Sprintf("team-%d", i%5)), User: user, Delivered: 5, Read: 5, ReadN: 1, Told: true})
		when[user] = storetest.Start
	}
	if err := errors.Join(s.Mark(t.Context(), marks), s.SetSeen(t.Context(), when)); err != nil {
		t.Fatal(err)
	}
	most := seen.atOnce()
	t.Logf("%d requests, %d at once", len(seen.rows), most)
	if most > s.cfg.WritesMax || most < 2 {
		t.Errorf("%d requests were under way at once, want 2 to %d", most, s.cfg.WritesMax)
	}
	if n, want := len(seen.rows), 500+5*4+500; n != want {
		t.Errorf("%d requests were made, want %d", n, want)
	}
}

// TestMarksAreWholeWhenGivenAgain: what an error left half done, the same call
// again completes.
func TestMarksAreWholeWhenGivenAgain(t *testing.T) {
	t.Parallel()
	s := open(t)
	chat, alice := storetest.DirectChat("alice", "bob"), storetest.User("alice")
	l := storetest.NewTimeline("0", 1<<40)
	if err := s.Commit(t.Context(), l.Batch(storetest.Message{Chat: chat})); err != nil {
		t.Fatal(err)
	}
	marks := []store.Mark{{Chat: chat, User: alice, Delivered: schemas.SeqMax}}
	changeSchema(t, s, "DROP TABLE receipts")
	if err := s.Mark(t.Context(), marks); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
	changeSchema(t, s, "CREATE TABLE receipts (chat text, user text, delivered bigint, read bigint, PRIMARY KEY (chat, user))")
	storetest.Again(t, func() error { return s.Mark(t.Context(), marks) })
	receipts, err := s.Receipts(t.Context(), chat, []schemas.User{alice})
	if got := receipts[alice]; got.Delivered != schemas.SeqMax || err != nil {
		t.Errorf("alice has %+v, %v", got, err)
	}
	chats, err := s.UserChats(t.Context(), alice, store.AnyKind, 10)
	if err != nil || len(chats) != 1 || chats[0].Delivered != schemas.SeqMax {
		t.Errorf("alice is in %+v, %v", chats, err)
	}
}
