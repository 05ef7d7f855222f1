package persist_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/persist"
	"parley/workers/store"
	"parley/workers/store/sqlite"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server, an empty store, and what was acknowledged.
type world struct {
	*streamstest.Env
	t     testing.TB
	store *sqlite.Store
	edge  jetstream.JetStream
	sent  map[schemas.Chat][]sent // in the order of the log, as a map of chats
	last  map[streams.Shard]uint64
}

type sent struct {
	Seq  uint64
	JSON string
}

func newWorld(t testing.TB, shards int) *world {
	t.Helper()
	return newWorldOn(t, streamstest.Start(t, streamstest.Options{NoSync: true, Settings: streams.Settings{Shards: shards}}))
}

func newWorldOn(t testing.TB, env *streamstest.Env) *world {
	t.Helper()
	return &world{
		Env:   env,
		t:     t,
		store: workerstest.OpenStore(t),
		edge:  streamstest.JetStream(t, env.Connect(t, streams.EdgeComponent)),
		sent:  make(map[schemas.Chat][]sent),
		last:  make(map[streams.Shard]uint64),
	}
}

func chatNo(i int) schemas.Chat {
	a, _ := schemas.ParseUser("alice")
	b, _ := schemas.ParseUser("bob" + strconv.Itoa(i))
	return schemas.DirectChat(a, b)
}

func eventJSON(id string) []byte {
	return []byte(`{"type":"message","id":"` + id + `","from":"alice","body":{"kind":"text","text":"hi"}}`)
}

// say publishes n messages, spread over the first chats.
func (w *world) say(n, chats int) {
	w.t.Helper()
	type future struct {
		ack  jetstream.PubAckFuture
		chat schemas.Chat
		data []byte
	}
	futures := make([]future, 0, n)
	for i := range n {
		chat := chatNo(i % chats)
		data := eventJSON(fmt.Sprintf("m%d-%d", w.count(), i))
		ack, err := w.edge.PublishMsgAsync(&nats.Msg{Subject: w.Layout.Shard(chat).Timeline(chat), Data: data})
		if err != nil {
			w.t.Fatal(err)
		}
		futures = append(futures, future{ack, chat, data})
	}
	for _, f := range futures {
		select {
		case ack := <-f.ack.Ok():
			w.sent[f.chat] = append(w.sent[f.chat], sent{ack.Sequence, string(f.data)})
			w.last[w.Layout.Shard(f.chat)] = ack.Sequence
		case err := <-f.ack.Err():
			w.t.Fatal(err)
		}
	}
}

func (w *world) count() (n int) {
	for _, sent := range w.sent {
		n += len(sent)
	}
	return n
}

// publish puts data into the chat's log and does not expect it in the store.
func (w *world) publish(chat schemas.Chat, data []byte, opts ...jetstream.PublishOpt) uint64 {
	w.t.Helper()
	shard := w.Layout.Shard(chat)
	ack, err := w.edge.Publish(w.t.Context(), shard.Timeline(chat), data, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.last[shard] = ack.Sequence
	return ack.Sequence
}

// log is what the shards' logs hold, through a connection of its own.
func (w *world) log() *streams.Log { return streams.NewLog(w.JetStream, w.Layout) }

// persister is a running persister.
type persister struct {
	t       testing.TB
	metrics *prometheus.Registry
	logs    *syncBuffer
	stop    func()
}

// start runs a persister with the faults that change puts into its config.
func (w *world) start(change func(*persist.Config)) *persister {
	w.t.Helper()
	p := &persister{t: w.t, metrics: prometheus.NewRegistry(), logs: &syncBuffer{}}
	js := streamstest.JetStream(w.t, w.Connect(w.t, streams.WorkerComponent))
	cfg := persist.Config{
		JetStream: js, Log: streams.NewLog(js, w.Layout), Store: w.store,
		Registerer: p.metrics, Logger: slog.New(slog.NewTextHandler(p.logs, nil)),
		WindowMin: 20 * time.Millisecond, WindowMax: 50 * time.Millisecond,
		PollWithin: 500 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	runner, err := persist.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	p.stop = workerstest.Run(w.t, runner.Run)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("persister:\n%s", p.logs)
		}
	})
	return p
}

// metric returns the sum of a metric over its labels.
func (p *persister) metric(name string) float64 {
	families, err := p.metrics.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != "parley_persist_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func (p *persister) wantMetric(name string, want float64) {
	p.t.Helper()
	if got := p.metric(name); got != want {
		p.t.Errorf("metric %s is %v, want %v", name, got, want)
	}
}

func (w *world) committed(shard streams.Shard) uint64 {
	w.t.Helper()
	seq, err := w.store.Committed(context.Background(), shard.Token)
	if err != nil {
		w.t.Fatal(err)
	}
	return seq
}

// wantStored waits until all shards are committed, and wants exactly what was
// said to be stored, with prev and n as the order of the log has them.
func (w *world) wantStored() {
	w.t.Helper()
	for shard, last := range w.last {
		workerstest.WaitFor(w.t, fmt.Sprintf("shard %s is committed up to %d", shard.Token, last), func() bool { return w.committed(shard) >= last })
		if got := w.committed(shard); got != last {
			w.t.Errorf("shard %s is committed up to %d, beyond the last %d", shard.Token, got, last)
		}
	}
	for chat, sent := range w.sent {
		w.wantChat(chat, sent)
	}
}

type row struct {
	Seq, Prev, N uint64
	JSON         string
}

func (w *world) wantChat(chat schemas.Chat, sent []sent) {
	w.t.Helper()
	var want, got []row
	prev := uint64(0)
	for i, s := range sent {
		want = append(want, row{s.Seq, prev, uint64(i + 1), s.JSON})
		prev = s.Seq
	}
	for _, e := range w.stored(chat) {
		got = append(got, row{e.Seq, e.Prev, e.N, string(e.JSON)})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("rows of %s (-want +got):\n%s", chat, diff)
	}
	head, ok, err := w.store.Head(context.Background(), chat)
	if err != nil {
		w.t.Fatal(err)
	}
	if !ok || head.LastSeq != prev || head.LastN != uint64(len(sent)) {
		w.t.Errorf("head of %s is {seq %d, n %d}, want {seq %d, n %d}", chat, head.LastSeq, head.LastN, prev, len(sent))
	}
}

func (w *world) stored(chat schemas.Chat) []store.Event {
	w.t.Helper()
	return allStored(w.t, w.store, chat)
}

func allStored(t testing.TB, st *sqlite.Store, chat schemas.Chat) (all []store.Event) {
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

// wantAcked waits until the consumers have nothing outstanding.
func (w *world) wantAcked() {
	w.t.Helper()
	for shard, last := range w.last {
		workerstest.WaitFor(w.t, fmt.Sprintf("consumer of %s is acknowledged up to %d", shard.Stream(), last), func() bool {
			consumer, err := w.JetStream.Consumer(context.Background(), shard.Stream(), streams.PersistConsumer)
			if err != nil {
				w.t.Fatal(err)
			}
			info := consumer.CachedInfo()
			return info.AckFloor.Stream == last && info.NumAckPending == 0
		})
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *syncBuffer) lines(with string) (n int) {
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}
