package streams_test

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/streams/streamstest"
)

// rows is what a store knows of shards.
type rows map[string]uint64

// record is what `parley migrate` does with a layout.
func (r rows) record(layout streams.Layout) {
	for _, shard := range layout.All() {
		r[shard.Token] = max(r[shard.Token], shard.FirstSeq()-1)
	}
}

func (r rows) settings(remake bool) streams.Settings {
	return streams.Settings{MaxBytes: 1 << 20, Stored: maps.Clone(r), RemakeLost: remake}
}

// remake provisions with the flag and records what came of it.
func (r rows) remake(t *testing.T, env *streamstest.Env) streams.Layout {
	t.Helper()
	layout := provision(t, env, r.settings(true))
	r.record(layout)
	return layout
}

// used is a system of 4 shards, each with an event, and the rows of its store.
func used(t *testing.T) (*streamstest.Env, streams.Layout, rows) {
	t.Helper()
	env := administrator(t)
	layout := provision(t, env, streams.Settings{Shards: 4, MaxBytes: 1 << 20})
	stored := make(rows)
	stored.record(layout)
	for _, shard := range layout.All() {
		publishTo(t, env, shard)
	}
	return env, layout, stored
}

// publishTo says something in a shard.
func publishTo(t *testing.T, env *streamstest.Env, shard streams.Shard) uint64 {
	t.Helper()
	ack, err := env.JetStream.Publish(testContext(t), shard.Timeline(parseChat(t, "direct.alice.bob")), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

func lose(t *testing.T, env *streamstest.Env, shards ...streams.Shard) {
	t.Helper()
	for _, shard := range shards {
		if err := env.JetStream.DeleteStream(testContext(t), shard.Stream()); err != nil {
			t.Fatal(err)
		}
	}
}

func wantTokens(t *testing.T, layout streams.Layout, want ...string) {
	t.Helper()
	var got []string
	for _, shard := range layout.All() {
		got = append(got, shard.Token)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("shards are %v, want %v", got, want)
	}
}

func wantLost(t *testing.T, env *streamstest.Env, stored rows) {
	t.Helper()
	_, err := streams.Provision(testContext(t), env.JetStream, stored.settings(false))
	if !errors.Is(err, streams.ErrLost) || !errors.Is(err, streams.ErrIncompatible) || !strings.Contains(err.Error(), "--remake-lost") {
		t.Errorf("provisioned without the flag: %v, want %v", err, streams.ErrLost)
	}
}

func TestLostShardIsRemadeInTheNextGeneration(t *testing.T) {
	t.Parallel()
	env, layout, stored := used(t)
	follower := streams.NewLog(env.JetStream, layout)
	settings := stored.settings(true)
	settings.Services = []string{"search"}
	lose(t, env, layout.At(1), layout.At(3))
	wantLost(t, env, stored)
	if _, err := follower.FollowOnce(testContext(t)); !errors.Is(err, streams.ErrNotProvisioned) || !follower.Layout().Equal(layout) {
		t.Errorf("followed to %v, %v", follower.Layout(), err)
	}

	remade := provision(t, env, settings)
	wantTokens(t, remade, "0", "2_1", "2", "2_3")
	if loaded, err := streams.LoadLayout(testContext(t), env.JetStream); err != nil || !loaded.Equal(remade) {
		t.Errorf("loaded %v, %v, want %v", loaded, err, remade)
	}
	changed, err := follower.FollowOnce(testContext(t))
	if err != nil || len(changed) != 2 || !follower.Layout().Equal(remade) {
		t.Errorf("followed to %v, %v, with %v changed", follower.Layout(), err, changed)
	}
	if seq := publishTo(t, env, remade.At(3)); seq != 2<<40 {
		t.Errorf("the first seq is %d", seq)
	}
	for _, consumer := range []string{streams.PersistConsumer, "search"} {
		if _, err := env.JetStream.Consumer(testContext(t), remade.At(3).Stream(), consumer); err != nil {
			t.Errorf("consumer %s: %v", consumer, err)
		}
	}
	stored.record(remade)
	wantTokens(t, provision(t, env, stored.settings(false)), "0", "2_1", "2", "2_3")

	// What the other shards reached is not given out again, wherever it is lost next.
	lose(t, env, remade.At(0), remade.At(3))
	wantTokens(t, stored.remake(t, env), "3_0", "2_1", "2", "3_3")
	lose(t, env, streams.NewShard(3, 3))
	wantTokens(t, stored.remake(t, env), "3_0", "2_1", "2", "4_3")
}

func TestAllStreamsLostAreRemadeFromTheStore(t *testing.T) {
	t.Parallel()
	env, layout, stored := used(t)
	lose(t, env, layout.All()...)
	wantLost(t, env, stored)
	wrong := stored.settings(true)
	wrong.Shards = 3
	wantIncompatible(t, env, wrong, "3 shards are asked for, 4 are provisioned")
	remade := stored.remake(t, env)
	wantTokens(t, remade, "2_0", "2_1", "2_2", "2_3")
	lose(t, env, remade.All()...) // before anything was said in it
	wantTokens(t, stored.remake(t, env), "3_0", "3_1", "3_2", "3_3")
}

// The store is ahead of streams that somebody made anew without asking it.
func TestStreamBehindTheStoreIsRetired(t *testing.T) {
	t.Parallel()
	env, layout, stored := used(t)
	stale := streams.NewLog(env.JetStream, layout)
	stored["1"] += 100
	wantLost(t, env, stored)
	if err := stale.CheckStored(testContext(t), stored); !errors.Is(err, streams.ErrLost) || !strings.Contains(err.Error(), "shard 1 up to") {
		t.Errorf("log was checked with: %v", err)
	}
	remade := stored.remake(t, env)
	wantTokens(t, remade, "0", "2_1", "2", "3")
	if err := streams.NewLog(env.JetStream, remade).CheckStored(testContext(t), stored); err != nil {
		t.Error(err)
	}
	_, err := env.JetStream.Publish(testContext(t), layout.At(1).Timeline(parseChat(t, "direct.alice.bob")), nil)
	if !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("who has the old layout published: %v", err)
	}
	if _, err := stale.Sequence(testContext(t), layout.At(1), layout.At(1).FirstSeq()); err != nil {
		t.Errorf("what the retired stream has: %v", err)
	}

	// The retired stream serves nothing, whatever becomes of the newer one.
	lose(t, env, remade.At(1))
	if _, err := streams.LoadLayout(testContext(t), env.JetStream); !errors.Is(err, streams.ErrNotProvisioned) {
		t.Errorf("loaded a layout: %v", err)
	}
	wantLost(t, env, nil)
	wantTokens(t, stored.remake(t, env), "0", "3_1", "2", "3")
}

// An old stream that comes back from a backup serves nothing once Parley has looked.
func TestOldStreamThatComesBackIsRetired(t *testing.T) {
	t.Parallel()
	env, layout, stored := used(t)
	cfg := streamInfo(t, env, layout.At(2).Stream()).Config
	lose(t, env, layout.At(2))
	remade := stored.remake(t, env)
	if _, err := env.JetStream.CreateStream(testContext(t), cfg); err != nil {
		t.Fatal(err)
	}
	if loaded, err := streams.LoadLayout(testContext(t), env.JetStream); err != nil || !loaded.Equal(remade) {
		t.Errorf("loaded %v, %v, want %v", loaded, err, remade)
	}
	lose(t, env, remade.At(2))
	log := streams.NewLog(env.JetStream, remade)
	if _, err := log.FollowOnce(testContext(t)); !errors.Is(err, streams.ErrLayoutWentBack) {
		t.Errorf("followed: %v, want %v", err, streams.ErrLayoutWentBack)
	}
	if err := streams.NewLog(env.JetStream, layout).CheckStored(testContext(t), stored); !errors.Is(err, streams.ErrLost) {
		t.Errorf("log was checked with: %v", err)
	}
	wantLost(t, env, stored)
	wantTokens(t, stored.remake(t, env), "0", "1", "3_2", "3")
	if subjects := streamInfo(t, env, "CHAT_2").Config.Subjects; subjects[0] != "retired.2" {
		t.Errorf("the old stream has subjects %v", subjects)
	}
}

// A remake that was interrupted is completed in its own generation.
func TestInterruptedRemakeIsCompleted(t *testing.T) {
	t.Parallel()
	env, layout, stored := used(t)
	lose(t, env, layout.At(0), layout.At(3))
	half := provision(t, env, stored.settings(true)) // and its end was not recorded
	lose(t, env, half.At(3))
	publishTo(t, env, half.At(0))
	wantTokens(t, stored.remake(t, env), "2_0", "1", "2", "2_3")
}

func TestRemakersAtOnceMakeTheSameStreams(t *testing.T) {
	t.Parallel()
	const rounds = 10
	env, layout, stored := used(t)
	var mu sync.Mutex // of stored
	for round := range rounds {
		lost := layout.All()[round%3:]
		if round%4 == 3 {
			lost = layout.All()
		}
		lose(t, env, lost...)
		layouts := make([]streams.Layout, 3)
		var all sync.WaitGroup
		for i := range layouts {
			js := streamstest.JetStream(t, env.Connect(t, worker))
			all.Go(func() {
				mu.Lock()
				settings := stored.settings(true)
				mu.Unlock()
				layout, err := streams.Provision(testContext(t), js, settings)
				if err != nil {
					t.Errorf("remade: %v", err)
					return
				}
				mu.Lock()
				stored.record(layout)
				mu.Unlock()
				layouts[i] = layout
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		layout = layouts[0]
		for _, shard := range layout.All() {
			publishTo(t, env, shard)
		}
		for _, other := range layouts {
			if !other.Equal(layout) || layout.At(3).Generation != round+2 {
				t.Fatalf("round %d: remade %v and %v", round, layout, other)
			}
		}
	}
	t.Logf("%d rounds of 3 at once: 0 layouts that differ", rounds)
}
