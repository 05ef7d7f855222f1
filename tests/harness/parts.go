//go:build unix

package harness

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/store/sqlite"
)

// Parts is a server whose parts are processes of their own.
type Parts struct {
	URLs      []string // of the NATS servers
	Passwords streams.Passwords
	Store     string // path of a SQLite file, or a URL

	Env *streamstest.Env // NATS in the test's process; nil where it is not
}

// PartsSecret is the key of tokens of all edges.
const PartsSecret = "a-secret-of-tests-that-is-long-enough"

// StartParts starts one node of NATS and has `parley migrate` provision it and the store.
func StartParts(t testing.TB, shards int) *Parts { return StartPartsOn(t, 1, shards) }

// StartPartsOn is StartParts with that many nodes.
func StartPartsOn(t testing.TB, nodes, shards int) *Parts {
	t.Helper()
	env := streamstest.Start(t, streamstest.Options{Nodes: nodes, NoProvision: true, Log: slog.New(slog.DiscardHandler)})
	p := StartPartsAt(t, env.Server.URLs(), env.Passwords, shards)
	p.Env = env
	return p
}

// StartPartsAt provisions NATS servers that run elsewhere, every stream on each of them.
func StartPartsAt(t testing.TB, urls []string, passwords streams.Passwords, shards int) *Parts {
	t.Helper()
	p := &Parts{URLs: urls, Passwords: passwords, Store: filepath.Join(t.TempDir(), StoreFile)}
	p.Migrate(t, fmt.Sprintf("--shards=%d", shards), "--max-bytes=67108864")
	return p
}

// Migrate runs `parley migrate`.
func (p *Parts) Migrate(t testing.TB, flags ...string) {
	t.Helper()
	migrate := StartChild(t, p.Environment(), append([]string{"migrate"}, flags...)...)
	if state := migrate.WaitExit(t); !state.Success() {
		t.Fatalf("migrate: %s\n%s", state, migrate.Stderr)
	}
}

// sqliteURLScheme begins the URL of a store in one file.
const sqliteURLScheme = "sqlite://"

// storeURL returns store, or the URL of the SQLite file whose path it is.
func storeURL(store string) string {
	if strings.Contains(store, "://") {
		return store
	}
	return sqliteURLScheme + store
}

// Environment configures each part.
func (p *Parts) Environment() []string {
	environment := []string{
		"PARLEY_NATS=" + strings.Join(p.URLs, ","), "PARLEY_STORE=" + storeURL(p.Store),
		fmt.Sprintf("PARLEY_REPLICAS=%d", len(p.URLs)),
		"PARLEY_AUTH_SECRET=" + PartsSecret, "PARLEY_LOG_LEVEL=info",
	}
	for _, c := range []streams.Component{streams.EdgeComponent, streams.WorkerComponent} {
		environment = append(environment, c.PasswordVariable()+"="+p.Passwords.Of(c))
	}
	return environment
}

// EdgeChild is `parley edge`.
type EdgeChild struct {
	*Child
	Place
	Admin string
}

// StartEdge starts an edge of that name and waits until it is ready.
func (p *Parts) StartEdge(t testing.TB, node string, flags ...string) *EdgeChild {
	t.Helper()
	e := &EdgeChild{Admin: FreeAddress(t)}
	e.Child = StartChild(t, p.Environment(), append([]string{
		"edge", "--listen=127.0.0.1:0", "--admin=" + e.Admin, "--node=" + node, "--user-rate=0", "--address-rate=0",
	}, flags...)...)
	e.Place = Place{URL: e.WaitReady(t), Secret: []byte(PartsSecret)}
	return e
}

// WorkerChild is `parley worker`.
type WorkerChild struct {
	*Child
	Admin string
}

// StartWorker starts the workers named by only, with commas, and waits until they are ready.
func (p *Parts) StartWorker(t testing.TB, only string) *WorkerChild {
	t.Helper()
	w := &WorkerChild{Admin: FreeAddress(t)}
	w.Child = StartChild(t, p.Environment(), "worker", "--admin="+w.Admin, "--only="+only)
	w.WaitReady(t)
	return w
}

// Log reads the log as an operator, with its layout.
func (p *Parts) Log(t testing.TB) (jetstream.JetStream, *streams.Log) {
	t.Helper()
	return OpenLog(t, p.URLs, p.Passwords)
}

// Stored returns how many messages the first shard's log has.
func (p *Parts) Stored(t testing.TB) uint64 {
	t.Helper()
	stream, err := p.Env.JetStream.Stream(t.Context(), "CHAT_0")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

// Reader reads the store, which is a SQLite file.
func (p *Parts) Reader(t testing.TB) *sqlite.Reader {
	t.Helper()
	st, err := sqlite.OpenReader(t.Context(), p.Store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// Author publishes to the log as an edge would, many messages at once.
type Author struct {
	js     jetstream.JetStream
	layout streams.Layout
	Chats  []schemas.Chat
	Said   int
}

const authorWindow = 1000

// Author returns one who speaks in that many direct chats.
func (p *Parts) Author(t testing.TB, chats int) *Author {
	t.Helper()
	js, err := jetstream.New(p.Env.Connect(t, streams.EdgeComponent), jetstream.WithPublishAsyncMaxPending(authorWindow))
	if err != nil {
		t.Fatal(err)
	}
	layout, err := streams.LoadLayout(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	a := &Author{js: js, layout: layout}
	for i := range chats {
		a.Chats = append(a.Chats, MustChat(t, fmt.Sprintf("direct.a%d.b%d", i, i)))
	}
	return a
}

// Say has n messages in the log, in all chats in turn, when it returns.
func (a *Author) Say(t testing.TB, n int) {
	t.Helper()
	acks := make([]jetstream.PubAckFuture, n)
	for i := range acks {
		if i >= authorWindow {
			awaitAck(t, acks[i-authorWindow])
		}
		chat := a.Chats[a.Said%len(a.Chats)]
		from, _, _ := chat.Users()
		ev := schemas.Event{Type: schemas.Message, ID: MustID(t, fmt.Sprintf("m%d", a.Said)), From: from, Body: []byte(`{"kind":"text","text":"hi"}`)}
		data, err := schemas.EncodeEvent(&ev)
		if err != nil {
			t.Fatal(err)
		}
		if acks[i], err = a.js.PublishAsync(a.layout.Shard(chat).Timeline(chat), data, jetstream.WithStallWait(ChildWithin)); err != nil {
			t.Fatal(err)
		}
		a.Said++
	}
	for _, ack := range acks[max(n-authorWindow, 0):] {
		awaitAck(t, ack)
	}
}

func awaitAck(t testing.TB, ack jetstream.PubAckFuture) {
	t.Helper()
	select {
	case <-ack.Ok():
	case err := <-ack.Err():
		t.Fatal(err)
	case <-t.Context().Done():
		t.Fatal(context.Cause(t.Context()))
	}
}

// Run runs a command to its end.
func (p *Parts) Run(t testing.TB, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	c := StartChild(t, p.Environment(), args...)
	ok = c.WaitExit(t).Success()
	return c.Stdout.String(), c.Stderr.String(), ok
}
