package query_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"parley/schemas"
	"parley/workers/query"
	"parley/workers/store"
	"parley/workers/workerstest"
)

// newGroup is a world whose chat is a group: there anybody reacts.
func newGroup(t testing.TB, change func(*query.Config)) *world {
	t.Helper()
	w := newWorld(t, change)
	id, _ := schemas.ParseID("team")
	w.chat = schemas.GroupChat(id)
	return w
}

// put says ev in the world's chat.
func (w *world) put(ev schemas.Event) (seq uint64) {
	w.T.Helper()
	if ev.From.IsZero() {
		ev.From = user("alice")
	}
	if ev.Type == "" {
		ev.Type = schemas.Message
	}
	if ev.Body == nil && (ev.Type == schemas.Message || ev.Type == schemas.Edit) {
		ev.Body = textBody("hi")
	}
	seq = w.publishEvent(w.chat, ev)
	w.sent = append(w.sent, item{Seq: seq})
	return seq
}

// around asks for the one item at seq.
func (w *world) around(seq uint64, more string) schemas.Item {
	w.T.Helper()
	page, code := w.page(fmt.Sprintf(`{"chat":%q,"before":%d,"limit":1%s}`, w.chat, seq+1, more))
	if code != "" || len(page.Events) != 1 || page.Events[0].Seq != seq {
		w.T.Fatalf("page at %d: code %q, %d events", seq, code, len(page.Events))
	}
	it := page.Events[0]
	for i, former := range it.Former {
		if former.Seq >= it.Edited || i > 0 && former.Seq <= it.Former[i-1].Seq {
			w.T.Fatalf("former body %d of %d follows %v", former.Seq, it.Edited, it.Former[:i])
		}
	}
	return it
}

func number(i int) schemas.User { return user(fmt.Sprintf("u%03d", i)) }

func TestCrowdInTheLogIsNamedInOrder(t *testing.T) {
	t.Parallel()
	w := newGroup(t, nil)
	target := w.put(schemas.Event{})
	for i := range 60 {
		w.put(schemas.Event{Type: schemas.React, From: number(i), Target: target, Emoji: "👍"})
	}
	it := w.around(target, "")
	if len(it.Reactions) != 1 || it.Reactions[0].Count != 60 || len(it.Reactions[0].Users) != 50 || it.Reactions[0].Users[49] != number(49) {
		t.Fatalf("reactions %+v, want the first 50 of 60", it.Reactions)
	}
}

// More users than the store names react to one message.
func TestCrowdIsCountedExactly(t *testing.T) {
	t.Parallel()
	w := newGroup(t, nil)
	target := w.put(schemas.Event{})
	react := func(i int, remove bool) {
		w.put(schemas.Event{Type: schemas.React, From: number(i), Target: target, Emoji: "👍", Remove: remove})
	}
	for i := range 60 {
		react(i, false)
	}
	want := func(count, named int, last schemas.User) {
		t.Helper()
		for _, it := range []schemas.Item{w.around(target, ""), w.around(target, `,"raw":true`)} {
			if len(it.Reactions) != 1 || it.Reactions[0].Count != count || len(it.Reactions[0].Users) != named ||
				named > 0 && it.Reactions[0].Users[named-1] != last {
				t.Fatalf("reactions %+v, want %d of whom %d are named, %s the last", it.Reactions, count, named, last)
			}
		}
	}
	w.PersistAll()
	want(60, 50, number(49)) // only in the store
	react(55, false)         // again, without a name
	react(3, false)          // again, with one
	want(60, 49, number(49))
	react(60, false) // one more
	react(58, true)
	react(58, true)
	react(7, true)
	react(99, true) // never did
	want(59, 48, number(49))
	w.PersistAll()
	want(59, 50, number(51))
	for i := 10; i < 30; i++ {
		react(i, true)
	}
	for i := 61; i < 76; i++ {
		react(i, false)
	}
	want(54, 30, number(51))
	w.PersistAll()
	want(54, 50, number(71)) // also from a page in memory that is older
	for i := range 60 {
		react(i, true)
	}
	want(16, 12, number(71))
	for i := 60; i < 76; i++ {
		react(i, true)
	}
	if it := w.around(target, ""); len(it.Reactions) != 0 {
		t.Fatalf("reactions %+v, want none", it.Reactions)
	}
}

// While a message far back is edited and a crowd reacts to it, and all that is
// stored, each page shows what was acknowledged before it was asked for.
func TestAcknowledgedChangesAreInEveryLaterPage(t *testing.T) {
	t.Parallel()
	w := newGroup(t, nil)
	defer w.Persist()()
	target := w.put(schemas.Event{})
	for range 30 {
		w.put(schemas.Event{})
	}
	var edited, reacted atomic.Uint64
	done := make(chan struct{})
	var readers sync.WaitGroup
	pages := atomic.Uint64{}
	for reader := range 4 {
		readers.Go(func() {
			raw := ""
			if reader == 0 {
				raw = `,"raw":true`
			}
			for {
				select {
				case <-done:
					return
				default:
				}
				wantEdited, wantReacted := edited.Load(), reacted.Load()
				it := w.around(target, raw)
				pages.Add(1)
				if it.Edited < wantEdited {
					t.Errorf("edit %d was acknowledged; the page shows %d", wantEdited, it.Edited)
					return
				}
				count := 0
				if len(it.Reactions) > 0 {
					count = it.Reactions[0].Count
				}
				// One may be in the log and not yet known to be.
				if count < int(wantReacted) || count > int(reacted.Load())+1 {
					t.Errorf("%d to %d reacted; the page shows %d", wantReacted, reacted.Load(), count)
					return
				}
			}
		})
	}
	for i := range 250 {
		w.put(schemas.Event{Type: schemas.React, From: number(i), Target: target, Emoji: "👍"})
		reacted.Add(1)
		edited.Store(w.put(schemas.Event{Type: schemas.Edit, Target: target}))
	}
	close(done)
	readers.Wait()
	t.Logf("%d pages", pages.Load())
}

// What a page tells beside its events is bounded too: whatever was said, it fits
// into one message of NATS (read looks), and holds what its bounds allow.
func TestEverythingBesideEventsIsBounded(t *testing.T) {
	t.Parallel()
	w := newGroup(t, nil)
	first := w.put(schemas.Event{})
	for range 60 {
		w.put(schemas.Event{Type: schemas.Edit, Target: first, Body: textBody("short")})
	}
	large := []uint64{w.put(schemas.Event{}), w.put(schemas.Event{}), w.put(schemas.Event{})} // in one page
	for _, target := range large {
		for range 8 {
			w.put(schemas.Event{Type: schemas.Edit, Target: target, Body: textBody(strings.Repeat("x", 90_000))})
		}
		w.put(schemas.Event{Type: schemas.Edit, Target: target})
	}
	third := w.put(schemas.Event{})
	for i := range 2000 {
		emoji := fmt.Sprintf("%04d%s", i, strings.Repeat("e", 60))
		w.put(schemas.Event{Type: schemas.React, Target: third, Emoji: emoji, From: number(i)})
	}
	check := func() {
		t.Helper()
		if it := w.around(first, `,"raw":true`); len(it.Former) != schemas.FormerMax || it.Former[schemas.FormerMax-1].Seq != it.Edited-1 {
			t.Errorf("%d former bodies, the last of %d; want %d up to %d", len(it.Former), it.Former[len(it.Former)-1].Seq, schemas.FormerMax, it.Edited-1)
		}
		if it := w.around(large[0], `,"raw":true`); len(it.Former) != 5 || it.Former[4].Seq != it.Edited-1 {
			t.Errorf("%d former bodies of 90 kB, want 5", len(it.Former))
		}
		if n := len(w.around(third, "").Reactions); n < 500 || n > 1500 {
			t.Errorf("%d emojis are shown", n)
		}
		for range w.walkRaw() {
		}
	}
	check()
	w.PersistAll()
	check()
}

// walkRaw pages through the whole chat, and returns how many events it met.
func (w *world) walkRaw() (events []uint64) {
	w.T.Helper()
	for at := uint64(0); ; {
		page, code := w.page(fmt.Sprintf(`{"chat":%q,"after":%d,"limit":200,"raw":true}`, w.chat, at))
		if code != "" || len(page.Events) == 0 {
			w.T.Fatalf("page after %d: code %q, %d events", at, code, len(page.Events))
		}
		for _, e := range page.Events {
			events = append(events, e.Seq)
		}
		at = events[len(events)-1]
		if !page.More {
			break
		}
	}
	if len(events) != len(w.sent) {
		w.T.Errorf("met %d events of %d", len(events), len(w.sent))
	}
	return events
}

// A message that disappears does so from pages in memory and from the tail too,
// and so do its edits.
func TestWhatDisappearsIsInNoPage(t *testing.T) {
	t.Parallel()
	w := newGroup(t, nil)
	w.put(schemas.Event{})
	brief := w.put(schemas.Event{TTL: 2})
	w.put(schemas.Event{Type: schemas.Edit, Target: brief})
	w.PersistAll()
	tail := w.put(schemas.Event{TTL: 2})
	w.put(schemas.Event{Type: schemas.Edit, Target: tail})
	last := w.put(schemas.Event{})
	request := fmt.Sprintf(`{"chat":%q}`, w.chat)
	if page, code := w.page(request); code != "" || len(page.Events) != 6 {
		t.Fatalf("at once: code %q, %d events, want 6", code, len(page.Events))
	}
	var page schemas.HistoryAnswer
	workerstest.WaitFor(t, "four have disappeared", func() bool {
		page, _ = w.page(request)
		return len(page.Events) == 2
	})
	if e := page.Events[1]; e.Seq != last || e.N != 4 {
		t.Errorf("the last is %d and has n %d, want %d and 4", e.Seq, e.N, last)
	}
}

func TestPageInMemoryForgetsWhatDisappears(t *testing.T) {
	t.Parallel()
	w := newGroup(t, nil)
	w.put(schemas.Event{})
	w.put(schemas.Event{TTL: 2})
	w.PersistAll()
	request := fmt.Sprintf(`{"chat":%q}`, w.chat)
	if page, code := w.page(request); code != "" || len(page.Events) != 2 {
		t.Fatalf("at once: code %q, %d events, want 2", code, len(page.Events))
	}
	workerstest.WaitFor(t, "one has disappeared", func() bool {
		page, _ := w.page(request)
		return len(page.Events) == 1
	})
}

// What is left of a tail that was too large for a page, and was then taken back,
// leaves room in it: for nothing that does not follow.
func TestPageOfATailThatWasTakenBackHasNoHole(t *testing.T) {
	t.Parallel()
	w := newGroup(t, nil)
	w.put(schemas.Event{})
	w.put(schemas.Event{})
	w.PersistAll()
	var large []uint64
	for range 14 {
		large = append(large, w.put(schemas.Event{Body: textBody(strings.Repeat("x", 90_000))}))
	}
	for _, target := range large {
		w.put(schemas.Event{Type: schemas.Delete, Target: target})
	}
	for _, forward := range []bool{false, true} {
		seqs := w.walk(forward, 200)
		if len(seqs) != len(w.sent) {
			t.Fatalf("forward %v: met %d events of %d", forward, len(seqs), len(w.sent))
		}
		for i, seq := range seqs {
			if seq != w.sent[i].Seq {
				t.Fatalf("forward %v: event %d is %d, want %d", forward, i, seq, w.sent[i].Seq)
			}
		}
	}
}

// countingStore notes what is read.
type countingStore struct {
	query.Store
	mu    sync.Mutex
	reads []string
}

func (s *countingStore) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads = append(s.reads, what)
}

func (s *countingStore) taken() (reads []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reads, s.reads = s.reads, nil
	return reads
}

func (s *countingStore) Head(ctx context.Context, chat schemas.Chat) (store.Head, bool, error) {
	s.note("head")
	return s.Store.Head(ctx, chat)
}

func (s *countingStore) Page(ctx context.Context, chat schemas.Chat, r store.Range) ([]store.Event, bool, error) {
	s.note("page")
	return s.Store.Page(ctx, chat, r)
}

func (s *countingStore) Events(ctx context.Context, chat schemas.Chat, seqs []uint64) ([]store.Event, error) {
	s.note("events")
	return s.Store.Events(ctx, chat, seqs)
}

func (s *countingStore) Edits(ctx context.Context, chat schemas.Chat, of []store.Event) ([]store.Edit, error) {
	s.note("edits")
	return s.Store.Edits(ctx, chat, of)
}

func (s *countingStore) Reactions(ctx context.Context, chat schemas.Chat, of []store.Event) (map[uint64][]store.Reactions, error) {
	s.note("reactions")
	return s.Store.Reactions(ctx, chat, of)
}

func (s *countingStore) Reacted(ctx context.Context, chat schemas.Chat, bucket int64, target uint64, emoji string, by schemas.User) (bool, error) {
	s.note("reacted")
	return s.Store.Reacted(ctx, chat, bucket, target, emoji, by)
}

func TestPageIsFewReads(t *testing.T) {
	t.Parallel()
	var counting *countingStore
	w := newGroup(t, func(cfg *query.Config) {
		counting = &countingStore{Store: cfg.Store}
		cfg.Store = counting
	})
	target := w.put(schemas.Event{})
	w.put(schemas.Event{Type: schemas.Edit, Target: target})
	w.put(schemas.Event{Type: schemas.React, Target: target, Emoji: "👍"})
	middle := w.put(schemas.Event{})
	w.put(schemas.Event{})
	w.PersistAll()
	want := func(rest string, want ...string) {
		t.Helper()
		if _, code := w.page(fmt.Sprintf(`{"chat":%q%s}`, w.chat, rest)); code != "" {
			t.Fatalf("refused with %s", code)
		}
		if diff := gocmp.Diff(want, counting.taken()); diff != "" {
			t.Errorf("request of %s: reads (-want +got):\n%s", rest, diff)
		}
	}
	want(fmt.Sprintf(`,"before":%d`, middle), "head", "page", "reactions")
	want(`,"after":0,"raw":true`, "head", "page", "reactions", "edits")
	want(``, "head", "page", "reactions")
	want(``)
	want(`,"limit":2`)
	want(fmt.Sprintf(`,"after":%d`, w.sent[len(w.sent)-1].Seq))
	if walked := w.metric("tail_events"); walked != 0 {
		t.Errorf("the log was read %v times, and has nothing that is not stored", walked)
	}
	w.put(schemas.Event{Type: schemas.Edit, Target: target})
	w.around(w.sent[len(w.sent)-1].Seq, `,"raw":true`) // the edit is shown, and its message is not
	if reads := counting.taken(); !slices.Contains(reads, "events") {
		t.Errorf("reads %v: the message of an edit was not looked up", reads)
	}
}

// An edit never shows what was deleted, wherever the three are.
func TestEditOfWhatWasDeletedIsEmpty(t *testing.T) {
	t.Parallel()
	w := newGroup(t, nil)
	secret := textBody("secret")
	target := w.put(schemas.Event{Body: secret})
	before := w.put(schemas.Event{Type: schemas.Edit, Target: target, Body: secret})
	w.PersistAll()
	w.put(schemas.Event{Type: schemas.Delete, Target: target})
	after := w.put(schemas.Event{Type: schemas.Edit, Target: target, Body: secret})
	others := w.put(schemas.Event{Type: schemas.Edit, Target: target, Body: secret, From: user("bob")})
	w.put(schemas.Event{Type: schemas.Delete, Target: target})
	check := func() {
		t.Helper()
		if it := w.around(target, ""); it.Edited != before {
			t.Errorf("the last edit is %d, want %d: what came after the delete is none", it.Edited, before)
		}
		for _, seq := range []uint64{target, before, after, others} {
			for _, raw := range []string{"", `,"raw":true`} {
				it := w.around(seq, raw)
				if strings.Contains(string(it.JSON), "secret") || len(it.Former) > 0 || it.Deleted != (seq == target) {
					t.Errorf("item %d: deleted %v, %d former bodies, %s", seq, it.Deleted, len(it.Former), it.JSON)
				}
			}
		}
	}
	check()
	w.PersistAll()
	check()
	late := w.put(schemas.Event{Type: schemas.Edit, Target: target, Body: secret})
	if it := w.around(late, ""); strings.Contains(string(it.JSON), "secret") {
		t.Errorf("an edit of what is deleted in the store: %s", it.JSON)
	}
}
