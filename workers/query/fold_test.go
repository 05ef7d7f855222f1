package query_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	gocmp "github.com/google/go-cmp/cmp"

	"parley/schemas"
	"parley/streams"
	"parley/workers/workerstest"
)

var byText = gocmp.Options{
	gocmp.Comparer(bytes.Equal),
	gocmp.Comparer(func(a, b schemas.User) bool { return a == b }),
	gocmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
}

// split is a chat that is stored up to a point.
type split struct {
	w    *world
	chat schemas.Chat
	ops  []op
	at   int // as many of ops are stored
	said []said
	head uint64
}

// publish puts an event into a chat's log.
func (w *world) publish(chat schemas.Chat, data []byte) uint64 {
	w.T.Helper()
	ack, err := w.EdgeJS.Publish(w.T.Context(), w.Layout.Shard(chat).Timeline(chat), data)
	if err != nil {
		w.T.Fatal(err)
	}
	return ack.Sequence
}

// publishEvent puts ev into a chat's log.
func (w *world) publishEvent(chat schemas.Chat, ev schemas.Event) uint64 {
	w.T.Helper()
	if ev.ID.IsZero() {
		ev.ID, _ = schemas.ParseID("x")
	}
	data, err := schemas.EncodeEvent(&ev)
	if err != nil {
		w.T.Fatal(err)
	}
	return w.publish(chat, data)
}

// say puts the next ops into the log, up to the one at end.
func (s *split) say(end int) {
	for i := len(s.said); i < end; i++ {
		o := s.ops[i]
		if o.poison {
			s.said = append(s.said, said{seq: s.w.publish(s.chat, []byte(`{"type":"message"`))})
			continue
		}
		ev := o.ev
		if ev.HasTarget() {
			ev.Target = 1
			if o.target >= 0 {
				ev.Target = s.said[o.target].seq
			}
		}
		s.said = append(s.said, said{seq: s.w.publishEvent(s.chat, ev), ev: &ev})
	}
}

// readTimes asks the log when things were said.
func (s *split) readTimes() {
	events, _, err := streams.NewLog(s.w.EdgeJS, s.w.Layout).After(s.w.T.Context(), s.chat, 0, len(s.said)+1, 1<<20)
	if err != nil || len(events) != len(s.said) {
		s.w.T.Fatalf("the log has %d events of %s, want %d: %v", len(events), s.chat, len(s.said), err)
	}
	for i := range events {
		s.said[i].time = events[i].Time
	}
}

// drawAsk makes a request about some point of the chat.
func (s *split) drawAsk(random *rand.Rand) schemas.HistoryAsk {
	point := func() uint64 { return s.said[random.IntN(len(s.said))].seq + random.Uint64N(3) - 1 }
	limit := []int64{1, 2, 3, 7, 200}[random.IntN(5)]
	ask := schemas.HistoryAsk{History: schemas.History{Chat: s.chat, Limit: &limit, Raw: random.IntN(3) == 0}}
	bound := point()
	switch random.IntN(3) {
	case 0:
		ask.Before = &bound
	case 1:
		ask.After = &bound
	}
	if random.IntN(3) == 0 {
		ask.From = point()
	}
	if ask.Raw && random.IntN(2) == 0 {
		ask.Author = user("alice")
	}
	return ask
}

// check asks and compares with what any of heads makes of the chat.
func (s *split) check(ask schemas.HistoryAsk, heads ...uint64) {
	s.w.T.Helper()
	request, err := json.Marshal(ask)
	if err != nil {
		s.w.T.Fatal(err)
	}
	got, code := s.w.page(string(request))
	if code != "" {
		s.w.T.Fatalf("request %s: refused with %s", request, code)
	}
	for i := range got.Events { // one way to write it
		ev, err := schemas.DecodeEvent(got.Events[i].JSON)
		if err != nil {
			s.w.T.Fatal(err)
		}
		if got.Events[i].JSON, err = schemas.EncodeEvent(ev); err != nil {
			s.w.T.Fatal(err)
		}
	}
	if len(got.Events) == 0 {
		got.Events = nil
	}
	diff := ""
	for _, head := range heads {
		want, slack := wantPage(s.said, head, time.Now(), ask)
		if slack && got.More {
			want.More = true
		}
		if diff = gocmp.Diff(want, got, byText); diff == "" {
			return
		}
	}
	s.w.T.Fatalf("%s, %d of %d events stored, request %s (-want +got):\n%s", s.chat, s.at, len(s.ops), request, diff)
}

// persistSplits stores all that was said, and no more.
func persistSplits(w *world, splits []*split) {
	stop := w.Persist()
	defer stop()
	last := uint64(0)
	for _, s := range splits {
		if len(s.said) > 0 {
			last = max(last, s.said[len(s.said)-1].seq)
		}
	}
	workerstest.WaitFor(w.T, "all is stored", func() bool {
		committed, err := w.Store.Committed(context.Background(), w.Layout.At(0).Token)
		return err == nil && committed >= last
	})
	for _, s := range splits {
		head, _, err := w.Store.Head(w.T.Context(), s.chat)
		if err != nil {
			w.T.Fatal(err)
		}
		s.head, s.at = head.LastSeq, len(s.said)
	}
}

// Wherever a timeline is cut into what is stored and what is only in the log, its
// pages show what the model makes of all of it.
func TestPagesShowWhatChangesMade(t *testing.T) {
	t.Parallel()
	const rounds, length, asks = 8, 24, 24
	w := newWorld(t, nil)
	var splits []*split
	for round := range rounds {
		ops := drawOps(rand.New(rand.NewPCG(3, uint64(round))), length)
		for at := range length + 1 {
			chat, err := schemas.ParseChat(fmt.Sprintf("group.g-%d-%d", round, at))
			if err != nil {
				t.Fatal(err)
			}
			splits = append(splits, &split{w: w, chat: chat, ops: ops, at: at})
		}
	}
	for _, s := range splits {
		s.say(s.at)
	}
	persistSplits(w, splits)
	for _, s := range splits {
		s.say(length)
		s.readTimes()
	}
	gone := time.Now().Add(time.Second)
	workerstest.WaitFor(t, "what is to disappear has", func() bool { return time.Now().After(gone) })
	random := rand.New(rand.NewPCG(4, 4))
	for _, s := range splits {
		for range asks {
			s.check(s.drawAsk(random), s.head)
		}
	}
	heads := make(map[*split]uint64)
	for _, s := range splits {
		heads[s] = s.head
	}
	persistSplits(w, splits)
	for _, s := range splits {
		for range asks / 4 { // some from pages that were read before
			s.check(s.drawAsk(random), s.head, heads[s])
		}
	}
	t.Logf("%d timelines of %d events, %d splits, %d pages", rounds, length, len(splits), len(splits)*(asks+asks/4))
}
