package workerstest

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/dead"
	"parley/workers/persist"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

// World is what a test of a worker begins with: a NATS server, an empty store, and the
// connection of an edge. Tests of a worker embed it in a world of their own.
type World struct {
	*streamstest.Env
	T     testing.TB
	Store *sqlite.Store

	Edge   *nats.Conn
	EdgeJS jetstream.JetStream

	Sent map[schemas.Chat][]Sent  // by Say, in the order of the log
	Last map[streams.Shard]uint64 // by Say and Publish
}

// Sent is a message that the log has acknowledged.
type Sent struct {
	Seq  uint64
	JSON string
}

// NewWorld starts a server with these options. It does not sync.
func NewWorld(t testing.TB, options streamstest.Options) *World {
	t.Helper()
	options.NoSync = true
	env := streamstest.Start(t, options)
	edge := env.Connect(t, streams.EdgeComponent)
	return &World{
		Env: env, T: t, Store: OpenStore(t),
		Edge: edge, EdgeJS: streamstest.JetStream(t, edge),
		Sent: make(map[schemas.Chat][]Sent), Last: make(map[streams.Shard]uint64),
	}
}

// Log returns the log of the current layout.
func (w *World) Log() *streams.Log { return streams.NewLog(w.JetStream, w.Layout) }

// Persist stores what the log has and what comes, until stop is called.
func (w *World) Persist() (stop func()) { return Persist(w.T, w.Env, w.Store) }

// PersistAll stores what the log has, and nothing after.
func (w *World) PersistAll() { PersistAll(w.T, w.Env, w.Store) }

// Subscribe subscribes the edge. The server knows of it when Subscribe returns.
func (w *World) Subscribe(subject string) *nats.Subscription {
	w.T.Helper()
	sub, err := w.Edge.SubscribeSync(subject)
	if err == nil {
		err = w.Edge.Flush()
	}
	if err != nil {
		w.T.Fatal(err)
	}
	return sub
}

// User returns the user of that name.
func User(name string) schemas.User {
	user, err := schemas.ParseUser(name)
	if err != nil {
		panic(err)
	}
	return user
}

// ChatNo returns a chat of alice: with bob0, bob1 and so on.
func ChatNo(i int) schemas.Chat {
	return schemas.DirectChat(User("alice"), User("bob"+strconv.Itoa(i)))
}

// MessageJSON is a message of alice.
func MessageJSON(id string) []byte {
	return []byte(`{"type":"message","id":"` + id + `","from":"alice","body":{"kind":"text","text":"hi"}}`)
}

// Say publishes n messages, spread over the first chats.
func (w *World) Say(n, chats int) {
	w.T.Helper()
	type future struct {
		ack  jetstream.PubAckFuture
		chat schemas.Chat
		data []byte
	}
	futures := make([]future, 0, n)
	said := w.Said()
	for i := range n {
		chat := ChatNo(i % chats)
		data := MessageJSON(fmt.Sprintf("m%d-%d", said, i))
		ack, err := w.EdgeJS.PublishMsgAsync(&nats.Msg{Subject: w.Layout.Shard(chat).Timeline(chat), Data: data})
		if err != nil {
			w.T.Fatal(err)
		}
		futures = append(futures, future{ack, chat, data})
	}
	for _, f := range futures {
		select {
		case ack := <-f.ack.Ok():
			w.Sent[f.chat] = append(w.Sent[f.chat], Sent{ack.Sequence, string(f.data)})
			w.Last[w.Layout.Shard(f.chat)] = ack.Sequence
		case err := <-f.ack.Err():
			w.T.Fatal(err)
		}
	}
}

// Said returns how many messages Say has said.
func (w *World) Said() (n int) {
	for _, sent := range w.Sent {
		n += len(sent)
	}
	return n
}

// Publish puts data into the chat's log. WantStored does not want it in the store.
func (w *World) Publish(chat schemas.Chat, data []byte, opts ...jetstream.PublishOpt) uint64 {
	w.T.Helper()
	shard := w.Layout.Shard(chat)
	ack, err := w.EdgeJS.Publish(w.T.Context(), shard.Timeline(chat), data, opts...)
	if err != nil {
		w.T.Fatal(err)
	}
	w.Last[shard] = ack.Sequence
	return ack.Sequence
}

// Committed returns how far the shard is stored.
func (w *World) Committed(shard streams.Shard) uint64 {
	w.T.Helper()
	seq, err := w.Store.Committed(context.Background(), shard.Token)
	if err != nil {
		w.T.Fatal(err)
	}
	return seq
}

// WaitCommitted waits until all shards are committed, and not beyond their last.
func (w *World) WaitCommitted() {
	w.T.Helper()
	for shard, last := range w.Last {
		WaitFor(w.T, fmt.Sprintf("shard %s is committed up to %d", shard.Token, last), func() bool { return w.Committed(shard) >= last })
		if got := w.Committed(shard); got != last {
			w.T.Errorf("shard %s is committed up to %d, beyond the last %d", shard.Token, got, last)
		}
	}
}

// WantStored waits until all shards are committed. It wants exactly what Say has said in
// the store, with prev and n as the order of the log has them.
func (w *World) WantStored() {
	w.T.Helper()
	w.WaitCommitted()
	for chat, sent := range w.Sent {
		w.wantChat(chat, sent)
	}
}

func (w *World) wantChat(chat schemas.Chat, sent []Sent) {
	w.T.Helper()
	type row struct {
		Seq, Prev, N uint64
		JSON         string
	}
	var want, got []row
	prev := uint64(0)
	for i, s := range sent {
		want = append(want, row{s.Seq, prev, uint64(i + 1), s.JSON})
		prev = s.Seq
	}
	for _, e := range Stored(w.T, w.Store, chat) {
		got = append(got, row{e.Seq, e.Prev, e.N, string(e.JSON)})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.T.Errorf("rows of %s (-want +got):\n%s", chat, diff)
	}
	head, ok, err := w.Store.Head(context.Background(), chat)
	if err != nil {
		w.T.Fatal(err)
	}
	if !ok || head.LastSeq != prev || head.LastN != uint64(len(sent)) {
		w.T.Errorf("head of %s is {seq %d, n %d}, want {seq %d, n %d}", chat, head.LastSeq, head.LastN, prev, len(sent))
	}
}

// Stored returns all of a chat's rows.
func Stored(t testing.TB, st *sqlite.Store, chat schemas.Chat) (all []store.Event) {
	t.Helper()
	after := uint64(0)
	for {
		events, more, err := st.Page(context.Background(), chat, store.Range{Forward: true, After: after, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, events...)
		if !more {
			return all
		}
		after = events[len(events)-1].Seq
	}
}

// Lose deletes the shard's stream, forgets what of it is not stored, and has it
// made anew as `parley migrate --remake-lost` does.
func (w *World) Lose(shard streams.Shard) {
	w.T.Helper()
	if err := w.JetStream.DeleteStream(w.T.Context(), shard.Stream()); err != nil {
		w.T.Fatal(err)
	}
	stored, err := w.Store.Shards(w.T.Context())
	if err != nil {
		w.T.Fatal(err)
	}
	if w.Layout, err = streams.Provision(w.T.Context(), w.JetStream, streams.Settings{Stored: stored, RemakeLost: true}); err != nil {
		w.T.Fatal(err)
	}
	delete(w.Last, shard)
	maps.DeleteFunc(w.Sent, func(chat schemas.Chat, sent []Sent) bool {
		return w.Layout.Shard(chat).Index == shard.Index && len(Stored(w.T, w.Store, chat)) == 0
	})
	for chat, sent := range w.Sent {
		if w.Layout.Shard(chat).Index == shard.Index {
			w.Sent[chat] = sent[:len(Stored(w.T, w.Store, chat))]
		}
	}
}

// Letters returns the dead letters of persist.
func (w *World) Letters() (letters []dead.Letter) {
	w.T.Helper()
	for letter, err := range dead.List(w.T.Context(), w.JetStream, streams.PersistConsumer) {
		if err != nil {
			w.T.Fatal(err)
		}
		letters = append(letters, letter)
	}
	return letters
}

// Refusing is a store that takes no batch with one of these events.
type Refusing struct {
	persist.Store
	IDs []string
}

// Commit returns [store.ErrBatch] where b has one of the events.
func (s *Refusing) Commit(ctx context.Context, b store.Batch) error {
	for _, id := range s.IDs {
		if HasID(b, id) {
			return fmt.Errorf("not this one: %w", store.ErrBatch)
		}
	}
	return s.Store.Commit(ctx, b)
}

// HasID reports whether b has an event with that id.
func HasID(b store.Batch, id string) bool {
	for _, chat := range b.Chats {
		for _, e := range chat.Events {
			if e.ID.String() == id {
				return true
			}
		}
	}
	return false
}

// Metric returns the sum of a metric over its labels; of a histogram, its count.
func Metric(t testing.TB, registry *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}
