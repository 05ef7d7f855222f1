package dead_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/dead"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) *streamstest.Env {
	t.Helper()
	return streamstest.Start(t, streamstest.Options{NoSync: true, Settings: streams.Settings{Shards: 1}})
}

func bury(t *testing.T, env *streamstest.Env, l dead.Letter) {
	t.Helper()
	if err := dead.Bury(t.Context(), env.JetStream, l); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, env *streamstest.Env, consumer string) (letters []dead.Letter, faults int) {
	t.Helper()
	for letter, err := range dead.List(t.Context(), env.JetStream, consumer) {
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
		Time: time.Date(2026, 11, 24, 1, 2, 3, 4, time.UTC), Reason: "it has no id", Data: []byte(`{"a":1}`),
	}
}

func TestLettersComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	env := start(t)
	if letters, faults := list(t, env, ""); len(letters)+faults > 0 {
		t.Errorf("an empty stream has %v", letters)
	}
	first, other, second := letter("persist", 7), letter("push", 8), letter("persist", 9)
	second.Reason = "two\nlines\x00 and " + strings.Repeat("ü", 1000)
	second.Data = nil
	for _, l := range []dead.Letter{first, other, second, first} { // the same once more
		bury(t, env, l)
	}
	all, faults := list(t, env, "")
	if len(all) != 3 || faults > 0 {
		t.Fatalf("%d letters, %d malformed; want 3: the same letter is stored once", len(all), faults)
	}
	letters, _ := list(t, env, "persist")
	if len(letters) != 2 {
		t.Fatalf("persist has %d letters, want 2", len(letters))
	}
	first.ID = 1
	if diff := cmp.Diff(first, letters[0]); diff != "" {
		t.Errorf("letter (-want +got):\n%s", diff)
	}
	if got := letters[1].Reason; !strings.HasPrefix(got, "two lines  and ü") || len(got) > 500 || strings.ContainsRune(got, '�') {
		t.Errorf("reason is %q", got)
	}
}

func TestPayloadThatDoesNotFitIsCut(t *testing.T) {
	t.Parallel()
	env := start(t)
	l := letter("persist", 1)
	l.Data = make([]byte, env.NATS.MaxPayload())
	bury(t, env, l)
	letters, _ := list(t, env, "")
	if len(letters) != 1 || letters[0].Truncated != len(l.Data) || len(letters[0].Data) >= len(l.Data) {
		t.Fatalf("letter has %d bytes of %d", len(letters[0].Data), letters[0].Truncated)
	}
}
