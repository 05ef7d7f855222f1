package streams_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/streams/streamstest"
)

func provision(t *testing.T, env *streamstest.Env, settings streams.Settings) streams.Layout {
	t.Helper()
	layout, err := streams.Provision(testContext(t), env.JetStream, settings)
	if err != nil {
		t.Fatal(err)
	}
	return layout
}

func wantIncompatible(t *testing.T, env *streamstest.Env, settings streams.Settings, sentences ...string) {
	t.Helper()
	_, err := streams.Provision(testContext(t), env.JetStream, settings)
	if !errors.Is(err, streams.ErrIncompatible) {
		t.Fatalf("provisioned with error %v, want one of kind %v", err, streams.ErrIncompatible)
	}
	for _, sentence := range sentences {
		if !strings.Contains(err.Error(), sentence) {
			t.Errorf("error %q does not say %q", err, sentence)
		}
	}
}

func streamInfo(t *testing.T, env *streamstest.Env, name string) *jetstream.StreamInfo {
	t.Helper()
	stream, err := env.JetStream.Stream(testContext(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo()
}

// administrator may do anything: nats.conf has no such user.
func administrator(t *testing.T) *streamstest.Env {
	t.Helper()
	return streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true, Administrator: true})
}

func TestProvisionMakesWhatIsDeclared(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true})
	if _, err := streams.LoadLayout(testContext(t), env.JetStream); !errors.Is(err, streams.ErrNotProvisioned) {
		t.Errorf("layout of an empty server: %v, want %v", err, streams.ErrNotProvisioned)
	}
	layout := provision(t, env, streams.Settings{})
	if want := streams.NewLayout(8); !layout.Equal(want) {
		t.Errorf("layout %v, want %v", layout, want)
	}
	if loaded, err := streams.LoadLayout(testContext(t), env.JetStream); err != nil || !loaded.Equal(layout) {
		t.Errorf("loaded layout %v, %v, want %v", loaded, err, layout)
	}
	info := streamInfo(t, env, layout.At(3).Stream())
	if cfg := info.Config; cfg.FirstSeq != 1<<40 || cfg.MaxAge != 24*time.Hour || cfg.Duplicates != 2*time.Minute ||
		cfg.MaxBytes <= 0 || cfg.Discard != jetstream.DiscardNew || !cfg.AllowDirect || !cfg.AllowMsgTTL {
		t.Errorf("chat stream is %+v", cfg)
	}
	consumer, err := env.JetStream.Consumer(testContext(t), layout.At(3).Stream(), streams.PersistConsumer)
	if err != nil {
		t.Fatal(err)
	}
	if cfg := consumer.CachedInfo().Config; cfg.AckPolicy != jetstream.AckAllPolicy || cfg.PriorityPolicy != jetstream.PriorityPolicyPinned ||
		cfg.PinnedTTL != streams.PinnedTTL || cfg.MaxAckPending != streams.MaxAckPending {
		t.Errorf("consumer persist is %+v", cfg)
	}
	streamInfo(t, env, streams.DeadStream)
	streamInfo(t, env, "KV_"+streams.PresenceBucket)
}

func TestProvisionAgainKeepsWhatWasNotAskedFor(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true})
	first := provision(t, env, streams.Settings{Shards: 3, MaxAge: 48 * time.Hour, MaxBytes: 64 << 20})
	created := streamInfo(t, env, first.At(0).Stream()).Created
	publishEventsTo(t, env, first, 2)

	again := provision(t, env, streams.Settings{})
	if !again.Equal(first) {
		t.Errorf("layout is %v after a second provisioning, want %v", again, first)
	}
	for _, shard := range first.All() {
		cfg := streamInfo(t, env, shard.Stream()).Config
		if cfg.MaxAge != 48*time.Hour || cfg.MaxBytes != 64<<20 {
			t.Errorf("%s keeps %v and %d bytes", shard.Stream(), cfg.MaxAge, cfg.MaxBytes)
		}
	}
	if got := streamInfo(t, env, first.At(0).Stream()).Created; !got.Equal(created) {
		t.Errorf("the stream was made anew at %v", got)
	}
}

func publishEventsTo(t *testing.T, env *streamstest.Env, layout streams.Layout, n int) streams.Shard {
	t.Helper()
	env.Layout = layout
	shard, _, _ := publishEvents(t, env, n)
	return shard
}

func TestProvisionUpdatesWhatMayBeUpdated(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true})
	shard := publishEventsTo(t, env, env.Layout, 2)
	provision(t, env, streams.Settings{MaxAge: 2 * time.Hour, MaxBytes: 48 << 20, Duplicates: 3 * time.Minute, Services: []string{"search"}})
	info := streamInfo(t, env, shard.Stream())
	if cfg := info.Config; cfg.MaxAge != 2*time.Hour || cfg.MaxBytes != 48<<20 || cfg.Duplicates != 3*time.Minute {
		t.Errorf("updated to %v, %d bytes, %v", cfg.MaxAge, cfg.MaxBytes, cfg.Duplicates)
	}
	if info.State.Msgs != 2 {
		t.Errorf("%d events are left, want 2", info.State.Msgs)
	}
	if _, err := env.JetStream.Consumer(testContext(t), shard.Stream(), "search"); err != nil {
		t.Errorf("consumer of the new service: %v", err)
	}
}

func TestProvisionRefusesWhatWouldLoseEvents(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true})
	shard := publishEventsTo(t, env, env.Layout, 2)
	wantIncompatible(t, env, streams.Settings{MaxBytes: 1}, shard.Stream()+" holds")

	const age = 100 * time.Millisecond // the least that NATS takes
	first := streamInfo(t, env, shard.Stream()).State.FirstTime
	eventually(t, func() bool { return time.Since(first) > age })
	short := streams.Settings{MaxAge: age, Duplicates: age}
	wantIncompatible(t, env, short, shard.Stream(), "is not in the permanent store")
	for _, shard := range env.Layout.All() {
		if got := streamInfo(t, env, shard.Stream()).Config.MaxAge; got != 24*time.Hour {
			t.Errorf("%s keeps events for %v after a refusal", shard.Stream(), got)
		}
	}
	consumer, err := env.JetStream.Consumer(testContext(t), shard.Stream(), streams.PersistConsumer)
	if err != nil {
		t.Fatal(err)
	}
	if err := fetchFrom(t, consumer, shard.FirstSeq(), 2)[1].DoubleAck(testContext(t)); err != nil {
		t.Fatal(err)
	}
	provision(t, env, short) // all is stored: nothing is lost

	wantIncompatible(t, env, streams.Settings{Shards: 5}, "5 shards are asked for, 4 are provisioned")
}

func TestProvisionRefusesForeignStreams(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		existing  jetstream.StreamConfig
		sentences []string
	}{
		"another storage": {
			jetstream.StreamConfig{Name: streams.DeadStream, Subjects: []string{streams.DeadPattern}, Storage: jetstream.MemoryStorage, MaxBytes: 1 << 20},
			[]string{"stream DEAD", "storage: is Memory, should be File"},
		},
		"other subjects": {
			jetstream.StreamConfig{Name: streams.DeadStream, Subjects: []string{"dead.letters"}, MaxBytes: 1 << 20},
			[]string{"subjects: is [dead.letters], should be [dead.>]"},
		},
		"another first sequence": {
			jetstream.StreamConfig{
				Name: "CHAT_0", Subjects: streams.NewShard(1, 0).TimelinePatterns(), MaxBytes: 1 << 20,
				Metadata: map[string]string{"parley.generation": "1", "parley.shards": "8"},
			},
			[]string{"first sequence: is 0, should be 1099511627776"},
		},
		"not by Parley": {
			jetstream.StreamConfig{Name: "CHAT_ROOM", Subjects: []string{"room"}, MaxBytes: 1 << 20},
			[]string{"stream CHAT_ROOM does not say"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true})
			if _, err := env.JetStream.CreateStream(testContext(t), test.existing); err != nil {
				t.Fatal(err)
			}
			wantIncompatible(t, env, streams.Settings{}, test.sentences...)
		})
	}
}

func TestProvisionRefusesForeignConsumer(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true})
	if _, err := env.JetStream.CreateConsumer(testContext(t), env.Layout.At(1).Stream(), jetstream.ConsumerConfig{
		Durable: "search", AckPolicy: jetstream.AckAllPolicy, FilterSubject: env.Layout.At(1).TimelinePatterns()[0],
	}); err != nil {
		t.Fatal(err)
	}
	wantIncompatible(t, env, streams.Settings{Services: []string{"search"}},
		"consumer search of CHAT_1", "ack policy: is AckAll, should be AckExplicit", "filters: is [chat.1.direct.*.*.timeline], should be []")
}

func TestProvisionDoesNotMakeALostShardAnew(t *testing.T) {
	t.Parallel()
	env := administrator(t)
	layout := provision(t, env, streams.Settings{Shards: 4, MaxBytes: 1 << 20})
	chat := layout.Shard(parseChat(t, "direct.alice.bob"))
	var other streams.Shard
	for _, shard := range layout.All() {
		if shard != chat {
			other = shard
		}
	}
	// While nothing was said, a provisioning that was interrupted is completed.
	if err := env.JetStream.DeleteStream(testContext(t), other.Stream()); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.LoadLayout(testContext(t), env.JetStream); !errors.Is(err, streams.ErrNotProvisioned) {
		t.Errorf("layout with a missing stream: %v, want %v", err, streams.ErrNotProvisioned)
	}
	provision(t, env, streams.Settings{})

	if _, err := env.JetStream.Publish(testContext(t), chat.Timeline(parseChat(t, "direct.alice.bob")), nil); err != nil {
		t.Fatal(err)
	}
	if err := env.JetStream.DeleteStream(testContext(t), other.Stream()); err != nil {
		t.Fatal(err)
	}
	wantIncompatible(t, env, streams.Settings{}, "the stream of shard "+other.Token+" is missing", "restore it")
}

func TestProvisionFitsASmallDisk(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true, StoreBytesMax: 3 << 30})
	layout := provision(t, env, streams.Settings{})
	for _, shard := range layout.All() {
		if got := streamInfo(t, env, shard.Stream()).Config.MaxBytes; got != 256<<20 {
			t.Errorf("%s reserves %d bytes, want all to reserve 256 MiB", shard.Stream(), got)
		}
	}
	if again := provision(t, env, streams.Settings{}); !again.Equal(layout) {
		t.Errorf("layout %v, want %v", again, layout)
	}

	small := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true, StoreBytesMax: 300 << 20})
	_, err := streams.Provision(testContext(t), small.JetStream, streams.Settings{MaxBytes: 100 << 20})
	if err == nil || !strings.Contains(err.Error(), "ask for fewer bytes") {
		t.Errorf("provisioned a disk without room: %v", err)
	}
}

func TestProvisionersAtOnceAgree(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(seqText(uint64(nodes))+" nodes", func(t *testing.T) {
			t.Parallel()
			env := streamstest.Start(t, streamstest.Options{Nodes: nodes, NoSync: true, NoProvision: true})
			var all sync.WaitGroup
			for range 4 {
				js := streamstest.JetStream(t, env.Connect(t, worker))
				all.Go(func() {
					layout, err := streams.Provision(testContext(t), js, streams.Settings{Shards: 4, Replicas: nodes, MaxBytes: 16 << 20})
					if err != nil || layout.Shards() != 4 {
						t.Errorf("provisioned %v, %v", layout, err)
					}
				})
			}
			all.Wait()
			if _, err := streams.LoadLayout(testContext(t), env.JetStream); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReplicasGrowInACluster(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{Nodes: 3, NoSync: true, Settings: streams.Settings{Shards: 2, Replicas: 1}})
	shard := publishEventsTo(t, env, env.Layout, 2)
	provision(t, env, streams.Settings{Replicas: 3})
	info := streamInfo(t, env, shard.Stream())
	if info.Config.Replicas != 3 || info.State.Msgs != 2 {
		t.Errorf("%d replicas with %d events, want 3 with 2", info.Config.Replicas, info.State.Msgs)
	}

	alone := streamstest.Start(t, streamstest.Options{NoSync: true})
	_, err := streams.Provision(testContext(t), alone.JetStream, streams.Settings{Replicas: 3})
	if err == nil || !strings.Contains(err.Error(), "are so many servers in the cluster") {
		t.Errorf("3 replicas on one node: %v", err)
	}
}

func TestSettingsTellEveryFault(t *testing.T) {
	t.Parallel()
	err := streams.Settings{Shards: 65, Replicas: 2, MaxAge: time.Second, Duplicates: time.Minute, Services: []string{"a.b", "persist"}}.Validate()
	if err == nil {
		t.Fatal("no fault was found")
	}
	for _, fault := range []string{"shards 65", "replicas 2", "duplicates 1m0s", `service "a.b"`, `service "persist"`} {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("error %q does not tell %q", err, fault)
		}
	}
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
