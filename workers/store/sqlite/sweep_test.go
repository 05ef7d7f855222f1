package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/workers/store"
	"parley/workers/store/storetest"
)

// eventually waits until a store's dump passes a check.
func eventually(t *testing.T, s *Store, what string, check func(dump string) bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !check(dump(t, s)) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s: %s", what, dump(t, s))
		}
	}
}

// TestSweepTakesWhatHasDisappeared, more of it than one chunk has, and leaves all else.
func TestSweepTakesWhatHasDisappeared(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock()
	s := open(t, Clock(clock.Now), SweepEvery(time.Millisecond))
	l := storetest.NewTimeline("0", 1<<40)
	chat, other := storetest.DirectChat("alice", "bob"), storetest.DirectChat("alice", "carol")
	const secrets = sweepRowsMax + sweepRowsMax/2
	var messages []storetest.Message
	for i := range secrets {
		messages = append(messages, storetest.Message{Chat: chat, TTL: time.Hour, JSON: fmt.Sprintf(`{"type":"message","id":"s","from":"alice","body":{"kind":"text","text":"secret %d"}}`, i)})
	}
	target := l.Last() + 1
	messages = append(messages, storetest.Edit(chat, "alice", target, "secret edit"), storetest.React(chat, "bob", target, "secret-emoji", true),
		storetest.Message{Chat: other}, storetest.Message{Chat: other, TTL: 2 * time.Hour}, storetest.Message{Chat: chat, TTL: time.Hour, JSON: messages[0].JSON})
	b := l.Batch(messages...)
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(dump(t, s), "secret"); n != secrets+1+3+3 { // with the head, the edit thrice, the reaction and its event
		t.Fatalf("it has %d secrets before their time", n)
	}
	clock.Advance(time.Hour + time.Minute)
	eventually(t, s, "what disappeared is gone, but for the reaction's own event", func(dump string) bool {
		return strings.Count(dump, "secret") == 1 && strings.Contains(dump, `"type\":\"reaction`)
	})
	if n := strings.Count(dump(t, s), "\nevents ") + 1; n != 3 { // the reaction, and the two of other
		t.Errorf("%d events are left, want 3", n)
	}
	before := dump(t, s)
	if err := s.Commit(t.Context(), b); err != nil { // nothing comes back
		t.Fatal(err)
	}
	if after := dump(t, s); after != before {
		t.Errorf("the same batch again made of %s\n%s", before, after)
	}
}

// TestSweepIsInChunks, between which commits have their turn.
func TestSweepIsInChunks(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock()
	s := open(t, Clock(clock.Now), SweepEvery(time.Hour))
	messages := make([]storetest.Message, sweepRowsMax+1)
	for i := range messages {
		messages[i] = storetest.Message{Chat: storetest.DirectChat("alice", "bob"), TTL: time.Hour}
	}
	if err := s.Commit(t.Context(), storetest.NewTimeline("0", 1<<40).Batch(messages...)); err != nil {
		t.Fatal(err)
	}
	w := &writer{open: func() (*conn, error) { return openConn(s.path, writeMode, s.cfg) }}
	defer w.close()
	for _, step := range []struct {
		after time.Duration
		more  bool
		left  int
	}{{0, false, sweepRowsMax + 1}, {2 * time.Hour, true, 1}, {2 * time.Hour, false, 0}} {
		more := w.sweepOnce(storetest.Start.Add(step.after))
		if left := strings.Count(dump(t, s), "events "); more != step.more || left != step.left {
			t.Errorf("after %s: %d events are left, more %t, want %d, %t", step.after, left, more, step.left, step.more)
		}
	}
}

// TestSweepGoesOnAfterAFailure: a table is not there yet, or the file is locked.
func TestSweepGoesOnAfterAFailure(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "parley.db"), Clock(clock.Now), SweepEvery(time.Millisecond), BusyTimeout(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	if err := s.Commit(t.Context(), store.Batch{Shard: "0", Committed: 1}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a commit without tables: %v, want ErrUnavailable", err)
	}
	err = s.Migrate(t.Context())
	for deadline := time.Now().Add(time.Minute); errors.Is(err, store.ErrUnavailable) && time.Now().Before(deadline); {
		err = s.Migrate(t.Context()) // a sweep was faster to the file
	}
	if err != nil {
		t.Fatal(err)
	}
	l := storetest.NewTimeline("0", 1<<40)
	if err := s.Commit(t.Context(), l.Batch(storetest.Message{Chat: storetest.DirectChat("alice", "bob"), TTL: time.Hour})); err != nil {
		t.Fatal(err)
	}
	patient := s.cfg
	patient.busyTimeout = time.Minute // until no sweep holds the file
	other, err := openConn(s.path, writeMode, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Hour)
	if err := s.Commit(t.Context(), store.Batch{Shard: "1", Committed: 1}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a commit to a locked file: %v, want ErrUnavailable", err)
	}
	if err := other.exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the event is gone", func(dump string) bool { return !strings.Contains(dump, "events ") })
}

// TestSweepUsesItsIndices: a sweep does not read the tables.
func TestSweepUsesItsIndices(t *testing.T) {
	t.Parallel()
	s := open(t)
	for statement := range sweeps {
		plan := planOf(t, s, statement, int64(1), int64(1))
		if !strings.Contains(plan, "_by_expiry") || strings.Contains(plan, "SCAN") && !strings.Contains(plan, "USING COVERING INDEX") {
			t.Errorf("%.60s… reads:\n%s", statement, plan)
		}
	}
}
