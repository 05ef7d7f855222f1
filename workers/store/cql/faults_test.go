package cql

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/schemas"
	"parley/tests/cassandra/cassandratest"
	"parley/workers/store"
	"parley/workers/store/storetest"

	"github.com/gocql/gocql"
	"github.com/scylladb/gocqlx/v2"
)

// TestSeedsThatAreDown: one of three that answers is enough, wherever it stands.
func TestSeedsThatAreDown(t *testing.T) {
	t.Parallel()
	_, port, err := net.SplitHostPort(cassandratest.Shared(t))
	if err != nil {
		t.Fatal(err)
	}
	const up, down, away = "127.0.0.1:", "127.0.0.2:", "127.0.0.3:"
	keyspace := newKeyspace()
	for _, hosts := range [][]string{{up + port, down + port, away + port}, {down + port, away + port, up + port}} {
		s, err := Open(t.Context(), Config{Hosts: hosts, Keyspace: keyspace})
		if err != nil {
			t.Fatal(err)
		}
		defer closeStore(t, s)
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), store.Batch{Shard: "0", Committed: 1}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Open(t.Context(), Config{Hosts: []string{down + port, away + port}, Keyspace: keyspace})
	if err == nil || !strings.Contains(err.Error(), "is it running there") || !strings.Contains(err.Error(), down+port) {
		t.Errorf("no seed is up: %v, want a sentence that names them", err)
	}
}

func TestStoreWithoutKeyspace(t *testing.T) {
	t.Parallel()
	s := openIn(t, cassandratest.Shared(t), newKeyspace())
	t.Cleanup(func() { closeStore(t, s) })
	if err := s.CheckSchema(t.Context()); !errors.Is(err, store.ErrSchemaOlder) || !strings.Contains(err.Error(), "run parley migrate") {
		t.Errorf("CheckSchema: %v, want ErrSchemaOlder", err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Ping: %v, want ErrUnavailable", err)
	}
	if err := s.Commit(t.Context(), storetest.BatchOfMany(storetest.NewTimeline("0", 1))); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Commit: %v, want ErrUnavailable", err)
	}
}

func TestClosedStoreSaysSo(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, errClosed) {
		t.Errorf("Ping: %v, want ErrUnavailable since it was closed", err)
	}
}

// TestDroppedTableIsNoBatchFault: a mistake of an operator must not make dead letters.
func TestDroppedTableIsNoBatchFault(t *testing.T) {
	t.Parallel()
	s := open(t)
	changeSchema(t, s, "DROP TABLE chats")
	l := storetest.NewTimeline("0", 1)
	if err := s.Commit(t.Context(), l.Batch(storetest.Message{Chat: storetest.DirectChat("a", "b")})); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	if got, err := s.Committed(t.Context(), "0"); got != 0 || err != nil {
		t.Errorf("Committed: %d, %v: the shard moved on without its chats", got, err)
	}
}

// TestHeadsComeLast: where a chat's events cannot be written, nothing tells of them.
func TestHeadsComeLast(t *testing.T) {
	t.Parallel()
	s := open(t)
	changeSchema(t, s, "DROP TABLE events")
	l := storetest.NewTimeline("0", 1)
	chat := storetest.DirectChat("a", "b")
	for _, messages := range []int{1, 2} { // alone, and as a batch
		batch := make([]storetest.Message, messages)
		for i := range batch {
			batch[i].Chat = chat
		}
		if err := s.Commit(t.Context(), l.Batch(batch...)); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("%d messages: %v, want ErrUnavailable", messages, err)
		}
		if head, found, err := s.Head(t.Context(), chat); found || err != nil {
			t.Errorf("%d messages: the chat has the head %+v, %v", messages, head, err)
		}
	}
}

// TestOneReplicaIsNotEnough: of three copies of which one can be reached, a
// stale one could answer, and a written one be lost.
func TestOneReplicaIsNotEnough(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := storetest.NewTimeline("0", 1)
	chat := storetest.DirectChat("a", "b")
	if err := s.Commit(t.Context(), l.Batch(storetest.Message{Chat: chat})); err != nil {
		t.Fatal(err)
	}
	changeSchema(t, s, "ALTER KEYSPACE "+s.cfg.Keyspace+" WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 3}")
	_, committed := s.Committed(t.Context(), "0")
	_, _, head := s.Head(t.Context(), chat)
	_, _, page := s.Page(t.Context(), chat, store.Range{Limit: 1})
	_, shards := s.Shards(t.Context())
	alice := storetest.User("alice")
	_, receipts := s.Receipts(t.Context(), chat, []schemas.User{alice})
	_, seen := s.Seen(t.Context(), []schemas.User{alice})
	for call, err := range map[string]error{
		"Committed": committed, "Head": head, "Page": page, "Shards": shards,
		"Commit of one event": s.Commit(t.Context(), l.Batch(storetest.Message{Chat: chat})),
		"Commit of a batch":   s.Commit(t.Context(), l.Batch(storetest.Message{Chat: chat}, storetest.Message{Chat: chat})),
		"Commit of a shard":   s.Commit(t.Context(), store.Batch{Shard: "0", Committed: 100}),
		"Mark":                s.Mark(t.Context(), []store.Mark{{Chat: chat, User: alice, Delivered: 1}}),
		"Receipts":            receipts,
		"SetSeen":             s.SetSeen(t.Context(), map[schemas.User]time.Time{alice: storetest.Start}),
		"Seen":                seen,
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", call, err)
		}
	}
}

// observe has o see the requests that s makes.
func observe(t *testing.T, s *Store, o interface {
	gocql.QueryObserver
	gocql.BatchObserver
}) {

	t.Helper()
	cluster := s.cfg.cluster(s.cfg.Keyspace, s.cfg.Timeout, newLastConnect())
	cluster.QueryObserver, cluster.BatchObserver = o, o
	session, err := gocqlx.WrapSession(cluster.CreateSession())
	if err != nil {
		t.Fatal(err)
	}
	s.session.Swap(&session).Close()
}

// attempts counts the requests that the driver made.
type attempts struct{ reads, writes, batches atomic.Int64 }

func (a *attempts) ObserveQuery(_ context.Context, q gocql.ObservedQuery) {
	if strings.HasPrefix(q.Statement, "SELECT") {
		a.reads.Add(1)
		return
	}
	a.writes.Add(1)
}

func (a *attempts) ObserveBatch(context.Context, gocql.ObservedBatch) { a.batches.Add(1) }

// TestWritesAreNotRepeated by the driver, which does not know whether they are
// still wanted; a read is, once.
func TestWritesAreNotRepeated(t *testing.T) {
	t.Parallel()
	s, seen := open(t), &attempts{}
	observe(t, s, seen)
	changeSchema(t, s, "ALTER KEYSPACE "+s.cfg.Keyspace+" WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 3}")
	seen.writes.Store(0)
	l := storetest.NewTimeline("0", 1)
	chat := storetest.DirectChat("a", "b")
	for _, batch := range []store.Batch{
		{Shard: "0", Committed: 1},
		l.Batch(storetest.Message{Chat: chat}),
		l.Batch(storetest.Message{Chat: chat}, storetest.Message{Chat: chat}),
	} {
		if err := s.Commit(t.Context(), batch); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("%v, want ErrUnavailable", err)
		}
	}
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
	if writes, batches, reads := seen.writes.Load(), seen.batches.Load(), seen.reads.Load(); writes != 2 || batches != 1 || reads > 2 {
		t.Errorf("%d writes, %d batches and %d reads were sent, want 2, 1 and at most 2", writes, batches, reads)
	}
}

// TestRowsThatDoNotFit are refused before anything is written.
func TestRowsThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := open(t)
	before := dump(t, s)
	for name, json := range map[string]string{"too large": strings.Repeat("1", eventBytesMax+1), "no UTF-8": "\"\xff\""} {
		l := storetest.NewTimeline("0", 1)
		chat := storetest.DirectChat("a", "b")
		if err := s.Commit(t.Context(), l.Batch(storetest.Message{Chat: chat}, storetest.Message{Chat: chat, JSON: json})); !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
	}
	if after := dump(t, s); after != before {
		t.Errorf("refused batches left rows: %s", after)
	}
}

// TestSlowReadAsksNobodyElse: with one node there is no second replica, and the
// first one's answer counts however late it comes.
func TestSlowReadAsksNobodyElse(t *testing.T) {
	t.Parallel()
	s := open(t)
	eager, err := Open(t.Context(), Config{Hosts: s.cfg.Hosts, Keyspace: s.cfg.Keyspace, SpeculativeAfter: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, eager) })
	for range 200 {
		if err := eager.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCommitStopsWithItsContext in its middle, and is whole when it is given again.
func TestCommitStopsWithItsContext(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := storetest.NewTimeline("0", 1<<40)
	for i := range 5 {
		b := storetest.BatchOfMany(l)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*5*time.Millisecond)
		if err := s.Commit(ctx, b); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want DeadlineExceeded", err)
		}
		cancel()
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	storetest.WantAll(t, s, l)
}
