package query_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
	"parley/workers/query"
	"parley/workers/store"
	"parley/workers/workerstest"
)

// Every range, of a chat that is stored wholly, in part and not at all.
func TestPagesAreWhatWasSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	check := func() {
		t.Helper()
		random := rand.New(rand.NewPCG(1, uint64(len(w.sent))))
		first, last := w.Layout.At(0).FirstSeq(), w.Layout.At(0).FirstSeq()+uint64(len(w.sent))*2
		for range 150 {
			bound := first + random.Uint64N(last-first+10) - 2
			limit := 1 + random.IntN(60)
			w.wantRange(true, bound, limit)
			w.wantRange(false, bound, limit)
			w.wantRange(false, 0, limit)
		}
		w.wantRange(true, 0, 200)
		w.wantRange(true, schemas.SeqMax-1, 3)
		w.wantRange(false, schemas.SeqMax, 200)
	}
	w.wantRange(false, 0, 50)
	w.wantRange(true, 0, 50)
	talk := func() {
		for range 40 {
			w.say(1, 5)
			w.saySomethingElse()
		}
	}
	talk()
	check() // only in the log
	w.PersistAll()
	check() // only in the store
	talk()
	check() // in both: the cache has the stored page
	w.PersistAll()
	check()
}

// While events come and are stored, what was acknowledged is in each page that is
// asked for afterwards, once, however many ask.
func TestAcknowledgedEventsAreInEveryLaterPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	defer w.Persist()()
	var acked atomic.Uint64
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				want := acked.Load()
				items, _, code := w.ask(fmt.Sprintf(`{"chat":%q,"limit":20}`, w.chat))
				if code != "" {
					t.Errorf("refused with %s", code)
					return
				}
				if want > 0 && (len(items) == 0 || items[len(items)-1].N < want) {
					t.Errorf("%d were acknowledged; the page ends with %v", want, items[max(0, len(items)-1):])
					return
				}
				for i := 1; i < len(items); i++ {
					if items[i].Prev != items[i-1].Seq || items[i].N != items[i-1].N+1 {
						t.Errorf("%v comes after %v", items[i], items[i-1])
						return
					}
				}
			}
		})
	}
	for range 500 {
		w.say(1, 5)
		acked.Add(1)
	}
	close(done)
	readers.Wait()
}

// walk pages through the whole chat and returns the seqs that it met.
func (w *world) walk(forward bool, limit int) (seqs []uint64) {
	w.T.Helper()
	at := uint64(0)
	for {
		request := fmt.Sprintf(`{"chat":%q,"limit":%d}`, w.chat, limit)
		if forward {
			request = fmt.Sprintf(`{"chat":%q,"limit":%d,"after":%d}`, w.chat, limit, at)
		} else if at > 0 {
			request = fmt.Sprintf(`{"chat":%q,"limit":%d,"before":%d}`, w.chat, limit, at)
		}
		items, more, code := w.ask(request)
		if code != "" {
			w.T.Fatalf("request %s: refused with %s", request, code)
		}
		page := make([]uint64, len(items))
		for i, it := range items {
			page[i] = it.Seq
		}
		if forward {
			seqs = append(seqs, page...)
		} else {
			seqs = append(page, seqs...)
		}
		if !more {
			return seqs
		}
		if at = seqs[0]; forward {
			at = seqs[len(seqs)-1]
		}
	}
}

func TestWalkMeetsEveryEventOnceWhileTheyAreStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.say(300, 5)
	stop := w.Persist()
	for round := range 6 {
		known := len(w.sent)
		for _, forward := range []bool{true, false} {
			w.say(5, 5)
			seqs := w.walk(forward, 7+round*10)
			if len(seqs) < known {
				t.Fatalf("forward %v: met %d events of %d", forward, len(seqs), known)
			}
			for i, seq := range seqs {
				if seq != w.sent[i].Seq {
					t.Fatalf("forward %v: event %d is %d, want %d", forward, i, seq, w.sent[i].Seq)
				}
			}
		}
		if round == 3 {
			stop()
		}
	}
}

func TestPageIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.say(8, 90_000)
	check := func(forward bool) {
		t.Helper()
		seqs := w.walk(forward, 200)
		if len(seqs) != len(w.sent) {
			t.Errorf("forward %v: met %d events of %d", forward, len(seqs), len(w.sent))
		}
		request := fmt.Sprintf(`{"chat":%q}`, w.chat)
		if forward {
			request = fmt.Sprintf(`{"chat":%q,"after":0}`, w.chat)
		}
		items, more, _ := w.ask(request)
		if want := schemas.PageBytesMax / 90_100; len(items) != want || !more {
			t.Errorf("forward %v: a page has %d events, more %v; want %d and more", forward, len(items), more, want)
		}
	}
	check(true)
	check(false)
	w.PersistAll()
	check(true)
	check(false)
	w.say(3, 90_000)
	check(true)
	check(false)
}

func TestPoisonInTheTailIsNotShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.say(3, 5)
	poison := func() {
		for _, data := range []string{`{"type":"message"`, `{"type":"message","id":"m","from":"zoe","body":{}}`} { // zoe is not in the chat
			if _, err := w.EdgeJS.Publish(t.Context(), w.subject(), []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	poison()
	w.say(3, 5)
	poison()
	w.wantRange(false, 0, 50)
	w.wantRange(true, 0, 50)
	w.PersistAll()
	w.wantRange(false, 0, 50)
	w.wantRange(true, 0, 50)
}

func TestRequestsThatAreNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.say(210, 1)
	for _, request := range []string{
		``, `[]`, `{}`, `{"chat":"direct.bob.alice"}`, `{"chat":"direct.*.bob"}`, `{"chat":7}`,
		`{"chat":"direct.alice.bob","before":1,"after":1}`, `{"chat":"direct.alice.bob","limit":0}`,
		`{"chat":"direct.alice.bob","limit":-1}`, `{"chat":"direct.alice.bob","before":-1}`,
		`{"chat":"direct.alice.bob","chat":"direct.alice.bob"}`,
	} {
		if _, _, code := w.ask(request); code != "invalid" {
			t.Errorf("request %s: code %q, want invalid", request, code)
		}
	}
	for request, want := range map[string]int{
		`{"chat":"direct.alice.bob"}`:                                 schemas.PageEventsDefault,
		`{"chat":"direct.alice.bob","limit":9999999}`:                 schemas.PageEventsMax,
		`{"chat":"direct.alice.bob","before":0}`:                      0,
		`{"chat":"direct.alice.bob","after":9007199254740991}`:        0,
		`{"chat":"direct.alice.zoe"}`:                                 0,
		`{"chat":"direct.alice.zoe","after":0}`:                       0,
		`{"chat":"direct.alice.bob","after":0,"a_later_member":true}`: schemas.PageEventsDefault,
	} {
		items, _, code := w.ask(request)
		if code != "" || len(items) != want {
			t.Errorf("request %s: %d events, code %q; want %d", request, len(items), code, want)
		}
	}
}

// gatedStore lets reads of heads through one by one.
type gatedStore struct {
	query.Store
	reached chan struct{}
	open    chan struct{}
	calls   atomic.Int32
	fail    atomic.Bool
}

func newGatedStore(s query.Store) *gatedStore {
	return &gatedStore{Store: s, reached: make(chan struct{}, 1000), open: make(chan struct{}, 1000)}
}

func (s *gatedStore) Head(ctx context.Context, chat schemas.Chat) (store.Head, bool, error) {
	s.calls.Add(1)
	if s.fail.Load() {
		return store.Head{}, false, fmt.Errorf("closed: %w", store.ErrUnavailable)
	}
	s.reached <- struct{}{}
	select {
	case <-s.open:
	case <-ctx.Done():
		return store.Head{}, false, ctx.Err()
	}
	return s.Store.Head(ctx, chat)
}

// send asks without waiting; the answers come to the subscription. Each has a
// subject of its own: NATS lets a worker answer a request once.
func (w *world) send(sub *nats.Subscription, request string) {
	w.T.Helper()
	reply := strings.TrimSuffix(sub.Subject, "*") + nats.NewInbox()[len(nats.InboxPrefix):]
	if err := w.Edge.PublishRequest(streams.HistorySubject, reply, []byte(request)); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) inbox() *nats.Subscription { return w.Subscribe(w.Edge.NewInbox() + ".*") }

func TestEqualRequestsShareAQueryThatBeginsAfterThem(t *testing.T) {
	t.Parallel()
	var gated *gatedStore
	w := newWorld(t, func(cfg *query.Config) {
		gated = newGatedStore(cfg.Store)
		cfg.Store = gated
	})
	w.say(5, 5)
	request := fmt.Sprintf(`{"chat":%q,"after":0}`, w.chat)
	sub := w.inbox()
	w.send(sub, request)
	<-gated.reached // the first is under way
	w.say(1, 5)
	for range 50 {
		w.send(sub, request)
	}
	// Requests come in order: once the last is refused, the others were taken in.
	if _, _, code := w.ask(`{}`); code != "invalid" {
		t.Fatalf("code %q, want invalid", code)
	}
	for range 10 {
		gated.open <- struct{}{}
	}
	for i := range 51 {
		msg, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		page, code := w.read(request, msg)
		if code != "" || i > 0 && len(page.Events) != 6 {
			t.Fatalf("answer %d has %d events, code %q; want 6", i, len(page.Events), code)
		}
	}
	if calls := gated.calls.Load(); calls != 2 {
		t.Errorf("the store was asked %d times, want 2: one for the first, one for the fifty", calls)
	}
}

func TestTooManyRequestsAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	var gated *gatedStore
	w := newWorld(t, func(cfg *query.Config) {
		gated = newGatedStore(cfg.Store)
		cfg.Store = gated
		cfg.QueriesMax, cfg.WaitingMax = 2, 4
	})
	w.say(5, 5)
	sub := w.inbox()
	for limit := range 2 {
		w.send(sub, fmt.Sprintf(`{"chat":%q,"after":0,"limit":%d}`, w.chat, limit+1))
		<-gated.reached
	}
	if _, _, code := w.ask(fmt.Sprintf(`{"chat":%q,"after":0,"limit":3}`, w.chat)); code != "overloaded" {
		t.Errorf("a third question: code %q, want overloaded", code)
	}
	for range 2 {
		w.send(sub, fmt.Sprintf(`{"chat":%q,"after":0,"limit":1}`, w.chat))
	}
	if _, _, code := w.ask(fmt.Sprintf(`{"chat":%q,"after":0,"limit":1}`, w.chat)); code != "overloaded" {
		t.Errorf("a fifth request: code %q, want overloaded", code)
	}
	for range 10 {
		gated.open <- struct{}{}
	}
	for range 4 {
		msg, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, code := w.read("one of the four", msg); code != "" {
			t.Errorf("one of the four was refused with %s", code)
		}
	}
	workerstest.WaitFor(t, "it serves again", func() bool {
		_, _, code := w.ask(fmt.Sprintf(`{"chat":%q,"after":0,"limit":3}`, w.chat))
		return code == ""
	})
}

func TestStoreThatIsGoneIsUnavailable(t *testing.T) {
	t.Parallel()
	var gated *gatedStore
	w := newWorld(t, func(cfg *query.Config) {
		gated = newGatedStore(cfg.Store)
		cfg.Store = gated
	})
	w.say(5, 5)
	gated.fail.Store(true)
	request := fmt.Sprintf(`{"chat":%q,"after":0}`, w.chat)
	if _, _, code := w.ask(request); code != "unavailable" {
		t.Errorf("code %q, want unavailable", code)
	}
	gated.fail.Store(false)
	gated.open <- struct{}{}
	if items, _, code := w.ask(request); code != "" || len(items) != 5 {
		t.Errorf("afterwards: %d events, code %q; want 5", len(items), code)
	}
}

func TestTailBeyondItsBoundIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *query.Config) { cfg.TailEventsMax = 20 })
	w.say(20, 5)
	w.wantRange(false, 0, 5)
	w.say(1, 5)
	for _, request := range []string{`{"chat":%q}`, `{"chat":%q,"after":0,"limit":10}`, `{"chat":%q,"before":9,"limit":10}`} {
		if _, _, code := w.ask(fmt.Sprintf(request, w.chat)); code != "overloaded" {
			t.Errorf("request %s: code %q, want overloaded", request, code)
		}
	}
	w.PersistAll()
	w.wantRange(false, 0, 5)
}

// laggingLog answers like a replica that has not the last event yet.
type laggingLog struct {
	query.Log
	lags atomic.Int32
}

func (l *laggingLog) After(ctx context.Context, chat schemas.Chat, after uint64, limit, bytesMax int) ([]schemas.StoredEvent, bool, error) {
	events, more, err := l.Log.After(ctx, chat, after, limit, bytesMax)
	if l.lags.Add(-1) >= 0 && len(events) > 0 {
		events = events[:len(events)-1]
	}
	return events, more, err
}

func TestReplicaThatLagsIsAskedAgain(t *testing.T) {
	t.Parallel()
	var log *laggingLog
	w := newWorld(t, func(cfg *query.Config) {
		log = &laggingLog{Log: cfg.Log}
		cfg.Log = log
	})
	w.say(3, 5)
	log.lags.Store(3)
	w.wantRange(false, 0, 50)
	if log.lags.Load() >= 0 {
		t.Error("the log was not asked again")
	}
	log.lags.Store(2)
	w.wantRange(true, 0, 50)
}

// staleHead tells of an empty chat once: what it was before all was stored.
type staleHead struct {
	query.Store
	told atomic.Bool
}

func (s *staleHead) Head(ctx context.Context, chat schemas.Chat) (store.Head, bool, error) {
	if s.told.CompareAndSwap(false, true) {
		return store.Head{}, false, nil
	}
	return s.Store.Head(ctx, chat)
}

func TestRangeThatIsStoredWhileItIsAskedForKeepsItsBound(t *testing.T) {
	t.Parallel()
	var stale *staleHead
	w := newWorld(t, func(cfg *query.Config) {
		stale = &staleHead{Store: cfg.Store}
		stale.told.Store(true)
		cfg.Store = stale
	})
	w.say(20, 5)
	w.PersistAll()
	stale.told.Store(false)
	w.wantRange(false, w.sent[10].Seq, 5)
	stale.told.Store(false)
	w.wantRange(true, w.sent[19].Seq, 5)
}

func TestNewestPageOfAQuietChatIsNotReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.say(100, 5)
	w.PersistAll()
	for _, limit := range []int{50, 50, 20, 1, 50} {
		w.wantRange(false, 0, limit)
	}
	if loads := w.metric("cache_loads_total"); loads != 1 {
		t.Errorf("the store was read %v times, want once", loads)
	}
	w.wantRange(false, 0, 200) // more than was read
	if loads := w.metric("cache_loads_total"); loads != 2 {
		t.Errorf("the store was read %v times, want twice", loads)
	}
	w.say(1, 5)
	w.wantRange(false, 0, 50)
}

func TestConfigReportsEveryFault(t *testing.T) {
	t.Parallel()
	err := query.Config{TailEventsMax: -1}.Validate()
	if err == nil {
		t.Fatal("an empty config is valid")
	}
	for _, want := range []string{"no connection", "no log", "no store", "tail of -1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not tell of %q", err, want)
		}
	}
	if _, err := query.New(query.Config{}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("New: %v", err)
	}
}
