package streams_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"parley/streams"
	"parley/streams/streamstest"
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// publishEvents publishes n events to one chat as an edge and returns the chat's shard.
func publishEvents(t *testing.T, env *streamstest.Env, n int) (shard streams.Shard, subject string, last uint64) {
	t.Helper()
	ctx := testContext(t)
	js := streamstest.JetStream(t, env.Connect(t, edge))
	chat := parseChat(t, "direct.alice.bob")
	shard = env.Layout.Shard(chat)
	subject = shard.Timeline(chat)
	for range n {
		ack, err := js.Publish(ctx, subject, []byte(`{"type":"message"}`))
		if err != nil {
			t.Fatal(err)
		}
		last = ack.Sequence
	}
	return shard, subject, last
}

func TestEdgePublishesReadsBackAndHearsIt(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{})
	ctx := testContext(t)
	nc := env.Connect(t, edge)
	js := streamstest.JetStream(t, nc)
	live, err := nc.SubscribeSync(streams.LiveOfUser(parseUser(t, "bob"))[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}

	if layout, err := streams.LoadLayout(ctx, js); err != nil || !layout.Equal(env.Layout) {
		t.Errorf("loaded layout %v, %v, want %v", layout, err, env.Layout)
	}
	shard, subject, last := publishEvents(t, env, 3)
	if want := shard.FirstSeq() + 2; last != want {
		t.Errorf("third event has seq %d, want %d", last, want)
	}
	wantLive(t, live, shard.FirstSeq(), last)

	stream, err := js.Stream(ctx, shard.Stream())
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := stream.GetMsg(ctx, last); err != nil || msg.Subject != subject {
		t.Errorf("get event %d: %v, %v", last, msg, err)
	}
	if msg, err := stream.GetLastMsgForSubject(ctx, subject); err != nil || msg.Sequence != last {
		t.Errorf("get last event: %v, %v", msg, err)
	}
	batch, err := jetstreamext.GetBatch(ctx, js, shard.Stream(), 10, jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchSeq(last-1))
	if got := countMessages(t, batch, err); got != 2 {
		t.Errorf("batched get brought %d events, want 2", got)
	}
	lasts, err := jetstreamext.GetLastMsgsFor(ctx, js, shard.Stream(), []string{subject})
	if got := countMessages(t, lasts, err); got != 1 {
		t.Errorf("multi_last brought %d events, want 1", got)
	}
}

// wantLive wants the events from first to last, in order, on the subscription.
func wantLive(t *testing.T, live *nats.Subscription, first, last uint64) {
	t.Helper()
	ctx := testContext(t)
	for want := first; want <= last; want++ {
		msg, err := live.NextMsgWithContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		chat, kind, _, ok := streams.ParseLive(msg.Subject)
		if !ok || kind != streams.LiveIsTimeline || chat.String() != "direct.alice.bob" {
			t.Errorf("live event came on %s", msg.Subject)
		}
		if got := msg.Header.Get("Nats-Sequence"); got != seqText(want) {
			t.Errorf("live event has seq %s, want %d", got, want)
		}
	}
}

func countMessages(t *testing.T, msgs func(func(*jetstream.RawStreamMsg, error) bool), err error) (n int) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range msgs {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestWorkerPersistsThroughAPinnedGroup(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(seqText(uint64(nodes))+" nodes", func(t *testing.T) {
			t.Parallel()
			env := streamstest.Start(t, streamstest.Options{Nodes: nodes})
			ctx := testContext(t)
			shard, subject, last := publishEvents(t, env, 5)
			first := shard.FirstSeq()
			js := env.JetStream

			consumer, err := js.Consumer(ctx, shard.Stream(), streams.PersistConsumer)
			if err != nil {
				t.Fatal(err)
			}
			fetchFrom(t, consumer, first, 5)
			// Who becomes pinned begins at what the store has committed.
			if _, err := js.ResetConsumerToSequence(ctx, shard.Stream(), streams.PersistConsumer, first+2); err != nil {
				t.Fatal(err)
			}
			batch := fetchFrom(t, consumer, first+2, 3)
			if err := batch[len(batch)-1].DoubleAck(ctx); err != nil {
				t.Fatal(err)
			}
			info, err := consumer.Info(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if info.AckFloor.Stream != last {
				t.Errorf("acknowledged up to %d, want %d", info.AckFloor.Stream, last)
			}

			wantLastEvent(t, js, shard, last)
			wantDeadLetter(t, js, subject)
		})
	}
}

// wantLastEvent wants the worker to find the event at last, and none after it.
func wantLastEvent(t *testing.T, js jetstream.JetStream, shard streams.Shard, last uint64) {
	t.Helper()
	ctx := testContext(t)
	stream, err := js.Stream(ctx, shard.Stream())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.GetMsg(ctx, last); err != nil {
		t.Errorf("get event %d: %v", last, err)
	}
	if _, err := stream.GetMsg(ctx, last+1); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("get event that is not there: %v, want %v", err, jetstream.ErrMsgNotFound)
	}
}

// wantDeadLetter wants the worker to publish a dead letter and to delete it.
func wantDeadLetter(t *testing.T, js jetstream.JetStream, subject string) {
	t.Helper()
	ctx := testContext(t)
	dead, err := js.Publish(ctx, streams.Dead(streams.PersistConsumer, subject), []byte("poison"))
	if err != nil {
		t.Fatal(err)
	}
	deads, err := js.Stream(ctx, streams.DeadStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := deads.DeleteMsg(ctx, dead.Sequence); err != nil {
		t.Errorf("delete replayed dead letter: %v", err)
	}
}

func fetchFrom(t *testing.T, consumer jetstream.Consumer, first uint64, n int) []jetstream.Msg {
	t.Helper()
	batch, err := consumer.Fetch(n, jetstream.FetchPriorityGroup(streams.PinGroup), jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var msgs []jetstream.Msg
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if want := first + uint64(len(msgs)); meta.Sequence.Stream != want {
			t.Errorf("fetched event %d, want %d", meta.Sequence.Stream, want)
		}
		msgs = append(msgs, msg)
	}
	if len(msgs) != n {
		t.Fatalf("fetched %d events, want %d: %v", len(msgs), n, batch.Error())
	}
	return msgs
}

func TestServicePullsFromItsOwnConsumerOnly(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{
		NoSync: true, Settings: streams.Settings{Services: []string{"service"}},
	})
	ctx := testContext(t)
	shard, _, last := publishEvents(t, env, 2)
	js := streamstest.JetStream(t, env.Connect(t, service))
	consumer, err := js.Consumer(ctx, shard.Stream(), "service")
	if err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.Fetch(2, jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for msg := range batch.Messages() {
		if err := msg.DoubleAck(ctx); err != nil {
			t.Error(err)
		}
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.AckFloor.Stream != last {
		t.Errorf("acknowledged up to %d, want %d", info.AckFloor.Stream, last)
	}
}

func TestEdgePutsPresenceThatExpiresAndOperatorWatchesIt(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true})
	ctx := testContext(t)
	key := streams.PresenceKey(parseUser(t, "alice"), parseID(t, "session1"))

	seen, err := streamstest.JetStream(t, env.Connect(t, operator)).KeyValue(ctx, streams.PresenceBucket)
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := seen.WatchAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()

	js := streamstest.JetStream(t, env.Connect(t, edge))
	put := nats.NewMsg("$KV." + streams.PresenceBucket + "." + key)
	put.Data = []byte("{}")
	if _, err := js.PublishMsg(ctx, put, jetstream.WithMsgTTL(time.Second)); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, streams.PresenceBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(ctx, key); err != nil {
		t.Errorf("get presence: %v", err)
	}
	var operations []jetstream.KeyValueOp
	for len(operations) < 2 {
		select {
		case entry := <-watcher.Updates():
			if entry != nil { // nil ends the initial values
				operations = append(operations, entry.Operation())
			}
		case <-ctx.Done():
			t.Fatalf("the watcher saw %v, want a put and its expiry", operations)
		}
	}
	if want := []jetstream.KeyValueOp{jetstream.KeyValuePut, jetstream.KeyValuePurge}; !slices.Equal(operations, want) {
		t.Errorf("the watcher saw %v, want %v", operations, want)
	}
	if err := kv.Purge(ctx, key, jetstream.PurgeTTL(time.Minute)); err != nil {
		t.Errorf("purge presence: %v", err)
	}
}

func TestServicesAnswerAndAreListed(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true})
	ctx := testContext(t)
	node := parseID(t, "edge1")
	echo := func(r micro.Request) {
		if err := r.Respond(r.Data()); err != nil {
			t.Error(err)
		}
	}
	serve := func(component streams.Component, name, subject string) {
		srv, err := micro.AddService(env.Connect(t, component), micro.Config{
			Name: name, Version: "1.0.0",
			Endpoint: &micro.EndpointConfig{Subject: subject, Handler: micro.HandlerFunc(echo)},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { srv.Stop() })
	}
	serve(worker, streams.HistoryService, streams.HistorySubject)
	serve(edge, streams.NodeService(node), streams.NodeSubject(node, "drain"))

	for _, request := range []struct {
		from    streams.Component
		subject string
	}{
		{edge, streams.HistorySubject},
		{operator, streams.HistorySubject},
		{operator, streams.NodeSubject(node, "drain")},
		{operator, "$SRV.INFO." + streams.HistoryService},
		{operator, "$SRV.STATS." + streams.NodeService(node)},
	} {
		if _, err := env.Connect(t, request.from).RequestWithContext(ctx, request.subject, []byte("hi")); err != nil {
			t.Errorf("%s requests %s: %v", request.from, request.subject, err)
		}
	}
}

func seqText(seq uint64) string { return strconv.FormatUint(seq, 10) }
