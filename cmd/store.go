package cmd

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"parley/repair/check"
	"parley/repair/rebuild"
	"parley/repair/replay"
	"parley/workers/chats"
	"parley/workers/persist"
	"parley/workers/presence"
	"parley/workers/query"
	"parley/workers/receipts"
	"parley/workers/store/cql"
	"parley/workers/store/sqlite"
	"parley/workers/users"
)

// permanentStore is all that the commands ask of a store: storetest says how it behaves.
type permanentStore interface {
	persist.Store
	rebuild.Store
	replay.Store
	receipts.Store
	presence.Store
	query.Store
	chats.Store
	users.Store
	check.Store

	Migrate(ctx context.Context) error
	CheckSchema(ctx context.Context) error
	Ping(ctx context.Context) error
	Close() error
}

var (
	_ permanentStore = (*sqlite.Store)(nil)
	_ permanentStore = (*cql.Store)(nil)
)

// storeFlag names the permanent store.
type storeFlag struct {
	Store         string `help:"The permanent store: sqlite:///var/lib/parley/parley.db, or cql://user@host1,host2,host3:9042/keyspace for ScyllaDB or Cassandra, with options like ?ca=/etc/parley/ca.pem&datacenter=dc1." default:"sqlite://data/parley.db"`
	StorePassword string `help:"Password of the store's user, where its URL has none."`
}

// sqliteScheme begins the URL of a store in one file.
const sqliteScheme = "sqlite://"

func (f storeFlag) open(ctx context.Context, log *slog.Logger) (permanentStore, error) {
	if path, ok := strings.CutPrefix(f.Store, sqliteScheme); ok && path != "" {
		return sqlite.Open(ctx, path)
	}
	if !strings.HasPrefix(f.Store, cql.Scheme) {
		kind, _, _ := strings.Cut(f.Store, "://") // the rest may hold a password
		return nil, fmt.Errorf("--store: %q is no kind of store: it is %s and the path of a file, or %suser@host1,host2,host3/keyspace", kind, sqliteScheme, cql.Scheme)
	}
	cfg, err := cql.ParseURL(f.Store)
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	if cfg.Password == "" {
		cfg.Password = f.StorePassword
	}
	cfg.Log = log
	return cql.Open(ctx, cfg)
}

// sqliteURL is the store of a dev server with that data directory.
func sqliteURL(data string) string { return sqliteScheme + filepath.Join(data, storeFile) }

// openAndMigrate opens the store for who brings it up to date, which may be its first start.
func (f storeFlag) openAndMigrate(ctx context.Context, log *slog.Logger) (permanentStore, error) {
	st, err := f.open(ctx, log)
	if err != nil {
		return nil, err
	}
	if err := st.Migrate(ctx); err != nil {
		st.Close()
		return nil, err
	}
	return st, nil
}

// openMigrated opens the store for who does not migrate it.
func (f storeFlag) openMigrated(ctx context.Context, log *slog.Logger) (permanentStore, error) {
	st, err := f.open(ctx, log)
	if err != nil {
		return nil, err
	}
	if err := st.CheckSchema(ctx); err != nil {
		st.Close()
		return nil, err
	}
	return st, nil
}
