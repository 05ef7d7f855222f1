package check_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/repair/check"
	"parley/repair/replay"
	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/dead"
	"parley/workers/persist"
	"parley/workers/store"
	"parley/workers/store/sqlite"
	"parley/workers/store/sqlite/sqlitetest"
	"parley/workers/workerstest"
)

// TestWhatTheLogCannotRepairIsFound: rows that the log does not have stay where they are.
func TestWhatTheLogCannotRepairIsFound(t *testing.T) {
	t.Parallel()
	w := filled(t)
	w.purge(100)
	chat, strange := workerstest.ChatNo(1).String(), "direct.alice.zoe"
	copyRow := func(to, seq, n string) string {
		return fmt.Sprintf(`INSERT INTO events (chat, bucket, seq, stamp, prev, n, time, type, author, id, event) SELECT '%s', bucket, %s, %s, prev, %s, time, type, author, id, event FROM events WHERE chat = '%s' AND n = 110`,
			to, seq, seq, n, chat)
	}
	for _, test := range []struct {
		name       string
		statements []string
		change     func(*check.Config)
		want       map[check.Kind]uint64
	}{
		{"an extra row between others", []string{copyRow(chat, "seq + 1", "n")}, nil,
			map[check.Kind]uint64{check.Extra: 1, check.Gap: 1}},
		{"an extra row between others, in small windows", []string{copyRow(chat, "seq + 1", "n")}, func(c *check.Config) { c.WindowEvents = 2 },
			map[check.Kind]uint64{check.Extra: 1, check.Gap: 1}},
		{"extra rows behind the last", []string{
			copyRow(chat, "(SELECT max(seq) + 1 FROM events WHERE chat = '"+chat+"')", "n"),
		}, nil, map[check.Kind]uint64{check.Extra: 1, check.Order: 1, check.Gap: 1, check.Head: 1}},
		{"a row of a chat that the log does not have", []string{
			copyRow(strange, "seq", "0"),
			fmt.Sprintf("UPDATE events SET prev = 0 WHERE chat = '%s'", strange),
			fmt.Sprintf("INSERT INTO buckets SELECT chat, bucket, seq, seq FROM events WHERE chat = '%s'", strange),
			fmt.Sprintf("INSERT INTO chats (chat, stamp, kind, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes) SELECT chat, seq, 'direct', time, seq, 0, time, 0, 1, length(event) FROM events WHERE chat = '%s'", strange),
		}, nil, map[check.Kind]uint64{check.Extra: 1}},
		{"a row in another bucket", []string{fmt.Sprintf("UPDATE events SET bucket = 1 WHERE chat = '%s' AND n = 110", chat)}, nil,
			map[check.Kind]uint64{check.Missing: 1, check.Gap: 1, check.Order: 1, check.Head: 1}},
		{"a chain that is broken before the log begins", []string{
			fmt.Sprintf("DELETE FROM events WHERE chat = '%s' AND n = 3", chat),
		}, nil, map[check.Kind]uint64{check.Gap: 1}},
		{"the same, and nobody asked", []string{
			fmt.Sprintf("DELETE FROM events WHERE chat = '%s' AND n = 3", chat),
		}, func(c *check.Config) { c.Deep = false }, map[check.Kind]uint64{}},
		{"a store of another log", []string{"UPDATE shards SET committed = committed + 1000"}, nil,
			map[check.Kind]uint64{check.Extra: 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := w.copyStore(t)
			for _, statement := range test.statements {
				if n := sqlitetest.Exec(t, path, statement); n == 0 {
					t.Fatalf("%s changes nothing", statement)
				}
			}
			report := w.check(t, path, test.change)
			if got := found(report); !maps.Equal(got, test.want) {
				t.Errorf("found %v, want %v", got, test.want)
				for _, s := range report.Shards {
					t.Log(s.Findings)
				}
			}
		})
	}
}

func TestOnlyTheFirstFindingsAreKept(t *testing.T) {
	t.Parallel()
	w := filled(t)
	path := w.copyStore(t)
	gone := sqlitetest.Exec(t, path, "DELETE FROM events WHERE n > 20")
	report := w.check(t, path, func(c *check.Config) { c.FindingsMax = 5 })
	missing := uint64(0)
	for _, s := range report.Shards {
		missing += s.Missing
		if len(s.Findings) != 5 || s.More != s.Differences()-5 {
			t.Errorf("shard %s: %d findings and %d more of %d", s.Shard, len(s.Findings), s.More, s.Differences())
		}
	}
	if missing != uint64(gone) {
		t.Errorf("%d are missing, want %d", missing, gone)
	}
	only := w.check(t, path, func(c *check.Config) { c.Shards = w.Layout.All()[1:] })
	if len(only.Shards) != 1 || only.Shards[0].Shard != "1" || only.Shards[0].Differences() != report.Shards[1].Differences() {
		t.Errorf("a check of shard 1 alone reports %d shards", len(only.Shards))
	}
}

// A letter that is replayed has its row in its place, which is no fault; before
// that it is given up, which is none either.
func TestReplayedLettersAreNoFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}})
	st := openStore(t, w.path)
	defer closeStore(t, st)
	text := func(prefix string) func(int) []byte {
		return func(i int) []byte { return message(fmt.Sprintf("%s%d", prefix, i), 10) }
	}
	refusing := &refusingStore{Store: st}
	stop := workerstest.Persist(w.T, w.Env, refusing)
	w.publish(1, text("bad"), workerstest.ChatNo(2)) // a chat's only event
	for i := range 5 {
		w.publish(4, text(fmt.Sprint("m", i)), workerstest.ChatNo(0), workerstest.ChatNo(1))
		w.publish(2, text(fmt.Sprint("bad", i)), workerstest.ChatNo(0))
	}
	w.waitStored(st)
	stop()
	config := func(c *check.Config) { c.Store = st }
	report := w.check(t, w.path, config)
	wantClean(t, report)
	if got := report.Shards[0].GivenUp; got != 11 {
		t.Errorf("%d are given up, want 11", got)
	}
	handlers := map[string]replay.Handler{streams.PersistConsumer: replay.New(st, w.Layout)}
	replayed := 0
	err := replay.Letters(t.Context(), w.JetStream, "", handlers, func(l dead.Letter, err error) {
		if err != nil {
			t.Errorf("letter %d: %v", l.Seq, err)
		}
		replayed++
		wantClean(t, w.check(t, w.path, config))
	})
	if err != nil || replayed != 11 {
		t.Errorf("%d letters were replayed, %v", replayed, err)
	}
	// A new owner goes on from heads that know of the last ones.
	stop = workerstest.Persist(w.T, w.Env, st)
	w.publish(4, text("after"), workerstest.ChatNo(0), workerstest.ChatNo(2))
	w.waitStored(st)
	stop()
	report = w.check(t, w.path, config)
	wantClean(t, report)
	if s := report.Shards[0]; s.GivenUp != 0 || s.Compared != s.Events {
		t.Errorf("given up %d, compared %d of %d", s.GivenUp, s.Compared, s.Events)
	}
}

// refusingStore takes no batch with an event whose id begins with bad.
type refusingStore struct{ persist.Store }

func (s *refusingStore) Commit(ctx context.Context, b store.Batch) error {
	for _, chat := range b.Chats {
		for _, e := range chat.Events {
			if strings.HasPrefix(e.ID.String(), "bad") {
				return fmt.Errorf("not yet: %w", store.ErrBatch)
			}
		}
	}
	return s.Store.Commit(ctx, b)
}

// TestLiveSystemIsClean checks again and again while events come, are stored one
// table at a time, as a store without transactions does, and expire.
func TestLiveSystemIsClean(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 2}})
	st := openStore(t, w.path)
	defer closeStore(t, st)
	stop := workerstest.Persist(w.T, w.Env, &steppingStore{Store: st})
	var chats []schemas.Chat
	for i := range 20 {
		chats = append(chats, workerstest.ChatNo(i))
	}
	w.publish(20, func(i int) []byte { return message(fmt.Sprintf("m%d", i), 10) }, chats...)
	var working sync.WaitGroup
	var done atomic.Bool
	said := 0
	working.Go(func() {
		for !done.Load() {
			w.publish(5, func(i int) []byte { return message(fmt.Sprintf("m%d-%d", said, i), 10) }, chats...)
			said++
		}
	})
	working.Go(func() {
		for n := uint64(0); !done.Load(); n += 7 {
			first, last := w.bounds(w.Layout.At(0))
			if last > first+100 {
				w.purge(first + 7 - w.Layout.At(0).FirstSeq())
			}
			<-time.After(time.Millisecond)
		}
	})
	compared, checks := uint64(0), 0
	for began := time.Now(); checks < 6 || compared < 5000 && time.Since(began) < time.Minute; checks++ {
		report := w.check(t, w.path, func(c *check.Config) { c.Store, c.Deep = st, checks%2 == 0 })
		wantClean(t, report)
		for _, s := range report.Shards {
			compared += s.Compared
		}
	}
	done.Store(true)
	working.Wait()
	t.Logf("%d checks compared %d events while others came", checks, compared)
	w.waitStored(st)
	stop()
	wantClean(t, w.check(t, w.path, func(c *check.Config) { c.Store = st }))
}

// steppingStore commits each chat by itself, before the shard's row.
type steppingStore struct{ *sqlite.Store }

func (s *steppingStore) Commit(ctx context.Context, b store.Batch) error {
	for i := range b.Chats {
		if err := s.Store.Commit(ctx, store.Batch{Shard: b.Shard, Chats: b.Chats[i : i+1]}); err != nil {
			return err
		}
	}
	return s.Store.Commit(ctx, store.Batch{Shard: b.Shard, Committed: b.Committed})
}

// What was said and is not stored yet is counted, and nothing else; and rows that
// come while a chat is looked at are none of the check's.
func TestWhatIsNotStoredYetIsNoDifference(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}})
	text := func(i int) []byte { return message(fmt.Sprintf("m%d", i), 10) }
	w.publish(20, text, workerstest.ChatNo(0), workerstest.ChatNo(1))
	w.persistAll()
	w.publish(25, text, workerstest.ChatNo(0), workerstest.ChatNo(2))
	st := openStore(t, w.path)
	defer closeStore(t, st)
	busy := &busyStore{Store: st}
	_, busy.last = w.bounds(w.Layout.At(0))
	report := w.check(t, w.path, func(c *check.Config) { c.Store = busy })
	wantClean(t, report)
	if s := report.Shards[0]; s.NotStored != 50 || s.Compared != 40 || s.Events != 90 || busy.commits.Load() == 0 {
		t.Errorf("%d are not stored and %d were compared of %d, want 50, 40 and 90; %d rows came meanwhile", s.NotStored, s.Compared, s.Events, busy.commits.Load())
	}
}

// busyStore has a chat go on before each page of it that is read.
type busyStore struct {
	*sqlite.Store
	last    uint64 // of the log
	commits atomic.Int64
	mu      sync.Mutex
}

func (s *busyStore) Page(ctx context.Context, chat schemas.Chat, r store.Range) ([]store.Event, bool, error) {
	if err := s.goOn(ctx, chat); err != nil {
		return nil, false, err
	}
	return s.Store.Page(ctx, chat, r)
}

func (s *busyStore) goOn(ctx context.Context, chat schemas.Chat) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	head, ok, err := s.Store.Head(ctx, chat)
	if err != nil || !ok {
		return err
	}
	from, _, _ := chat.Users()
	id, err := schemas.ParseID("later")
	if err != nil {
		return err
	}
	e := store.Event{Bucket: head.Bucket, Seq: max(head.LastSeq, s.last) + 1, Prev: head.LastSeq, N: head.LastN + 1, Time: time.Now(),
		Type: schemas.Message, Author: from, ID: id, JSON: []byte("{}")}
	head.LastSeq, head.LastN, head.LastTime = e.Seq, e.N, e.Time
	head.BucketEvents++
	head.BucketBytes += int64(len(e.JSON))
	s.commits.Add(1)
	return s.Store.Commit(ctx, store.Batch{Shard: "0", Chats: []store.ChatBatch{{Chat: chat, Events: []store.Event{e}, Head: head}}})
}

// slowStore answers each read after a while, and counts those at once.
type slowStore struct {
	*sqlite.Store
	latency   time.Duration
	now, most atomic.Int64
}

func (s *slowStore) Page(ctx context.Context, chat schemas.Chat, r store.Range) ([]store.Event, bool, error) {
	s.most.Store(max(s.most.Load(), s.now.Add(1)))
	defer s.now.Add(-1)
	<-time.After(s.latency)
	return s.Store.Page(ctx, chat, r)
}

// Reads are made side by side, and no more of them than asked for.
func TestReadersAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}})
	var chats []schemas.Chat
	for i := range 1000 {
		chats = append(chats, workerstest.ChatNo(i))
	}
	w.publish(2, func(i int) []byte { return message(fmt.Sprintf("m%d", i), 10) }, chats...)
	w.persistAll()
	st := openStore(t, w.path)
	defer closeStore(t, st)
	slow := &slowStore{Store: st, latency: time.Millisecond}
	began := time.Now()
	report := w.check(t, w.path, func(c *check.Config) { c.Store, c.Readers, c.WindowEvents, c.Deep = slow, 8, 0, false })
	wantClean(t, report)
	if most := slow.most.Load(); most < 2 || most > 8 {
		t.Errorf("%d reads at once, want up to 8", most)
	}
	t.Logf("%d events in %d chats, reads of 1 ms: %.0f events a second", report.Shards[0].Compared, len(chats), float64(report.Shards[0].Compared)/time.Since(began).Seconds())
}

// failingStore fails its reads a few times.
type failingStore struct {
	*sqlite.Store
	left atomic.Int64
}

func (s *failingStore) fails() error {
	if s.left.Add(-1) >= 0 {
		return store.ErrUnavailable
	}
	return nil
}

func (s *failingStore) Page(ctx context.Context, chat schemas.Chat, r store.Range) ([]store.Event, bool, error) {
	if err := s.fails(); err != nil {
		return nil, false, err
	}
	return s.Store.Page(ctx, chat, r)
}

func (s *failingStore) Chats(ctx context.Context) iter.Seq2[store.ChatHead, error] {
	return s.Store.Chats(ctx)
}

func TestReadsThatFailAreTriedAgain(t *testing.T) {
	t.Parallel()
	w := filled(t)
	st := openStore(t, w.path)
	defer closeStore(t, st)
	failing := &failingStore{Store: st}
	failing.left.Store(3)
	wantClean(t, w.check(t, w.path, func(c *check.Config) { c.Store = failing }))
	failing.left.Store(1 << 40)
	c, err := check.New(check.Config{JetStream: w.JetStream, Log: w.Log(), Layout: w.Layout, Store: failing, RetryWithin: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if report, err := c.Run(t.Context()); err == nil || report != nil {
		t.Errorf("a store that does not answer: %v, %v", report, err)
	}
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	_, err := check.New(check.Config{Readers: -1, FindingsMax: -1, WindowEvents: -1, RetryWithin: -1})
	for _, want := range []string{"no JetStream", "no log", "no store", "no layout", "readers", "findings", "windows", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
