package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"parley/schemas"
	"parley/workers/store"
)

func shippedMigrations(t *testing.T) []migration {
	t.Helper()
	shipped, err := readMigrations(schemas.SQLMigrations, "sql")
	if err != nil {
		t.Fatal(err)
	}
	return shipped
}

// TestShippedMigrations freezes what was shipped: a store knows a file by its checksum.
func TestShippedMigrations(t *testing.T) {
	t.Parallel()
	want := []string{
		"0001_timeline.sql 1f4d6b605c4ac19e40d591217be2e4fca6e9377819e7b58794c14784b309ef1e",
		"0002_groups.sql f5fb406d2f93ed077cb9b1f71a6aad6400633a72a8691dcfac51dd354aee7ff7",
		"0003_receipts.sql 5ac0dc7e1b269a460582533b2d64ad9937dfa946d4c1f29c2d16e25997b5f030",
	}
	var got []string
	for _, m := range shippedMigrations(t) {
		got = append(got, m.name+" "+m.checksum)
	}
	if !slices.Equal(got, want) {
		t.Errorf("shipped were %v, and these are %v: write a new migration", want, got)
	}
}

// withMore adds a migration that a later Parley would have.
func withMore(t *testing.T, text string) []migration {
	shipped := shippedMigrations(t)
	return append(shipped, migration{int64(len(shipped)) + 1, "more.sql", text, "0123456789abcdef"})
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	s := open(t)
	before := dump(t, s)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, s); got != before {
		t.Errorf("the second run changed rows: %s", got)
	}
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestMigrateTogether: each connection takes the file's locks as a process of its own would.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "parley.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer closeStore(t, s)
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := openAt(t, path)
	defer closeStore(t, s)
	have := readRows(t, s)
	if len(have) != len(shippedMigrations(t)) {
		t.Errorf("applied: %v", have)
	}
}

func readRows(t *testing.T, s *Store) (have []applied) {
	t.Helper()
	err := s.read(t.Context(), "read migrations", func(c *conn) (err error) {
		have, err = readApplied(c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := s.migrate(t.Context(), withMore(t, "CREATE TABLE more (x) STRICT")); err == nil {
		t.Fatal("a column without a type passed in a STRICT table")
	}
	if err := s.migrate(t.Context(), withMore(t, "CREATE TABLE more (x TEXT) STRICT; CREATE TABLE evenmore (x TEXT) STRICT")); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"Migrate": s.Migrate(t.Context()), "CheckSchema": s.CheckSchema(t.Context())} {
		if !errors.Is(err, store.ErrSchemaNewer) || !strings.Contains(err.Error(), "run the Parley that migrated it") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestChangedMigrationIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	shipped := slices.Clone(shippedMigrations(t))
	shipped[0].checksum = "fedcba9876543210"
	if err := s.migrate(t.Context(), shipped); !errors.Is(err, store.ErrSchemaChanged) {
		t.Errorf("%v, want ErrSchemaChanged", err)
	}
}

// TestFailedMigrationLeavesNothing: half of a migration would stop every later run.
func TestFailedMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := s.migrate(t.Context(), withMore(t, "CREATE TABLE more (x TEXT) STRICT; CREATE TABLE events (x TEXT)")); err == nil {
		t.Fatal("it passed")
	}
	if err := s.migrate(t.Context(), withMore(t, "CREATE TABLE more (x TEXT) STRICT")); err != nil {
		t.Fatal(err)
	}
}

func TestReaderRefusesOlderSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "parley.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	if _, err := OpenReader(t.Context(), path); !errors.Is(err, store.ErrSchemaOlder) {
		t.Errorf("%v, want ErrSchemaOlder", err)
	}
}

func TestOpenRefusesWhatIsNoStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte(strings.Repeat("this is no SQLite file. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "absent", "parley.db"), dir, other} {
		if s, err := Open(t.Context(), path); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open %s: %v, want ErrUnavailable with the path", path, err)
			if err == nil {
				closeStore(t, s)
			}
		}
	}
	if _, err := OpenReader(t.Context(), filepath.Join(dir, "absent.db")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("OpenReader of an absent file: %v, want ErrUnavailable", err)
	}
}

func TestMigrationsAreNumbered(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{"0002_b.sql"}, {"0001_a.sql", "0003_c.sql"}, {"0001_a.sql", "0001_b.sql"}, {"a.sql"}} {
		files := fstest.MapFS{}
		for _, name := range names {
			files["sql/"+name] = &fstest.MapFile{Data: []byte("SELECT 1")}
		}
		if _, err := readMigrations(files, "sql"); err == nil {
			t.Errorf("%v passes", names)
		}
	}
}
