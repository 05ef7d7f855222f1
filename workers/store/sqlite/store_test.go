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
	storetest.Run(t, func(t testing.TB) storetest.Subject {
		clock := storetest.NewClock()
		s := openAt(t, filepath.Join(t.TempDir(), "parley.db"), Clock(clock.Now))
		return storetest.Subject{Store: s, Clock: clock, Dump: func() string { return dump(t, s) }, Close: func() { closeStore(t, s) }}
	})
}

// open returns a migrated store in a directory of the test.
func open(t testing.TB, opts ...Option) *Store {
	t.Helper()
	s := openAt(t, filepath.Join(t.TempDir(), "parley.db"), opts...)
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

// openAt returns a migrated store that the caller closes.
func openAt(t testing.TB, path string, opts ...Option) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		closeStore(t, s)
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// dump returns every row of every table but migrations, in the order of their keys.
func dump(t testing.TB, s *Store) string {
	t.Helper()
	var out strings.Builder
	err := s.read(t.Context(), "dump", func(c *conn) error {
		for _, table := range []string{"events", "buckets", "chats", "chats_by_user", "shards", "members_by_chat",
			"edits", "reactions", "settings", "users", "blocks", "receipts"} {
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
