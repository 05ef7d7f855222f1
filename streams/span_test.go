package streams_test

import (
	"testing"

	"parley/streams"
	"parley/streams/streamstest"
)

// walk reads a shard's log from one sequence to another, span by span.
func walk(t *testing.T, log *streams.Log, shard streams.Shard, from, to uint64, limit, bytes int) (seqs []uint64) {
	t.Helper()
	for from <= to {
		msgs, upto, err := log.Span(t.Context(), shard, from, to, limit, bytes)
		if err != nil {
			t.Fatal(err)
		}
		if upto < from || upto > to || len(msgs) > limit {
			t.Fatalf("%d messages between %d and %d go up to %d", len(msgs), from, to, upto)
		}
		for _, msg := range msgs {
			seqs = append(seqs, msg.Sequence)
			if msg.Sequence < from || msg.Sequence > upto {
				t.Fatalf("%d is not between %d and %d", msg.Sequence, from, upto)
			}
		}
		from = upto + 1
	}
	return seqs
}

func TestSpanIsWhole(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 1}})
	log := streams.NewLog(env.JetStream, env.Layout)
	chat, shard := parseChat(t, "direct.alice.bob"), env.Layout.At(0)
	if seqs := walk(t, log, shard, 1, shard.FirstSeq()+5, 10, 1<<20); len(seqs) > 0 {
		t.Errorf("an empty log has %v", seqs)
	}
	all := fillLog(t, env, 40, chat)[chat]
	stream, err := env.JetStream.Stream(t.Context(), shard.Stream())
	if err != nil {
		t.Fatal(err)
	}
	gone := map[uint64]bool{all[0]: true, all[7]: true, all[8]: true, all[20]: true, all[39]: true}
	for seq := range gone {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{1, 3, 100} {
		for _, bytes := range []int{1, 200, 1 << 20} {
			for _, span := range [][2]uint64{{0, all[39]}, {all[5], all[21]}, {all[7], all[8]}, {all[39], all[39]}, {all[3], all[3]}} {
				var want []uint64
				for _, seq := range all {
					if seq >= span[0] && seq <= span[1] && !gone[seq] {
						want = append(want, seq)
					}
				}
				got := walk(t, log, shard, span[0], span[1], limit, bytes)
				if len(got) != len(want) || len(want) > 0 && (got[0] != want[0] || got[len(got)-1] != want[len(want)-1]) {
					t.Errorf("limit %d, %d bytes, %v: got %v, want %v", limit, bytes, span, got, want)
				}
			}
		}
	}
}

// What was acknowledged is in the span at once, whatever replica answers: those
// that follow have not all of it yet.
func TestSpanIsWholeOnReplicasThatLag(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{Nodes: 3, NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 1}})
	log := streams.NewLog(env.JetStream, env.Layout)
	chat, shard := parseChat(t, "direct.alice.bob"), env.Layout.At(0)
	const rounds = 400
	first, missing := uint64(0), 0
	js := streamstest.JetStream(t, env.NATS)
	for i := range rounds {
		ack, err := js.Publish(t.Context(), shard.Timeline(chat), []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = ack.Sequence
		}
		from := max(first, ack.Sequence-min(ack.Sequence, 5))
		if got, want := walk(t, log, shard, from, ack.Sequence, 3, 1<<20), int(ack.Sequence-from+1); len(got) != want {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d spans were not whole", missing, rounds)
	}
	t.Logf("%d spans that end at what was just acknowledged", rounds)
}
