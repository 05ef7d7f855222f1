package edge

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"parley/edge/auth"
	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

var (
	testNow    = time.Date(2026, 11, 24, 3, 0, 0, 500_000_000, time.UTC)
	testSecret = []byte("0123456789abcdef0123456789abcdef")
)

// failAfter bounds every wait of a test: only a defect takes so long.
const failAfter = 60 * time.Second

// rig is a NATS server with edges on it.
type rig struct {
	env   *streamstest.Env
	clock *offsetClock
	edges []*testEdge

	workers *standIn
}

// testEdge is a running edge.
type testEdge struct {
	*Edge
	addr     string
	registry *prometheus.Registry
	stop     context.CancelFunc
	stopped  chan error
}

// offsetClock is the real clock, set forward by a test.
type offsetClock struct{ offset atomic.Int64 }

func (c *offsetClock) Now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *offsetClock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// newRig starts NATS and one edge.
func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	return newRigOn(t, streamstest.Options{NoSync: true}, change)
}

func newRigOn(t testing.TB, options streamstest.Options, change func(*Config)) *rig {
	t.Helper()
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	r := &rig{env: streamstest.Start(t, options), clock: new(offsetClock)}
	r.workers = newStandIn(t, r)
	r.addEdge(t, change)
	return r
}

// edge returns the first edge.
func (r *rig) edge() *testEdge { return r.edges[0] }

// addEdge starts one more edge, which the test's end stops.
func (r *rig) addEdge(t testing.TB, change func(*Config)) *testEdge {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	cfg := Config{
		Node: testID(t, "edge-"+string(rune('1'+len(r.edges)))), Listener: listener,
		NATS:     streams.ConnectConfig{URLs: r.env.Server.URLs(), Password: r.env.Passwords.Edge},
		Replicas: r.env.Server.Nodes(),
		Auth:     auth.Config{Secret: testSecret, Now: r.clock.Now},
		UserRate: -1, AddressRate: -1, DrainSpread: 100 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler), Metrics: registry, Now: r.clock.Now,
	}
	if change != nil {
		change(&cfg)
	}
	e, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	te := &testEdge{Edge: e, addr: listener.Addr().String(), registry: registry, stop: stop, stopped: make(chan error, 1)}
	go func() { te.stopped <- e.Run(ctx) }()
	t.Cleanup(func() { te.Stop(t) })
	r.edges = append(r.edges, te)
	return te
}

// Stop ends the edge in order; once is enough.
func (e *testEdge) Stop(t testing.TB) {
	t.Helper()
	e.stop()
	select {
	case err, running := <-e.stopped:
		if running {
			close(e.stopped)
		}
		if err != nil {
			t.Errorf("edge ended with: %v", err)
		}
	case <-time.After(failAfter):
		t.Fatal("the edge does not stop")
	}
}

// metric returns the sum of a metric's series, or of those with a label of this value.
func (e *testEdge) metric(t testing.TB, name, value string) float64 {
	t.Helper()
	families, err := e.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != "parley_edge_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			counts := value == ""
			for _, label := range m.GetLabel() {
				counts = counts || label.GetValue() == value
			}
			if counts {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// token returns a token of user that is valid for an hour of the rig's clock.
func (r *rig) token(t testing.TB, user string) string {
	t.Helper()
	return r.tokenFor(t, user, time.Hour)
}

func (r *rig) tokenFor(t testing.TB, user string, ttl time.Duration) string {
	t.Helper()
	token, err := auth.Mint(testSecret, testUser(t, user), r.clock.Now(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// asEdge is a connection to NATS with the rights of an edge.
func (r *rig) asEdge(t testing.TB) *nats.Conn {
	t.Helper()
	return r.env.Connect(t, streams.EdgeComponent)
}

// logged appends an event to a chat's log past every edge, and returns its seq.
func (r *rig) logged(t testing.TB, nc *nats.Conn, chat, from, id, text string) uint64 {
	t.Helper()
	event := &schemas.Event{Type: schemas.Message, ID: testID(t, id), From: testUser(t, from), Body: textBody(text)}
	data, err := schemas.EncodeEvent(event)
	if err != nil {
		t.Fatal(err)
	}
	c := testChat(t, chat)
	ack, err := streamstest.JetStream(t, nc).Publish(t.Context(), r.env.Layout.Shard(c).Timeline(c), data)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// setRepublish switches the republishing of every chat stream; the rig's worker has to be an administrator.
func (r *rig) setRepublish(t testing.TB, on bool) {
	t.Helper()
	for _, shard := range r.env.Layout.All() {
		stream, err := r.env.JetStream.Stream(t.Context(), shard.Stream())
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		was := cfg.RePublish
		if on {
			cfg.RePublish = &jetstream.RePublish{Source: "chat." + shard.Token + ".>", Destination: "live.>"}
		} else {
			cfg.RePublish = nil
		}
		if (was != nil) == on {
			continue
		}
		if _, err := r.env.JetStream.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
}

func testUser(t testing.TB, name string) schemas.User {
	t.Helper()
	user, err := schemas.ParseUser(name)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func testID(t testing.TB, s string) schemas.ID {
	t.Helper()
	id, err := schemas.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func testChat(t testing.TB, s string) schemas.Chat {
	t.Helper()
	chat, err := schemas.ParseChat(s)
	if err != nil {
		t.Fatal(err)
	}
	return chat
}

// receive takes one from a channel.
func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(failAfter):
		t.Fatal("nothing comes")
	}
	panic("not reached")
}

// eventually tries until done is true.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(failAfter)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", failAfter, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
