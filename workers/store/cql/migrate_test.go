package cql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"parley/schemas"
	"parley/tests/cassandra/cassandratest"
	"parley/workers/store"
	"parley/workers/store/storetest"
)

// TestShippedMigrations freezes what was shipped: a store knows a file by its checksum.
func TestShippedMigrations(t *testing.T) {
	t.Parallel()
	for p, want := range map[product]map[string]string{
		cassandraProduct: {
			"0001_timeline.cql": "e51651a228923e9cdb9ba6817ec12a1a", "0002_options.cql": "08792cdce9297831ad2b495dcb8ce750",
			"0003_groups.cql": "27dd26bd6afe3132a81fee11ac95d4bc", "0004_group_options.cql": "4b73b39b6214ab19cd3fc2d4c54756e1",
			"0005_receipts.cql": "26dd475a57f36b64d2b5c7123d20e0dc", "0006_receipt_options.cql": "973aa8f95b985bc7cc986777c0afb1f1",
		},
		scyllaProduct: {
			"0001_timeline.cql": "e51651a228923e9cdb9ba6817ec12a1a", "0002_options.cql": "18cb2f0d9dcd92eedd0242f107dd46d6",
			"0003_groups.cql": "27dd26bd6afe3132a81fee11ac95d4bc", "0004_group_options.cql": "1d58a6a2b29b93ff70b54ff780469567",
			"0005_receipts.cql": "26dd475a57f36b64d2b5c7123d20e0dc", "0006_receipt_options.cql": "4ab42e60ba287d75a310f5627e4fc6fa",
		},
	} {
		files, err := migrationsOf(schemas.CQLMigrations, p)
		if err != nil {
			t.Fatal(err)
		}
		for name, sum := range want {
			if got := checksum(files[name]); got != sum {
				t.Errorf("%s: %s has checksum %s, and was shipped with %s: write a new migration", p, name, got, sum)
			}
		}
	}
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := storetest.NewTimeline("0", 1<<40)
	if err := s.Commit(t.Context(), l.Batch(storetest.Message{Chat: storetest.DirectChat("alice", "bob")})); err != nil {
		t.Fatal(err)
	}
	before := dump(t, s)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	if dump(t, s) != before {
		t.Error("a second migration changed rows")
	}
}

// TestMigrateFromManyMachines: all find the same empty database at once.
func TestMigrateFromManyMachines(t *testing.T) {
	t.Parallel()
	address, keyspace := cassandratest.Shared(t), newKeyspace()
	const machines = 4
	var stores [machines]*Store
	for i := range stores {
		stores[i] = openIn(t, address, keyspace)
	}
	t.Cleanup(func() {
		for _, s := range stores[1:] {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		closeStore(t, stores[0])
	})
	if err := stores[0].CheckSchema(t.Context()); !errors.Is(err, store.ErrSchemaOlder) || !strings.Contains(err.Error(), keyspace) {
		t.Fatalf("before: %v, want ErrSchemaOlder that names the keyspace", err)
	}
	var group sync.WaitGroup
	for _, s := range stores {
		group.Go(func() {
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, s := range stores {
		if err := s.CheckSchema(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// files are the shipped migrations with a change.
func files(t *testing.T, change func(migrations)) migrations {
	t.Helper()
	all, err := migrationsOf(schemas.CQLMigrations, cassandraProduct)
	if err != nil {
		t.Fatal(err)
	}
	change(all)
	return all
}

func TestSchemaOfAnotherVersion(t *testing.T) {
	t.Parallel()
	s := open(t)
	applied, err := appliedMigrations(t.Context(), s.session.Load(), s.cfg.Keyspace)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(migrations)
		want   error
	}{
		"the same":       {func(migrations) {}, nil},
		"a newer binary": {func(m migrations) { m["0007_next.cql"] = []byte("CREATE TABLE next (k int PRIMARY KEY);") }, store.ErrSchemaOlder},
		"an older one":   {func(m migrations) { delete(m, "0006_receipt_options.cql") }, store.ErrSchemaNewer},
		"another text":   {func(m migrations) { m["0001_timeline.cql"] = append(m["0001_timeline.cql"], ' ') }, store.ErrSchemaChanged},
		"another name": {func(m migrations) {
			m["0006_other.cql"] = m["0006_receipt_options.cql"]
			delete(m, "0006_receipt_options.cql")
		}, store.ErrSchemaChanged},
	} {
		if err := compare(applied, files(t, c.change)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := migrationsOf(fstest.MapFS{}, cassandraProduct); err != nil {
		t.Error(err)
	}
}

// TestNewerSchemaIsRefused: the database had a migration that this binary does not know.
func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	insert := "INSERT INTO gocqlx_migrate (name, checksum, done) VALUES ('0007_next.cql', 'x', 1)"
	if err := s.session.Load().ExecStmt(insert); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(context.Context) error{"CheckSchema": s.CheckSchema, "Migrate": s.Migrate} {
		if err := call(t.Context()); !errors.Is(err, store.ErrSchemaNewer) || !strings.Contains(err.Error(), "0007_next.cql") {
			t.Errorf("%s: %v, want ErrSchemaNewer", name, err)
		}
	}
}

// TestLastMigrationInPart: what is missing of it is applied.
func TestLastMigrationInPart(t *testing.T) {
	t.Parallel()
	s := open(t)
	changeSchema(t, s, "DELETE FROM gocqlx_migrate WHERE name = '0006_receipt_options.cql'")
	changeSchema(t, s, "UPDATE gocqlx_migrate SET done = 2 WHERE name = '0005_receipts.cql'")
	changeSchema(t, s, "ALTER TABLE users DROP (reads_hidden, status, last_seen)")
	if err := s.CheckSchema(t.Context()); !errors.Is(err, store.ErrSchemaOlder) || !strings.Contains(err.Error(), "0005_receipts.cql") {
		t.Errorf("CheckSchema: %v, want ErrSchemaOlder", err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestInterruptedMigrationGoesOn: it died after any statement, before or after
// that was recorded, holding the lock no more.
func TestInterruptedMigrationGoesOn(t *testing.T) {
	t.Parallel()
	s := open(t)
	for name, left := range map[string][]string{
		"in the first file, tables to be made": {
			"DELETE FROM gocqlx_migrate WHERE name IN ('0002_options.cql', '0003_groups.cql', '0004_group_options.cql', '0005_receipts.cql', '0006_receipt_options.cql')",
			"UPDATE gocqlx_migrate SET done = 3 WHERE name = '0001_timeline.cql'",
			"DROP TABLE chats_by_user",
			"DROP TABLE shards",
			"ALTER TABLE users DROP (reads_hidden, status, last_seen)",
			"ALTER TABLE events DROP (expires, edited, body, deleted, pinned)",
			"ALTER TABLE chats DROP (name, members, history, disappearing, last_event, last_cut, last_prev, last_expires)",
		},
		"after columns that were not recorded": {
			"DELETE FROM gocqlx_migrate WHERE name IN ('0003_groups.cql', '0004_group_options.cql', '0005_receipts.cql', '0006_receipt_options.cql')",
			"ALTER TABLE chats DROP (name, members, history, disappearing, last_event, last_cut, last_prev, last_expires)",
			"ALTER TABLE chats_by_user DROP (visible, read, read_n, delivered)",
			"ALTER TABLE users DROP (reads_hidden, status, last_seen)",
		},
		"after more of them": {
			"DELETE FROM gocqlx_migrate WHERE name IN ('0004_group_options.cql', '0005_receipts.cql', '0006_receipt_options.cql')",
			"UPDATE gocqlx_migrate SET done = 2 WHERE name = '0003_groups.cql'",
			"ALTER TABLE chats_by_user DROP delivered",
			"ALTER TABLE users DROP (reads_hidden, status, last_seen)",
			"DROP TABLE blocks",
		},
		"after a table that was not recorded": {
			"DELETE FROM gocqlx_migrate WHERE name IN ('0004_group_options.cql', '0005_receipts.cql', '0006_receipt_options.cql')",
			"UPDATE gocqlx_migrate SET done = 3 WHERE name = '0003_groups.cql'",
			"ALTER TABLE chats_by_user DROP delivered",
			"ALTER TABLE users DROP (reads_hidden, status, last_seen)",
		},
		"after one column that was not recorded": {
			"DELETE FROM gocqlx_migrate WHERE name = '0006_receipt_options.cql'",
			"UPDATE gocqlx_migrate SET done = 1 WHERE name = '0005_receipts.cql'",
			"ALTER TABLE users DROP (reads_hidden, status, last_seen)",
		},
		"after the last columns, which were not recorded": {
			"DELETE FROM gocqlx_migrate WHERE name = '0006_receipt_options.cql'",
			"UPDATE gocqlx_migrate SET done = 2 WHERE name = '0005_receipts.cql'",
		},
	} {
		for _, statement := range left {
			changeSchema(t, s, statement)
		}
		if err := s.CheckSchema(t.Context()); !errors.Is(err, store.ErrSchemaOlder) {
			t.Errorf("%s: CheckSchema: %v, want ErrSchemaOlder", name, err)
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.CheckSchema(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Commit(t.Context(), storetest.BatchOfMany(storetest.NewTimeline("0", 1))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMigrationWaitsForTheLock: while another process has it, nothing is applied.
func TestMigrationWaitsForTheLock(t *testing.T) {
	t.Parallel()
	s := open(t)
	session := s.session.Load()
	if err := session.ExecStmt("DELETE FROM gocqlx_migrate WHERE name = '0006_receipt_options.cql'"); err != nil {
		t.Fatal(err)
	}
	unlock, err := (migrator{s, session}).lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Migrate(t.Context()) }()
	if _, err := (migrator{s, session}).lock(expired(t)); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("a second lock: %v, want that it waits", err)
	}
	select {
	case err := <-done:
		t.Fatalf("Migrate ended while another had the lock: %v", err)
	default:
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// expired is a context that ends by itself, after the lock was asked for a few times.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*lockPoll)
	t.Cleanup(cancel)
	return ctx
}

func TestKeyspaceReplication(t *testing.T) {
	t.Parallel()
	s := open(t)
	for want, copies := range map[string]map[string]int{
		"{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}":                 nil,
		"{'class': 'NetworkTopologyStrategy', 'datacenter1': 3}":                 {localDatacenter: 3},
		"{'class': 'NetworkTopologyStrategy', 'dc1': 3, 'it''s': 2, 'other': 1}": {"dc1": 3, "it's": 2, "other": 1},
	} {
		other := &Store{cfg: s.cfg}
		other.cfg.Replication = copies
		if got, err := (migrator{other, s.session.Load()}).replication(t.Context()); got != want || err != nil {
			t.Errorf("%v: %s, %v, want %s", copies, got, err, want)
		}
	}
	var replication map[string]string
	q := s.session.Load().Session.Query("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?", s.cfg.Keyspace)
	if err := q.Scan(&replication); err != nil || fmt.Sprint(replication["datacenter1"]) != "1" {
		t.Errorf("the keyspace has %v, %v", replication, err)
	}
}
