package sqlite

import (
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"parley/workers/store/storetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) (storetest.Store, func() string) {
		s := open(t)
		return s, func() string { return dump(t, s) }
	})
}

// open returns a migrated store in a directory of the test.
func open(t testing.TB, opts ...Option) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "parley.db"), opts...)
}

func openAt(t testing.TB, path string, opts ...Option) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// dump returns every row of every table but migrations, in the order of their keys.
func dump(t testing.TB, s *Store) string {
	t.Helper()
	var out strings.Builder
	err := s.read(t.Context(), "dump", func(c *conn) error {
		for _, table := range []string{"events", "buckets", "chats", "chats_by_user", "shards"} {
			err := c.query("SELECT * FROM "+table, func(row []driver.Value) error {
				fmt.Fprintf(&out, "%s %q\n", table, row)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
