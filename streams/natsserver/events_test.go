package natsserver_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// timelineOf returns the subject of one chat, and the shard that stores it.
func timelineOf(t *testing.T, env *streamstest.Env) (shard streams.Shard, subject string) {
	t.Helper()
	chat, err := schemas.ParseChat("direct.alice.bob")
	if err != nil {
		t.Fatal(err)
	}
	shard = env.Layout.Shard(chat)
	return shard, shard.Timeline(chat)
}

// publishEvents publishes n events to the chat of [timelineOf] and returns the
// sequence of the last one.
func publishEvents(t *testing.T, env *streamstest.Env, n int) (shard streams.Shard, last uint64) {
	t.Helper()
	js := streamstest.JetStream(t, env.Connect(t, streams.EdgeComponent))
	shard, subject := timelineOf(t, env)
	for range n {
		ack, err := js.Publish(testContext(t), subject, []byte(`{"type":"message"}`))
		if err != nil {
			t.Fatal(err)
		}
		last = ack.Sequence
	}
	return shard, last
}

func streamInfo(t *testing.T, env *streamstest.Env, name string) *jetstream.StreamInfo {
	t.Helper()
	stream, err := env.JetStream.Stream(testContext(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo()
}

// eventually waits until condition holds.
func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the condition did not come to hold")
		}
	}
}
