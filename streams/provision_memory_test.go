package streams_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/streams/streamstest"
)

// TestMarksAreToldAndKept: a mark is republished for the others in its chat, a private
// one is not, and both wait for the consumer and no longer.
func TestMarksAreToldAndKept(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true})
	edge := env.Connect(t, streams.EdgeComponent)
	live, err := edge.SubscribeSync("live.>")
	if err != nil {
		t.Fatal(err)
	}
	alice, direct, group := parseUser(t, "alice"), parseChat(t, "direct.alice.bob"), parseChat(t, "group.team")
	subjects := []string{
		streams.PrivateRead(alice, group),
		env.Layout.Shard(direct).Mark(direct, streams.MarkRead, alice),
		env.Layout.Shard(group).Mark(group, streams.MarkDelivered, alice),
	}
	for _, subject := range subjects {
		if err := edge.Publish(subject, []byte(`{"seq":7}`)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"live.direct.alice.bob.read.alice", "live.group.team.delivered.alice"} {
		msg, err := live.NextMsg(5 * time.Second)
		if err != nil || msg.Subject != want {
			t.Fatalf("got %v, %v, want one on %s", msg, err, want)
		}
	}
	consumer, err := env.JetStream.Consumer(testContext(t), streams.ReceiptsStream, streams.ReceiptsConsumer)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.Fetch(len(subjects), jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for msg := range batch.Messages() {
		got = append(got, msg.Subject())
		if err := msg.DoubleAck(testContext(t)); err != nil {
			t.Error(err)
		}
	}
	if len(got) != len(subjects) {
		t.Errorf("the consumer got %q, want %q", got, subjects)
	}
	if state := streamInfo(t, env, streams.ReceiptsStream).State; state.Msgs != 0 {
		t.Errorf("%d marks are kept that were acknowledged", state.Msgs)
	}
	if msg, err := live.NextMsg(0); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("told of %v, %v, want no more", msg, err)
	}
}

// TestMemoryIsProvisionedAgain: a server alone loses what it keeps in memory.
func TestMemoryIsProvisionedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := streamstest.Start(t, streamstest.Options{DataDir: dir})
	layout := env.Layout
	env.Server.Shutdown()
	env = streamstest.Start(t, streamstest.Options{DataDir: dir, NoProvision: true})
	for _, name := range []string{streams.ReceiptsStream, streams.PresenceStream} {
		if _, err := env.JetStream.Stream(testContext(t), name); !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatalf("stream %s after a restart: %v, want it lost", name, err)
		}
	}
	for range 2 {
		if err := streams.ProvisionMemory(testContext(t), env.JetStream, layout); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{streams.ReceiptsStream, streams.PresenceStream} {
		streamInfo(t, env, name)
	}
	if _, err := env.JetStream.Consumer(testContext(t), streams.ReceiptsStream, streams.ReceiptsConsumer); err != nil {
		t.Error(err)
	}
	provision(t, env, streams.Settings{})
}
