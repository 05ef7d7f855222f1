//go:build unix

package main

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

// parts is a server whose parts are processes of their own.
type parts struct {
	urls      []string // of the NATS servers
	passwords streams.Passwords
	store     string // path of a SQLite file, or a URL

	env *streamstest.Env // NATS in the test's process; nil where it is not
}

const partsSecret = "a-secret-of-tests-that-is-long-enough"

// startParts starts one node of NATS and has `parley migrate` provision it and the store.
func startParts(t testing.TB, shards int) *parts { return startPartsOn(t, 1, shards) }

// startPartsOn is startParts with that many nodes.
func startPartsOn(t testing.TB, nodes, shards int) *parts {
	t.Helper()
	env := streamstest.Start(t, streamstest.Options{Nodes: nodes, NoProvision: true, Log: slog.New(slog.DiscardHandler)})
	p := startPartsAt(t, env.Server.URLs(), env.Passwords, shards)
	p.env = env
	return p
}

// startPartsAt provisions NATS servers that run elsewhere, every stream on each of them.
func startPartsAt(t testing.TB, urls []string, passwords streams.Passwords, shards int) *parts {
	t.Helper()
	p := &parts{urls: urls, passwords: passwords, store: filepath.Join(t.TempDir(), storeFile)}
	p.migrate(t, fmt.Sprintf("--shards=%d", shards), "--max-bytes=67108864")
	return p
}

func (p *parts) migrate(t testing.TB, flags ...string) {
	t.Helper()
	migrate := startChild(t, p.environment(), append([]string{"migrate"}, flags...)...)
	if state := migrate.waitExit(t); !state.Success() {
		t.Fatalf("migrate: %s\n%s", state, migrate.stderr)
	}
}

// storeURL returns store, or the URL of the SQLite file whose path it is.
func storeURL(store string) string {
	if strings.Contains(store, "://") {
		return store
	}
	return sqliteScheme + store
}

// environment configures each part.
func (p *parts) environment() []string {
	environment := []string{
		"PARLEY_NATS=" + strings.Join(p.urls, ","), "PARLEY_STORE=" + storeURL(p.store),
		fmt.Sprintf("PARLEY_REPLICAS=%d", len(p.urls)),
		"PARLEY_AUTH_SECRET=" + partsSecret, "PARLEY_LOG_LEVEL=info",
	}
	for _, c := range []streams.Component{streams.EdgeComponent, streams.WorkerComponent} {
		environment = append(environment, c.PasswordVariable()+"="+p.passwords.Of(c))
	}
	return environment
}

// edgeChild is `parley edge`, and workerChild `parley worker`.
type edgeChild struct {
	*child
	place
	admin string
}

// startEdge starts an edge of that name and waits until it is ready.
func (p *parts) startEdge(t testing.TB, node string, flags ...string) *edgeChild {
	t.Helper()
	e := &edgeChild{admin: freeAddress(t)}
	e.child = startChild(t, p.environment(), append([]string{
		"edge", "--listen=127.0.0.1:0", "--admin=" + e.admin, "--node=" + node, "--user-rate=0", "--address-rate=0",
	}, flags...)...)
	e.place = place{url: e.waitReady(t), secret: []byte(partsSecret)}
	return e
}

type workerChild struct {
	*child
	admin string
}

func (p *parts) startWorker(t testing.TB, only string) *workerChild {
	t.Helper()
	w := &workerChild{admin: freeAddress(t)}
	w.child = startChild(t, p.environment(), "worker", "--admin="+w.admin, "--only="+only)
	w.waitReady(t)
	return w
}

// log reads the log as an operator, with its layout.
func (p *parts) log(t testing.TB) (jetstream.JetStream, *streams.Log) {
	t.Helper()
	return openLog(t, p.urls, p.passwords)
}

// stored returns how many messages the first shard's log has.
func (p *parts) stored(t testing.TB) uint64 {
	t.Helper()
	stream, err := p.env.JetStream.Stream(t.Context(), "CHAT_0")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func (p *parts) reader(t testing.TB) *sqlite.Reader {
	t.Helper()
	st, err := sqlite.OpenReader(t.Context(), p.store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// author publishes to the log as an edge would, many messages at once.
type author struct {
	js     jetstream.JetStream
	layout streams.Layout
	chats  []schemas.Chat
	said   int
}

const authorWindow = 1000

func (p *parts) author(t testing.TB, chats int) *author {
	t.Helper()
	js, err := jetstream.New(p.env.Connect(t, streams.EdgeComponent), jetstream.WithPublishAsyncMaxPending(authorWindow))
	if err != nil {
		t.Fatal(err)
	}
	layout, err := streams.LoadLayout(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	a := &author{js: js, layout: layout}
	for i := range chats {
		a.chats = append(a.chats, mustChat(t, fmt.Sprintf("direct.a%d.b%d", i, i)))
	}
	return a
}

// say has n messages in the log, in all chats in turn, when it returns.
func (a *author) say(t testing.TB, n int) {
	t.Helper()
	acks := make([]jetstream.PubAckFuture, n)
	for i := range acks {
		if i >= authorWindow {
			awaitStored(t, acks[i-authorWindow])
		}
		chat := a.chats[a.said%len(a.chats)]
		from, _, _ := chat.Users()
		ev := schemas.Event{Type: schemas.Message, ID: mustID(t, fmt.Sprintf("m%d", a.said)), From: from, Body: []byte(`{"kind":"text","text":"hi"}`)}
		data, err := schemas.EncodeEvent(&ev)
		if err != nil {
			t.Fatal(err)
		}
		if acks[i], err = a.js.PublishAsync(a.layout.Shard(chat).Timeline(chat), data, jetstream.WithStallWait(childWithin)); err != nil {
			t.Fatal(err)
		}
		a.said++
	}
	for _, ack := range acks[max(n-authorWindow, 0):] {
		awaitStored(t, ack)
	}
}

func awaitStored(t testing.TB, ack jetstream.PubAckFuture) {
	t.Helper()
	select {
	case <-ack.Ok():
	case err := <-ack.Err():
		t.Fatal(err)
	case <-t.Context().Done():
		t.Fatal(context.Cause(t.Context()))
	}
}
