package main

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"parley/schemas"
	"parley/workers/store"
	"parley/workers/store/cql"
	"parley/workers/store/sqlite"
)

// permanentStore is all that the commands ask of a store: storetest says how it behaves.
type permanentStore interface {
	Committed(ctx context.Context, shard string) (uint64, error)
	Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error)
	Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error)
	Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error)
	Commit(ctx context.Context, b store.Batch) error
	Shards(ctx context.Context) (map[string]uint64, error)
	Chats(ctx context.Context) iter.Seq2[store.ChatHead, error]

	Events(ctx context.Context, chat schemas.Chat, seqs []uint64) ([]store.Event, error)
	Edits(ctx context.Context, chat schemas.Chat, of []store.Event) ([]store.Edit, error)
	Reactions(ctx context.Context, chat schemas.Chat, of []store.Event) (map[uint64][]store.Reactions, error)
	Reacted(ctx context.Context, chat schemas.Chat, bucket int64, target uint64, emoji string, user schemas.User) (bool, error)
	Members(ctx context.Context, chat schemas.Chat, after schemas.User, limit int) ([]store.Member, error)
	UserChats(ctx context.Context, user schemas.User, kind schemas.ChatKind, limit int) ([]store.UserChat, error)
	Summaries(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Summary, error)

	Settings(ctx context.Context, user schemas.User) (map[schemas.Chat]store.Setting, error)
	Set(ctx context.Context, user schemas.User, setting store.Setting, kind store.SettingKind, at time.Time) error
	Profiles(ctx context.Context, users []schemas.User) (map[schemas.User]store.Profile, error)
	SetProfile(ctx context.Context, user schemas.User, set schemas.SetProfile, at time.Time) error
	Blocks(ctx context.Context, user schemas.User) ([]schemas.User, error)
	SetBlock(ctx context.Context, user, blocked schemas.User, on bool, at time.Time) error

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
