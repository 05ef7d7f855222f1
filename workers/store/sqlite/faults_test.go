package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/workers/store"
	"parley/workers/store/storetest"
)

// full commits until the store refuses, and returns the batch that it refused.
func full(t *testing.T, s *Store, l *storetest.Timeline) store.Batch {
	t.Helper()
	for range 10_000 {
		b := l.Batch(storetest.Text(storetest.DirectChat("alice", "bob"), 20_000))
		if err := s.Commit(t.Context(), b); err != nil {
			if !errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("%v, want ErrUnavailable", err)
			}
			return b
		}
	}
	t.Fatal("it was never full")
	return store.Batch{}
}

// wantAll checks that the store has all that l made, in order.
func wantAll(t *testing.T, s *Store, l *storetest.Timeline) {
	t.Helper()
	for chat, all := range l.Events {
		after := uint64(0)
		for _, want := range all {
			events, _, err := s.Page(t.Context(), chat, store.Range{Forward: true, After: after, Limit: 1})
			if err != nil || len(events) != 1 || events[0].Seq != want.Seq || string(events[0].JSON) != string(want.JSON) {
				t.Fatalf("after %d in %s: %d events, %v, want %d", after, chat, len(events), err, want.Seq)
			}
			after = want.Seq
		}
	}
}

func TestFullFileRefusesAndGoesOn(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := s.Commit(t.Context(), store.Batch{Shard: "1", Committed: 1}); err != nil {
		t.Fatal(err)
	}
	// The writing connection takes the bound when it is opened, which it is anew after a failure.
	poison(t, s)
	s.cfg.pagesMax = 200
	l := storetest.NewTimeline("0", 1<<40)
	refused := full(t, s, l)
	before := dump(t, s)
	if err := s.Commit(t.Context(), refused); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
	if dump(t, s) != before {
		t.Error("a refused batch changed rows")
	}
	s.cfg.pagesMax = 0
	if err := s.Commit(t.Context(), refused); err != nil {
		t.Fatal(err)
	}
	wantAll(t, s, l)
}

// poison makes the store refuse events of mallory, and has it refuse one.
func poison(t *testing.T, s *Store) store.Batch {
	t.Helper()
	c, err := openConn(s.path, writeMode, s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.exec(`CREATE TRIGGER IF NOT EXISTS poison BEFORE INSERT ON events WHEN new.author = 'mallory'
		BEGIN SELECT RAISE(ABORT, 'poison'); END`); err != nil {
		t.Fatal(err)
	}
	l := storetest.NewTimeline("7", 1<<40)
	b := l.Batch(storetest.Message{Chat: storetest.DirectChat("mallory", "zoe")})
	if err := s.Commit(t.Context(), b); !errors.Is(err, store.ErrBatch) {
		t.Fatalf("%v, want ErrBatch", err)
	}
	return b
}

// TestFaultyBatchFailsAlone: three commits share a transaction, and only the one at fault fails.
func TestFaultyBatchFailsAlone(t *testing.T) {
	t.Parallel()
	s := open(t)
	bad := poison(t, s)
	good := []store.Batch{
		storetest.NewTimeline("0", 1<<40).Batch(storetest.Message{Chat: storetest.DirectChat("alice", "bob")}),
		storetest.NewTimeline("1", 1<<40).Batch(storetest.Message{Chat: storetest.DirectChat("alice", "carol")}),
	}
	w := &writer{open: func() (*conn, error) { return openConn(s.path, writeMode, s.cfg) }}
	defer w.close()
	group := commitsOf(t.Context(), &good[0], &bad, &good[1])
	w.commitGroup(group)
	for i, want := range []error{nil, store.ErrBatch, nil} {
		if err := classify("commit", <-group[i].outcome); !errors.Is(err, want) {
			t.Errorf("commit %d: %v, want %v", i, err, want)
		}
	}
	for shard, want := range map[string]uint64{"0": good[0].Committed, "1": good[1].Committed, "7": 0} {
		if got, err := s.Committed(t.Context(), shard); got != want || err != nil {
			t.Errorf("shard %s: %d, %v, want %d", shard, got, err, want)
		}
	}
}

func commitsOf(ctx context.Context, batches ...*store.Batch) (group []*change) {
	for _, b := range batches {
		group = append(group, &change{ctx: ctx, rows: b.Rows(), outcome: make(chan error, 1),
			write: func(c *conn) error { return writeBatch(c, b, time.Now()) }})
	}
	return group
}

// TestWaitingCommitsShareATransaction: what waits is gathered, up to the bound.
func TestWaitingCommitsShareATransaction(t *testing.T) {
	t.Parallel()
	small := &store.Batch{Shard: "0"}
	large := &store.Batch{Shard: "1", Chats: []store.ChatBatch{{Events: make([]store.Event, groupRowsMax-1)}}}
	one := &store.Batch{Shard: "2", Chats: []store.ChatBatch{{Events: make([]store.Event, 1)}}}
	s := &Store{changes: make(chan *change, changesMax)}
	group := commitsOf(t.Context(), small, small, large, one, small)
	for _, c := range group[1:] {
		s.changes <- c
	}
	if got := s.gather(group[0]); len(got) != 4 {
		t.Errorf("%d commits in the group, want 4: the fourth reaches the bound", len(got))
	}
	if got := s.gather(<-s.changes); len(got) != 1 {
		t.Errorf("%d commits in the last group, want 1", len(got))
	}
}

// TestLockedFileIsUnavailable: another process that holds the write lock delays
// commits, and reads go on.
func TestLockedFileIsUnavailable(t *testing.T) {
	t.Parallel()
	s := open(t, BusyTimeout(time.Millisecond))
	other, err := openConn(s.path, writeMode, s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	l := storetest.NewTimeline("0", 1<<40)
	b := l.Batch(storetest.Message{Chat: storetest.DirectChat("alice", "bob")})
	if err := other.exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), b); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Commit: %v, want ErrUnavailable", err)
	}
	if seq, err := s.Committed(t.Context(), "0"); seq != 0 || err != nil {
		t.Errorf("Committed: %d, %v, want 0", seq, err)
	}
	if err := other.exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	wantAll(t, s, l)
}

// TestCloseAnswersEveryone: each commit is either stored or refused, none hangs.
func TestCloseAnswersEveryone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "parley.db")
	s := openAt(t, path)
	var wg sync.WaitGroup
	start, outcomes := make(chan struct{}), make([]error, 40)
	for i := range outcomes {
		wg.Go(func() {
			<-start
			outcomes[i] = s.Commit(context.WithoutCancel(t.Context()), store.Batch{Shard: strconv.Itoa(i), Committed: 1})
		})
	}
	close(start)
	closeStore(t, s)
	wg.Wait()
	closeStore(t, s)
	if _, err := s.Committed(t.Context(), "0"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a read after Close: %v, want ErrUnavailable", err)
	}
	s = openAt(t, path)
	defer closeStore(t, s)
	for i, err := range outcomes {
		got, readErr := s.Committed(t.Context(), strconv.Itoa(i))
		if readErr != nil || err == nil != (got == 1) || err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("commit %d answered %v, and the store has %d, %v", i, err, got, readErr)
		}
	}
}

// TestReadersAreBounded: a read waits for a connection until its context ends.
func TestReadersAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, ReadersMax(1))
	c, err := s.readers.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error)
	go func() { answer <- s.Ping(ctx) }()
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("Ping: %v, want context.Canceled", err)
	}
	s.readers.put(c)
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestReaderSeesWhatIsCommitted reads beside the store, and alone once it is gone; it cannot write.
func TestReaderSeesWhatIsCommitted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "with ? and % and #.db")
	s := openAt(t, path)
	for _, want := range []uint64{1, 2} {
		r, err := OpenReader(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if want == 1 {
			if err := s.Commit(t.Context(), store.Batch{Shard: "0", Committed: want}); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := r.Committed(t.Context(), "0"); got != want || err != nil {
			t.Errorf("Committed: %d, %v, want %d", got, err, want)
		}
		err = r.read(t.Context(), "write", func(c *conn) error { return c.exec(insertShard, "0", int64(9)) })
		if err == nil || !strings.Contains(err.Error(), "readonly") {
			t.Errorf("a write by a reader: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if want == 1 {
			if err := s.Commit(t.Context(), store.Batch{Shard: "0", Committed: 2}); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
		}
	}
}

// TestPageIsOneSnapshot: a page that spans buckets shows whole batches, while commits go on.
func TestPageIsOneSnapshot(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := storetest.NewTimeline("0", 1<<40)
	chat := storetest.DirectChat("alice", "bob")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			if err := s.Commit(t.Context(), l.Batch(storetest.Message{Chat: chat}, storetest.Message{Chat: chat})); err != nil {
				t.Error(err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		events, _, err := s.Page(t.Context(), chat, store.Range{Limit: 200})
		if err != nil || len(events)%2 != 0 {
			t.Fatalf("a page has %d events, %v: half a batch", len(events), err)
		}
		for i := 1; i < len(events); i++ {
			if events[i].Prev != events[i-1].Seq {
				t.Fatalf("a page has a hole before %d", events[i].Seq)
			}
		}
	}
}
