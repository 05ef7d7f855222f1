package main

import (
	"context"
	"fmt"
	"strings"

	"parley/schemas"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

// permanentStore is all that the commands ask of a store: storetest says how it behaves.
type permanentStore interface {
	Committed(ctx context.Context, shard string) (uint64, error)
	Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error)
	Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error)
	Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error)
	Commit(ctx context.Context, b store.Batch) error

	Migrate(ctx context.Context) error
	CheckSchema(ctx context.Context) error
	Ping(ctx context.Context) error
	Close() error
}

var _ permanentStore = (*sqlite.Store)(nil)

// storeFlag names the permanent store.
type storeFlag struct {
	Store string `help:"The permanent store, like sqlite:///var/lib/parley/parley.db." default:"sqlite://data/parley.db"`
}

func (f storeFlag) open(ctx context.Context) (permanentStore, error) {
	path, ok := strings.CutPrefix(f.Store, "sqlite://")
	if !ok || path == "" {
		return nil, fmt.Errorf("--store %q: it is sqlite:// and the path of a file", f.Store)
	}
	return sqlite.Open(ctx, path)
}

// openMigrated opens the store for who does not migrate it.
func (f storeFlag) openMigrated(ctx context.Context) (permanentStore, error) {
	st, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := st.CheckSchema(ctx); err != nil {
		st.Close()
		return nil, err
	}
	return st, nil
}
