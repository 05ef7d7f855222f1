package replay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"parley/repair/replay"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/dead"
)

func startLetters(t *testing.T) *streamstest.Env {
	t.Helper()
	return streamstest.Start(t, streamstest.Options{NoSync: true, Settings: streams.Settings{Shards: 1}})
}

func bury(t *testing.T, env *streamstest.Env, l dead.Letter) {
	t.Helper()
	if err := dead.Bury(t.Context(), env.JetStream, l); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, env *streamstest.Env) (letters []dead.Letter, faults int) {
	t.Helper()
	for letter, err := range dead.List(t.Context(), env.JetStream, "") {
		if err != nil {
			faults++
		}
		letters = append(letters, letter)
	}
	return letters, faults
}

func letter(consumer string, seq uint64) dead.Letter {
	return dead.Letter{
		Consumer: consumer, Stream: "CHAT_0", Subject: "chat.0.direct.alice.bob.timeline", Seq: seq,
		Time: time.Now(), Reason: "it has no id", Data: []byte(`{"a":1}`),
	}
}

// handler refuses the sequences that it names.
type handler map[uint64]error

func (h handler) Replay(_ context.Context, l dead.Letter) error { return h[l.Seq] }

func TestLettersLeaveOnceTheyAreHandled(t *testing.T) {
	t.Parallel()
	env := startLetters(t)
	for seq := range uint64(4) {
		bury(t, env, letter("persist", seq))
	}
	bury(t, env, letter("push", 10))
	// What somebody else wrote there is told and left.
	if err := env.NATS.PublishMsg(&nats.Msg{Subject: "dead.persist.chat.x", Data: []byte("?")}); err != nil {
		t.Fatal(err)
	}
	if err := env.NATS.Flush(); err != nil {
		t.Fatal(err)
	}
	refusal := errors.New("not today")
	outcomes := make(map[uint64]error)
	err := replay.Letters(t.Context(), env.JetStream, "", map[string]replay.Handler{"persist": handler{2: refusal}},
		func(l dead.Letter, err error) { outcomes[l.ID] = err })
	if err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != 6 || outcomes[1] != nil || outcomes[2] != nil || outcomes[4] != nil {
		t.Errorf("outcomes are %v", outcomes)
	}
	if !errors.Is(outcomes[3], refusal) || !errors.Is(outcomes[5], replay.ErrNoHandler) || outcomes[6] == nil {
		t.Errorf("outcomes are %v; want the refusal, no handler, and a malformed letter", outcomes)
	}
	letters, faults := list(t, env)
	if len(letters) != 3 || faults != 1 || letters[0].Seq != 2 || letters[1].Consumer != "push" {
		t.Errorf("letters that stay: %v", letters)
	}
}

func TestPayloadThatWasCutIsNotReplayed(t *testing.T) {
	t.Parallel()
	env := startLetters(t)
	l := letter("persist", 1)
	l.Data = make([]byte, env.NATS.MaxPayload())
	bury(t, env, l)
	handled := 0
	err := replay.Letters(t.Context(), env.JetStream, "", map[string]replay.Handler{"persist": handler{}}, func(_ dead.Letter, err error) {
		if handled++; err == nil {
			t.Error("a letter that was cut was replayed")
		}
	})
	if err != nil || handled != 1 {
		t.Errorf("%d letters, %v; want 1", handled, err)
	}
}
