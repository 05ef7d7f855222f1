package cql

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/gocql/gocql"
	"github.com/oklog/ulid/v2"
	"github.com/scylladb/gocqlx/v2"
	"github.com/scylladb/gocqlx/v2/migrate"

	"parley/schemas"
	"parley/workers/store"
)

// The lock of who migrates, since two that change a schema at once can disagree
// on it. It is the one conditional write of this package, in a table of its own.
const (
	createLock = "CREATE TABLE IF NOT EXISTS migration_lock (name text PRIMARY KEY, owner text)"
	takeLock   = "INSERT INTO migration_lock (name, owner) VALUES ('schema', ?) IF NOT EXISTS USING TTL ?"
	leaveLock  = "DELETE FROM migration_lock WHERE name = 'schema' IF owner = ?"

	// migrateWithin ends a migration before its lock does, which a process that
	// died leaves behind for lockTTL.
	migrateWithin = 4 * time.Minute
	lockTTL       = 5 * time.Minute
	lockPoll      = 200 * time.Millisecond

	// schemaTimeout is that of one change of the schema, which all nodes take part in.
	schemaTimeout = time.Minute
)

// Migrate makes the keyspace where there is none, and applies the migrations that
// it lacks. It may run twice, and on two machines at once: the second waits for
// the first. It returns store.ErrSchemaNewer where a newer Parley was here, and
// store.ErrSchemaChanged where a migration of another text was applied.
func (s *Store) Migrate(ctx context.Context) error {
	what := "migrate " + s.String()
	files, err := migrationsOf(schemas.CQLMigrations, s.product)
	if err != nil {
		return err
	}
	m := migrator{Store: s}
	if s.session.Load() == nil {
		if err := m.createKeyspace(ctx); err != nil {
			return classify(ctx, what, err)
		}
	}
	if m.session, err = s.connect(s.cfg.Keyspace, schemaTimeout); err != nil {
		return err
	}
	defer m.session.Close()
	return classify(ctx, what, m.migrate(ctx, files))
}

// migrator migrates a store.
type migrator struct {
	*Store
	session *gocqlx.Session // of its own: statements on schemas take long
}

func (m migrator) migrate(ctx context.Context, files migrations) (err error) {
	ctx, cancel := context.WithTimeout(ctx, lockTTL+migrateWithin)
	defer cancel()
	applied, err := appliedMigrations(ctx, m.session, m.cfg.Keyspace)
	if err != nil {
		return err
	}
	if err := compare(applied, files); !errors.Is(err, store.ErrSchemaOlder) {
		return err // nothing is missing, or nothing can be done
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if applied, err = appliedMigrations(ctx, m.session, m.cfg.Keyspace); err != nil {
		return err
	}
	if err := compare(applied, files); !errors.Is(err, store.ErrSchemaOlder) {
		return err // who had the lock before has done it
	}
	if err := m.recordAdded(ctx, applied, files); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, migrateWithin)
	defer cancel()
	return migrate.FromFS(within, *m.session, files.directory())
}

func (m migrator) createKeyspace(ctx context.Context) (err error) {
	if m.session, err = m.connect("", schemaTimeout); err != nil {
		return err
	}
	defer m.session.Close()
	replication, err := m.replication(ctx)
	if err != nil {
		return err
	}
	// The name was validated, and a statement cannot take it as a value.
	statement := fmt.Sprintf("CREATE KEYSPACE IF NOT EXISTS %s WITH replication = %s", m.cfg.Keyspace, replication)
	if m.product == scyllaProduct {
		statement += " AND tablets = {'enabled': true}"
	}
	if err := m.session.ContextQuery(ctx, statement, nil).ExecRelease(); err != nil {
		return err
	}
	if err := m.session.AwaitSchemaAgreement(ctx); err != nil {
		return err
	}
	m.cfg.Log.Info("made the keyspace", "keyspace", m.cfg.Keyspace, "replication", replication)
	return m.use()
}

// replicasWanted of each row where nobody says how many.
const replicasWanted = 3

// replication is the keyspace's, as CQL spells it.
func (m migrator) replication(ctx context.Context) (string, error) {
	copies := maps.Clone(m.cfg.Replication)
	if n, ok := copies[localDatacenter]; ok {
		delete(copies, localDatacenter)
		copies[m.cfg.Datacenter] = n
	}
	if len(copies) == 0 {
		var datacenters []string
		if err := m.session.ContextQuery(ctx, "SELECT data_center FROM system.peers", nil).SelectRelease(&datacenters); err != nil {
			return "", err
		}
		nodes := 1
		for _, datacenter := range datacenters {
			if datacenter == m.cfg.Datacenter {
				nodes++
			}
		}
		copies = map[string]int{m.cfg.Datacenter: min(nodes, replicasWanted)}
	}
	var b strings.Builder
	b.WriteString("{'class': 'NetworkTopologyStrategy'")
	for _, datacenter := range slices.Sorted(maps.Keys(copies)) {
		fmt.Fprintf(&b, ", '%s': %d", strings.ReplaceAll(datacenter, "'", "''"), copies[datacenter])
	}
	return b.String() + "}", nil
}

// lock waits until this process is the only one that migrates.
func (m migrator) lock(ctx context.Context) (unlock func() error, err error) {
	if err := m.session.ContextQuery(ctx, createLock, nil).ExecRelease(); err != nil {
		return nil, err
	}
	if err := m.session.AwaitSchemaAgreement(ctx); err != nil {
		return nil, err
	}
	owner := ulid.Make().String()
	for waiting := false; ; {
		taken, err := m.session.ContextQuery(ctx, takeLock, nil).Bind(owner, int(lockTTL.Seconds())).ExecCASRelease()
		switch {
		case err != nil:
			return nil, fmt.Errorf("take the lock of migrations: %w", err)
		case taken:
			return func() error { return m.unlock(ctx, owner) }, nil
		case !waiting:
			m.cfg.Log.Info("another process migrates the store, or one died while it did: waiting", "at_most", lockTTL)
			waiting = true
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

const unlockWithin = 5 * time.Second

func (m migrator) unlock(ctx context.Context, owner string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockWithin)
	defer cancel()
	if _, err := m.session.ContextQuery(ctx, leaveLock, nil).Bind(owner).ExecCASRelease(); err != nil {
		return fmt.Errorf("leave the lock of migrations, which ends by itself within %s: %w", lockTTL, err)
	}
	return nil
}

// CheckSchema returns store.ErrSchemaOlder or store.ErrSchemaNewer where the
// keyspace's tables are not those that this binary knows.
func (s *Store) CheckSchema(ctx context.Context) error {
	what := "check " + s.String()
	files, err := migrationsOf(schemas.CQLMigrations, s.product)
	if err != nil {
		return err
	}
	session := s.session.Load()
	if session == nil {
		return fmt.Errorf("%s: %w: there is no keyspace %s: run parley migrate, or name another", what, store.ErrSchemaOlder, s.cfg.Keyspace)
	}
	applied, err := appliedMigrations(ctx, session, s.cfg.Keyspace)
	if err != nil {
		return classify(ctx, what, err)
	}
	return classify(ctx, what, compare(applied, files))
}

// appliedMigrations returns those of the keyspace by name, as gocqlx keeps them.
// It makes no table, which who only works with the store may not be allowed to.
func appliedMigrations(ctx context.Context, session *gocqlx.Session, keyspace string) ([]migrate.Info, error) {
	var tables int
	err := session.ContextQuery(ctx, "SELECT count(*) FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'gocqlx_migrate'", nil).
		Bind(keyspace).GetRelease(&tables)
	if err != nil || tables == 0 {
		return nil, err
	}
	var applied []migrate.Info
	err = session.ContextQuery(ctx, "SELECT name, checksum, done FROM gocqlx_migrate", nil).SelectRelease(&applied)
	if errors.Is(err, gocql.ErrNotFound) || code(err) == gocql.ErrCodeInvalid {
		err = nil // none yet; or another process is just making the table, which is listed before it is there
	}
	slices.SortFunc(applied, func(a, b migrate.Info) int { return strings.Compare(a.Name, b.Name) })
	return applied, err
}

// compare checks that applied is a beginning of files, and returns
// store.ErrSchemaOlder where it is not all of them.
func compare(applied []migrate.Info, files migrations) error {
	names := files.names()
	if len(applied) > len(names) {
		return fmt.Errorf("%w: it has %s, this binary knows %d migrations: run the Parley that migrated it, or restore the backup made before",
			store.ErrSchemaNewer, applied[len(applied)-1].Name, len(names))
	}
	for i, a := range applied {
		if sum := checksum(files[names[i]]); a.Name != names[i] || a.Checksum != sum {
			return fmt.Errorf("%w: %s was applied with checksum %.8s, and this binary has %s with %.8s: run the Parley that applied it",
				store.ErrSchemaChanged, a.Name, a.Checksum, names[i], sum)
		}
		if a.Done < statements(files[names[i]]) {
			return fmt.Errorf("%w: %s is applied in part: run parley migrate", store.ErrSchemaOlder, a.Name)
		}
	}
	if len(applied) < len(names) {
		return fmt.Errorf("%w: it has %d of %d migrations: run parley migrate", store.ErrSchemaOlder, len(applied), len(names))
	}
	return nil
}

// checksum is a migration's as gocqlx keeps it.
func checksum(text []byte) string {
	sum := md5.Sum(text)
	return hex.EncodeToString(sum[:])
}

// statements counts those of a migration as gocqlx does: each ends with a semicolon.
func statements(text []byte) int { return strings.Count(string(text), ";") }

// migrations are the files for one product, by name.
type migrations map[string][]byte

func migrationsOf(files fs.FS, p product) (migrations, error) {
	all := migrations{}
	for _, dir := range []string{"cql", path.Join("cql", string(p))} {
		names, err := fs.Glob(files, path.Join(dir, "*.cql"))
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		for _, name := range names {
			if all[path.Base(name)], err = fs.ReadFile(files, name); err != nil {
				return nil, fmt.Errorf("read migrations: %w", err)
			}
		}
	}
	return all, nil
}

func (m migrations) names() []string { return slices.Sorted(maps.Keys(m)) }

// directory has the files side by side, as gocqlx reads them.
func (m migrations) directory() fs.FS {
	directory := fstest.MapFS{}
	for name, text := range m {
		directory[name] = &fstest.MapFile{Data: text}
	}
	return directory
}
