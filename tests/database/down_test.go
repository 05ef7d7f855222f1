package database

import (
	"errors"
	"testing"
	"time"

	"parley/tests/cassandra"
	"parley/tests/cassandra/cassandratest"
	"parley/workers/store"
	"parley/workers/store/cql"
	"parley/workers/store/storetest"
)

// breaksConnections is for tests that end connections on which many requests wait:
// the driver gives all of them one error and marks it for each, which the race
// detector rightly finds.
func breaksConnections(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("the driver's requests share an error when their connection ends: run it without the race detector")
	}
}

// TestKilledDatabaseComesBack: what was committed is there, and what was refused is stored when it is given again.
func TestKilledDatabaseComesBack(t *testing.T) {
	t.Parallel()
	breaksConnections(t)
	node := cassandratest.Start(t, cassandra.Config{})
	s := openNew(t, cql.Config{Hosts: []string{node.Address()}, Keyspace: keyspace})
	l := storetest.NewTimeline("0", 1<<40)
	if err := s.Commit(t.Context(), storetest.BatchOfMany(l)); err != nil {
		t.Fatal(err)
	}
	node.Kill()
	b := storetest.BatchOfMany(l)
	_, committed := s.Committed(t.Context(), "0")
	_, _, head := s.Head(t.Context(), storetest.DirectChat("alice", "user-1"))
	_, _, page := s.Page(t.Context(), storetest.DirectChat("alice", "user-1"), store.Range{Limit: 1})
	for call, err := range map[string]error{
		"Commit": s.Commit(t.Context(), b), "Committed": committed, "Head": head, "Page": page, "Ping": s.Ping(t.Context()),
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", call, err)
		}
	}
	if err := node.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.Again(t, func() error { return s.Commit(t.Context(), b) })
	if got, err := s.Committed(t.Context(), "0"); got != b.Committed || err != nil {
		t.Errorf("Committed: %d, %v, want %d", got, err, b.Committed)
	}
	storetest.WantAll(t, s, l)
}

// TestPausedDatabaseIsUnavailable: requests end in time, and a commit that was
// stopped anywhere is whole once it is given again.
func TestPausedDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	breaksConnections(t)
	node := cassandratest.Start(t, cassandra.Config{})
	s := openNew(t, cql.Config{Hosts: []string{node.Address()}, Keyspace: keyspace})
	short := open(t, cql.Config{Hosts: []string{node.Address()}, Keyspace: keyspace, Timeout: 500 * time.Millisecond})
	l := storetest.NewTimeline("0", 1<<40)
	for range 3 {
		b := storetest.BatchOfMany(l)
		done := make(chan error, 1)
		go func() { done <- short.Commit(t.Context(), b) }()
		if err := node.Pause(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Commit: %v, want ErrUnavailable", err)
		}
		if err := short.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Ping: %v, want ErrUnavailable", err)
		}
		if err := node.Resume(); err != nil {
			t.Fatal(err)
		}
		storetest.Again(t, func() error { return short.Commit(t.Context(), b) })
	}
	storetest.WantAll(t, s, l)
}
