package streams_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

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

// lagging answers direct gets of a stream under the prefix "lag" as a replica
// would that holds only the messages that holds says.
func lagging(t *testing.T, env *streamstest.Env, shard streams.Shard, holds func(seq uint64) bool) (log *streams.Log, end func()) {
	t.Helper()
	conn := env.Connect(t, streams.WorkerComponent)
	all, err := jetstream.NewWithAPIPrefix(conn, "lag")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := conn.Subscribe("lag.DIRECT.GET."+shard.Stream(), func(req *nats.Msg) {
		var asked struct {
			Seq   uint64 `json:"seq"`
			Batch int    `json:"batch"`
		}
		if err := json.Unmarshal(req.Data, &asked); err != nil {
			t.Error(err)
		}
		msgs, err := jetstreamext.GetBatch(t.Context(), env.JetStream, shard.Stream(), 1000, jetstreamext.GetBatchSeq(asked.Seq))
		if err != nil {
			t.Error(err)
			return
		}
		var held []*jetstream.RawStreamMsg
		for msg, err := range msgs {
			if err == nil && holds(msg.Sequence) {
				held = append(held, msg)
			}
		}
		if len(held) == 0 {
			req.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"404"}}})
			return
		}
		before := uint64(0)
		for i, msg := range held[:min(len(held), asked.Batch)] {
			msg.Header.Set("Nats-Last-Sequence", fmt.Sprint(before))
			msg.Header.Set("Nats-Num-Pending", fmt.Sprint(len(held)-i-1))
			before = msg.Sequence
			req.RespondMsg(&nats.Msg{Header: msg.Header, Data: msg.Data})
		}
		req.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"204"}, "Description": {"EOB"}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return streams.NewLog(all, env.Layout), func() { sub.Unsubscribe() }
}

// What the log has is in the span, whatever the replica that answers is missing.
func TestSpanIsWholeOnReplicasThatLag(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{Nodes: 3, NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 1}})
	chat, shard := parseChat(t, "direct.alice.bob"), env.Layout.At(0)
	all := fillLog(t, env, 60, chat)[chat]
	for name, holds := range map[string]func(uint64) bool{
		"it has nothing":      func(uint64) bool { return false },
		"it has everything":   func(uint64) bool { return true },
		"it lags":             func(seq uint64) bool { return seq < all[35] },
		"it has holes":        func(seq uint64) bool { return seq%7 > 2 },
		"its beginning lacks": func(seq uint64) bool { return seq > all[20] },
	} {
		log, end := lagging(t, env, shard, holds)
		for _, limit := range []int{1, 4, 100} {
			if got := walk(t, log, shard, all[0], all[59], limit, 1<<20); !slices.Equal(got, all) {
				t.Errorf("%s, limit %d: %d messages, want %d", name, limit, len(got), len(all))
			}
			if got := walk(t, log, shard, all[10], all[50], limit, 1<<20); !slices.Equal(got, all[10:51]) {
				t.Errorf("%s, limit %d: %d messages between, want 41", name, limit, len(got))
			}
		}
		end()
	}
}
