package harness

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/store/cql"
	"parley/workers/store/sqlite"
)

// StoreReader is what the checks ask of a store, whichever it is.
type StoreReader interface {
	Committed(ctx context.Context, shard string) (uint64, error)
	Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error)
	Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error)
	Members(ctx context.Context, chat schemas.Chat, after schemas.User, limit int) ([]store.Member, error)
	UserChats(ctx context.Context, user schemas.User, kind schemas.ChatKind, limit int) ([]store.UserChat, error)
	Summaries(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Summary, error)
	Close() error
}

// OpenStore opens the store at a path or a URL.
func OpenStore(t testing.TB, at string) StoreReader {
	t.Helper()
	path, file := strings.CutPrefix(storeURL(at), sqliteURLScheme)
	if file {
		st, err := sqlite.OpenReader(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	cfg, err := cql.ParseURL(at)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	st, err := cql.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// OpenLog connects as an operator, who may read the log.
func OpenLog(t testing.TB, urls []string, passwords streams.Passwords) (jetstream.JetStream, *streams.Log) {
	t.Helper()
	js := OpenJetStream(t, urls, passwords)
	layout, err := streams.LoadLayout(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return js, streams.NewLog(js, layout)
}

// OpenJetStream connects as an operator, and needs no provisioned streams.
func OpenJetStream(t testing.TB, urls []string, passwords streams.Passwords) jetstream.JetStream {
	t.Helper()
	conn, err := streams.Connect(t.Context(), streams.ConnectConfig{
		Component: streams.OperatorComponent, URLs: urls, Password: passwords.Operator, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// AwaitStored returns when the store has all that the log has now.
func AwaitStored(t testing.TB, log *streams.Log, st StoreReader) {
	t.Helper()
	for _, shard := range log.Layout().All() {
		var last uint64
		EventuallyWithin(t, ChildWithin, "the log tells how far it is", func() (known bool) {
			var err error
			_, last, err = log.Bounds(t.Context(), shard)
			return err == nil
		})
		EventuallyWithin(t, ChildWithin, fmt.Sprintf("shard %s is stored up to %d", shard.Token, last), func() bool {
			at, err := st.Committed(t.Context(), shard.Token)
			return err == nil && at >= last
		})
	}
}
