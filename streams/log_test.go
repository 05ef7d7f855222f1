package streams_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
)

// fillLog publishes n events to each of chats in turn, and returns the seqs of each.
func fillLog(t *testing.T, env *streamstest.Env, n int, chats ...schemas.Chat) map[schemas.Chat][]uint64 {
	t.Helper()
	seqs := make(map[schemas.Chat][]uint64)
	for i := range n {
		for _, chat := range chats {
			ack, err := streamstest.JetStream(t, env.NATS).Publish(t.Context(), env.Layout.Shard(chat).Timeline(chat), fmt.Append(nil, i))
			if err != nil {
				t.Fatal(err)
			}
			seqs[chat] = append(seqs[chat], ack.Sequence)
		}
	}
	return seqs
}

func TestLogReadsWhatCameAfterASeq(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 1}})
	log := streams.NewLog(env.JetStream, env.Layout)
	chat, other := parseChat(t, "direct.alice.bob"), parseChat(t, "direct.alice.carol")
	seqs := fillLog(t, env, 10, chat, other)[chat]

	tests := []struct {
		name         string
		after        uint64
		limit, bytes int
		want         []uint64
		more         bool
	}{
		{"all", 0, 100, 1 << 20, seqs, false},
		{"exactly all", 0, 10, 1 << 20, seqs, false},
		{"limited", 0, 9, 1 << 20, seqs[:9], true},
		{"after one", seqs[3], 2, 1 << 20, seqs[4:6], true},
		{"the last", seqs[8], 5, 1 << 20, seqs[9:], false},
		{"none", seqs[9], 5, 1 << 20, nil, false},
		{"beyond the log", seqs[9] + 1000, 5, 1 << 20, nil, false},
		{"bounded by bytes", 0, 100, 1, seqs[:1], true},
	}
	for _, tt := range tests {
		events, more, err := log.After(t.Context(), chat, tt.after, tt.limit, tt.bytes)
		if err != nil || len(events) != len(tt.want) || more != tt.more {
			t.Errorf("%s: %d events, more %v, %v; want %d, %v", tt.name, len(events), more, err, len(tt.want), tt.more)
			continue
		}
		prev := tt.after
		for i, ev := range events {
			if ev.Seq != tt.want[i] || ev.Prev != prev {
				t.Errorf("%s: event %d is seq %d prev %d, want %d and %d", tt.name, i, ev.Seq, ev.Prev, tt.want[i], prev)
			}
			prev = ev.Seq
		}
	}
}

func TestLogTellsLasts(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, Administrator: true})
	log := streams.NewLog(env.JetStream, env.Layout)
	var chats []schemas.Chat
	for i := range 30 {
		chats = append(chats, parseChat(t, fmt.Sprintf("direct.alice.u%d", i)))
	}
	seqs := fillLog(t, env, 3, chats[:20]...)
	lasts, err := log.Lasts(t.Context(), chats)
	if err != nil || len(lasts) != 20 {
		t.Fatalf("lasts of %d chats, %v; want 20", len(lasts), err)
	}
	for _, chat := range chats[:20] {
		last, ok, err := log.Last(t.Context(), chat)
		if want := seqs[chat][2]; lasts[chat] != want || last != want || !ok || err != nil {
			t.Errorf("%s: last %d of many, %d of one (%v, %v); want %d", chat, lasts[chat], last, ok, err, want)
		}
	}
	if last, ok, err := log.Last(t.Context(), chats[25]); ok || err != nil {
		t.Errorf("last of an empty chat: %d, %v, %v", last, ok, err)
	}
}

func TestLogReadsMoreLastsThanOneRequestMayName(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 1}})
	log := streams.NewLog(env.JetStream, env.Layout)
	chats := make([]schemas.Chat, streams.MultiLastMax+10)
	for i := range chats {
		chats[i] = parseChat(t, fmt.Sprintf("direct.alice.u%d", i))
	}
	end := []schemas.Chat{chats[0], chats[len(chats)-1]}
	fillLog(t, env, 1, end...)
	lasts, err := log.Lasts(t.Context(), chats)
	if err != nil || len(lasts) != 2 {
		t.Fatalf("lasts of %d chats, %v; want those of the first and the last", len(lasts), err)
	}
}

func TestLogTellsASequenceThatIsGone(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, Administrator: true, Settings: streams.Settings{Shards: 1}})
	log := streams.NewLog(env.JetStream, env.Layout)
	chat := parseChat(t, "direct.alice.bob")
	seqs := fillLog(t, env, 3, chat)[chat]
	shard := env.Layout.Shard(chat)
	stream, err := env.JetStream.Stream(t.Context(), shard.Stream())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), seqs[1]); err != nil {
		t.Fatal(err)
	}
	msg, err := log.Sequence(t.Context(), shard, seqs[0])
	if err != nil || string(msg.Data) != "0" || msg.Subject != shard.Timeline(chat) || time.Since(msg.Time) > time.Hour {
		t.Errorf("sequence %d is %+v, %v", seqs[0], msg, err)
	}
	for _, seq := range []uint64{seqs[1], seqs[2] + 1, 1} {
		if _, err := log.Sequence(t.Context(), shard, seq); !errors.Is(err, streams.ErrGone) {
			t.Errorf("sequence %d: %v, want ErrGone", seq, err)
		}
	}
	first, last, err := log.Bounds(t.Context(), shard)
	if err != nil || first != seqs[0] || last != seqs[2] {
		t.Errorf("bounds are %d and %d, %v; want %d and %d", first, last, err, seqs[0], seqs[2])
	}
}
