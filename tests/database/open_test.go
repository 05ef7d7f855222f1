// Package database tests the CQL store on Cassandras of its own, which tests kill, pause and
// secure. Tests that can share a Cassandra stand beside the store.
package database

import (
	"testing"

	"parley/workers/store/cql"
)

// keyspace is that of each Cassandra, which has no other.
const keyspace = "parley"

// open returns a store, which the test's end closes.
func open(t *testing.T, cfg cql.Config) *cql.Store {
	t.Helper()
	s, err := cql.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openNew returns a migrated store, which the test's end closes.
func openNew(t *testing.T, cfg cql.Config) *cql.Store {
	t.Helper()
	s := open(t, cfg)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}
