package cql

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/schemas"
	"parley/tests/cassandra/cassandratest"
	"parley/workers/store"
	"parley/workers/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(cassandratest.StopAfter(m).Run()) }

func TestContract(t *testing.T) {
	t.Parallel()
	empty := newEmptyStores(cassandratest.Shared(t))
	t.Cleanup(func() { empty.close(t) })
	storetest.Run(t, func(t testing.TB) storetest.Subject {
		s, clock := empty.take(t), storetest.NewClock()
		s.cfg.Now = clock.Now
		return storetest.Subject{Store: s, Clock: clock, Dump: func() string { return dump(t, s) }, Close: func() { empty.put(t, s) }}
	})
}

// emptyStores gives out stores again once their tables are emptied: that takes a
// fiftieth of what a new keyspace does. Most tests leave most tables empty.
type emptyStores struct {
	address string

	mu   sync.Mutex
	free []*Store
}

func newEmptyStores(address string) *emptyStores { return &emptyStores{address: address} }

func (e *emptyStores) take(t testing.TB) *Store {
	t.Helper()
	e.mu.Lock()
	if n := len(e.free); n > 0 {
		s := e.free[n-1]
		e.free = e.free[:n-1]
		e.mu.Unlock()
		return s
	}
	e.mu.Unlock()
	return openNew(t, e.address)
}

func (e *emptyStores) put(t testing.TB, s *Store) {
	t.Helper()
	for table := range columns {
		if rows := s.session.Load().Session.Query("SELECT * FROM " + table + " LIMIT 1").Iter(); rows.NumRows() > 0 || rows.Close() != nil {
			changeSchema(t, s, "TRUNCATE "+table)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.free = append(e.free, s)
}

func (e *emptyStores) close(t testing.TB) {
	for _, s := range e.free {
		closeStore(t, s)
	}
}

// open returns a store in a fresh keyspace of the shared Cassandra, for as long as the test runs.
func open(t testing.TB) *Store {
	t.Helper()
	s := openNew(t, cassandratest.Shared(t))
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

// openNew returns a migrated store in a fresh keyspace, for closeStore.
func openNew(t testing.TB, address string) *Store {
	t.Helper()
	s := openIn(t, address, newKeyspace())
	if err := s.Migrate(t.Context()); err != nil {
		closeStore(t, s)
		t.Fatal(err)
	}
	return s
}

// openIn returns a store that the caller closes.
func openIn(t testing.TB, address, keyspace string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Hosts: []string{address}, Keyspace: keyspace})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKeyspace() string {
	var random [8]byte
	rand.Read(random[:])
	return "test_" + hex.EncodeToString(random[:])
}

// closeStore leaves the keyspace behind: to drop one takes the database longer
// than to make it, and it ends with the tests.
func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// changeSchema runs a statement that takes its time on a busy machine.
func changeSchema(t testing.TB, s *Store, statement string) {
	t.Helper()
	session := s.session.Load()
	if session == nil {
		return // there is no keyspace
	}
	if err := session.Session.Query(statement).SetRequestTimeout(schemaTimeout).Exec(); err != nil {
		t.Error(err)
	}
}

// columns are all of each table, with the stamps of what is written at different times.
var columns = map[string]string{
	"events": `chat, bucket, seq, prev, n, time, type, author, id, event, expires, edited, body, deleted, pinned,
		writetime(event), writetime(author), writetime(body), writetime(pinned)`,
	"buckets": "chat, first_seq, bucket, writetime(bucket)",
	"chats": `chat, kind, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes, name, members, history,
		disappearing, last_event, last_cut, last_prev, last_expires, writetime(last_seq), writetime(last_event)`,
	"chats_by_user":   "user, chat, role, since, visible, read, read_n, delivered, writetime(role), writetime(since), writetime(read), writetime(delivered)",
	"shards":          "shard, committed, writetime(committed)",
	"members_by_chat": "chat, user, role, since, visible, writetime(role), writetime(since)",
	"edits":           "chat, bucket, target, seq, time, body, writetime(time), writetime(body)",
	"reactions":       "chat, bucket, target, emoji, user, is_on, seq, writetime(seq)",
	"settings":        "user, chat, muted, muted_until, pinned, archived, writetime(muted), writetime(pinned), writetime(archived)",
	"users": `user, name, avatar, lang, reads_hidden, status, last_seen,
		writetime(name), writetime(avatar), writetime(lang), writetime(reads_hidden), writetime(status), writetime(last_seen)`,
	"receipts": "chat, user, delivered, read, writetime(delivered), writetime(read)",
	"blocks":   "user, other, blocks, blocked_by, writetime(blocks), writetime(blocked_by)",
}

// dump returns every row of every table, sorted.
func dump(t testing.TB, s *Store) string {
	t.Helper()
	var lines []string
	for table, names := range columns {
		iter := s.session.Load().Session.Query(fmt.Sprintf("SELECT JSON %s FROM %s", names, table)).Iter()
		for row := ""; iter.Scan(&row); {
			lines = append(lines, table+" "+row)
		}
		if err := iter.Close(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestPagesAreFewReads: whoever knows the head needs no look at where buckets begin,
// but for the middle of a chat of several.
func TestPagesAreFewReads(t *testing.T) {
	t.Parallel()
	s, seen := open(t), &attempts{}
	observe(t, s, seen)
	l := storetest.NewTimeline("0", 0)
	l.BucketEvents = 10
	short, long := storetest.DirectChat("alice", "bob"), storetest.DirectChat("alice", "carol")
	say := func(chat schemas.Chat) {
		if err := s.Commit(t.Context(), l.Batch(storetest.Message{Chat: chat})); err != nil {
			t.Fatal(err)
		}
	}
	for _, chat := range []schemas.Chat{short, long} {
		for range 9 {
			say(chat)
		}
	}
	old := l.Heads()[long]
	for range 15 { // to the middle of bucket 2
		say(long)
	}
	ofShort, ofLong := l.Heads()[short], l.Heads()[long]
	middle := l.Events[long][15].Seq
	for _, page := range []struct {
		what         string
		chat         schemas.Chat
		rng          store.Range
		reads, count int
	}{
		{"newest, nothing known", short, store.Range{Limit: 5}, 2, 5},
		{"newest", short, store.Range{Limit: 5, Head: &ofShort}, 1, 5},
		{"older", short, store.Range{Before: ofShort.LastSeq, Limit: 5, Head: &ofShort}, 1, 5},
		{"all upwards", short, store.Range{Forward: true, Limit: 50, Head: &ofShort}, 1, 9},
		{"newest of several buckets", long, store.Range{Before: ofLong.LastSeq + 1, Limit: 3, Head: &ofLong}, 1, 3},
		{"through two of them", long, store.Range{Before: ofLong.LastSeq + 1, Limit: 10, Head: &ofLong}, 2, 10},
		{"the middle", long, store.Range{Before: middle, Limit: 2, Head: &ofLong}, 2, 2},
		{"the end upwards", long, store.Range{Forward: true, After: middle, Limit: 50, Head: &ofLong}, 3, 8},
		{"up to an old head", long, store.Range{Before: old.LastSeq + 1, Limit: 50, Head: &old}, 1, 9},
	} {
		seen.reads.Store(0)
		events, _, err := s.Page(t.Context(), page.chat, page.rng)
		if reads := int(seen.reads.Load()); err != nil || reads != page.reads || len(events) != page.count {
			t.Errorf("%s: %d events by %d reads, %v, want %d by %d", page.what, len(events), reads, err, page.count, page.reads)
		}
	}
}
