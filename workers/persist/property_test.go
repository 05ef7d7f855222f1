package persist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

var testLayout = streams.NewLayout(1)

// memoryLog is a shard's log; deleted sequences are nil.
type memoryLog struct {
	first   uint64
	expired uint64 // all below it is gone
	msgs    []*jetstream.RawStreamMsg
}

func (l *memoryLog) Layout() streams.Layout { return testLayout }

func (l *memoryLog) Sequence(_ context.Context, shard streams.Shard, seq uint64) (*jetstream.RawStreamMsg, error) {
	if msg := l.msgs[seq-l.first]; msg != nil {
		return msg, nil
	}
	return nil, fmt.Errorf("read %d: %w", seq, streams.ErrGone)
}

func (l *memoryLog) Bounds(context.Context, streams.Shard) (first, last uint64, err error) {
	return max(l.first, l.expired), l.first + uint64(len(l.msgs)) - 1, nil
}

// entries are the messages from index i up to j, as the consumer delivers them.
func (l *memoryLog) entries(i, j int) (entries []entry) {
	for _, msg := range l.msgs[i:j] {
		if msg != nil {
			entries = append(entries, entry{seq: msg.Sequence, subject: msg.Subject, time: msg.Time, data: msg.Data})
		}
	}
	return entries
}

func drawLog(t *rapid.T) *memoryLog {
	l := &memoryLog{first: testLayout.At(0).FirstSeq()}
	n := rapid.IntRange(1, 60).Draw(t, "length")
	for i := range n {
		what := rapid.IntRange(0, 9).Draw(t, "what")
		if what == 0 && i > 0 {
			l.msgs = append(l.msgs, nil) // deleted; not the first, which would be lost
			continue
		}
		a, _ := schemas.ParseUser("alice")
		b, _ := schemas.ParseUser(fmt.Sprintf("bob%d", rapid.IntRange(0, 3).Draw(t, "chat")))
		chat := schemas.DirectChat(a, b)
		kind := "message"
		if what == 1 {
			kind = "later" // a type that this version does not know gets a row and no n
		}
		l.msgs = append(l.msgs, &jetstream.RawStreamMsg{
			Subject:  testLayout.Shard(chat).Timeline(chat),
			Sequence: l.first + uint64(i),
			Time:     time.Unix(1_700_000_000+int64(i), 0),
			Data:     fmt.Appendf(nil, `{"type":%q,"id":"m%d","from":"alice","body":{"kind":"text","text":"hi"}}`, kind, i),
		})
	}
	return l
}

// owner is a shard's state as it is after a takeover.
func owner(t *rapid.T, st Store, l *memoryLog) *shard {
	p, err := New(Config{JetStream: noJetStream{}, Log: l, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	s := newShard(p, testLayout.At(0))
	if s.row, s.next, err = s.position(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

// noJetStream is never called: nothing here is poison.
type noJetStream struct{ jetstream.JetStream }

// deliver is a round from what was delivered to the commit. An owner that was
// overtaken stops, and nothing else may stop it.
func (s *shard) deliver(entries []entry) {
	p := s.densePrefix(context.Background(), entries)
	err := s.commit(context.Background(), context.Background(), p.events, p.upto)
	if err := cmp.Or(err, p.cut); err != nil && !errors.Is(err, errTakenOver) {
		panic(err)
	}
}

func openTestStore(t *rapid.T, dir string) *sqlite.Store {
	st, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return st
}

// dump tells all that persist is responsible for.
func dump(t *rapid.T, st *sqlite.Store) string {
	var b strings.Builder
	ctx := context.Background()
	committed, err := st.Committed(ctx, "0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, "committed", committed)
	for i := range 4 {
		a, _ := schemas.ParseUser("alice")
		c, _ := schemas.ParseUser(fmt.Sprintf("bob%d", i))
		chat := schemas.DirectChat(a, c)
		head, ok, err := st.Head(ctx, chat)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, chat, ok, head)
		events, _, err := st.Page(ctx, chat, store.Range{Forward: true, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			fmt.Fprintf(&b, "  %d %d %d %d %s %s %s %s %s\n", e.Seq, e.Prev, e.N, e.Bucket, e.Time, e.Type, e.Author, e.ID, e.JSON)
		}
	}
	return b.String()
}

// However a log is cut into deliveries, with what was delivered before, with
// holes, with owners that die between commit and ack and with owners that wake
// after others, the store holds what one pass makes.
func TestAnyDeliveryMakesTheSameStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		log := drawLog(t)
		once := openTestStore(t, filepath.Join(dir, fmt.Sprintf("once%d.db", runs)))
		defer once.Close()
		owner(t, once, log).deliver(log.entries(0, len(log.msgs)))
		want := dump(t, once)

		st := openTestStore(t, filepath.Join(dir, fmt.Sprintf("many%d.db", runs)))
		defer st.Close()
		owners := []*shard{owner(t, st, log)}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			at := rapid.IntRange(0, len(owners)-1).Draw(t, "owner")
			s := owners[at]
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0: // dies, and comes again
				owners[at] = owner(t, st, log)
			case 1: // another takes over while it is paused
				owners = append(owners, owner(t, st, log))
			default: // is given a part of what is not acknowledged, or was
				to := rapid.IntRange(0, len(log.msgs)).Draw(t, "to")
				from := rapid.IntRange(0, to).Draw(t, "from")
				if rapid.Bool().Draw(t, "compares late") {
					// paused between comparing the row and committing
					s.commitWithoutComparing(log.entries(from, to))
				} else {
					s.deliver(log.entries(from, to))
				}
			}
		}
		owner(t, st, log).deliver(log.entries(0, len(log.msgs)))
		if got := dump(t, st); got != want {
			t.Fatalf("stored:\n%s\nwant:\n%s", got, want)
		}
	})
}

// commitWithoutComparing is a commit whose comparison was true once: this owner's
// row and heads are those of its last commit.
func (s *shard) commitWithoutComparing(entries []entry) {
	p := s.densePrefix(context.Background(), entries)
	if p.upto < s.next {
		return
	}
	ctx := context.Background()
	if err := s.heads.load(ctx, s.cfg.Store, p.events); err != nil {
		panic(err)
	}
	targets, err := loadTargets(ctx, s.cfg.Store, s.heads.get, p.events)
	if err != nil {
		panic(err)
	}
	batch := fold(s.shard.Token, s.heads.get, targets, p.events, p.upto)
	if err := s.cfg.Store.Commit(ctx, batch); err != nil {
		panic(err)
	}
	s.row, s.next = p.upto, p.upto+1
	s.heads.apply(&batch)
}

func TestFoldOpensBucketsAtTheirBounds(t *testing.T) {
	t.Parallel()
	a, _ := schemas.ParseUser("alice")
	chat := schemas.DirectChat(a, a)
	ev := &schemas.Event{Type: schemas.Message}
	one := func(head store.Head, bytes int) store.ChatBatch {
		e := event{entry: entry{seq: 100, data: make([]byte, bytes)}, chat: chat, event: ev}
		return fold("0", func(schemas.Chat) store.Head { return head }, nil, []event{e}, 100).Chats[0]
	}
	for _, test := range []struct {
		name   string
		head   store.Head
		bytes  int
		bucket int64
		opens  bool
	}{
		{"the first event", store.Head{}, 10, 0, true},
		{"the first event, however large", store.Head{}, store.BucketBytesMax + 1, 0, true},
		{"room for one more", store.Head{LastSeq: 9, Bucket: 3, BucketEvents: store.BucketEventsMax - 1}, 10, 3, false},
		{"full by events", store.Head{LastSeq: 9, Bucket: 3, BucketEvents: store.BucketEventsMax}, 10, 4, true},
		{"exactly full by bytes", store.Head{LastSeq: 9, Bucket: 3, BucketEvents: 5, BucketBytes: store.BucketBytesMax - 10}, 10, 3, false},
		{"full by bytes", store.Head{LastSeq: 9, Bucket: 3, BucketEvents: 5, BucketBytes: store.BucketBytesMax - 9}, 10, 4, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := one(test.head, test.bytes)
			if b.Events[0].Bucket != test.bucket || b.Head.Bucket != test.bucket {
				t.Errorf("bucket %d, want %d", b.Events[0].Bucket, test.bucket)
			}
			if (len(b.Buckets) == 1) != test.opens {
				t.Errorf("opens %v, want opening %v", b.Buckets, test.opens)
			}
			if test.opens && (b.Head.BucketEvents != 1 || b.Head.BucketBytes != int64(test.bytes)) {
				t.Errorf("a bucket that was opened has %d events and %d bytes", b.Head.BucketEvents, b.Head.BucketBytes)
			}
		})
	}
}

func TestFoldCountsMessagesAlone(t *testing.T) {
	t.Parallel()
	a, _ := schemas.ParseUser("alice")
	chat := schemas.DirectChat(a, a)
	var events []event
	for i, kind := range []schemas.EventType{schemas.Message, "later", schemas.Message, "later"} {
		events = append(events, event{entry: entry{seq: uint64(10 + i)}, chat: chat, event: &schemas.Event{Type: kind}})
	}
	b := fold("0", func(schemas.Chat) store.Head { return store.Head{LastSeq: 9, LastN: 5} }, nil, events, 13).Chats[0]
	for i, want := range []uint64{6, 6, 7, 7} {
		if b.Events[i].N != want {
			t.Errorf("event %d has n %d, want %d", i, b.Events[i].N, want)
		}
	}
	if b.Head.LastN != 7 {
		t.Errorf("the head has n %d, want 7", b.Head.LastN)
	}
}

// The log's beginning expired under a running owner: it goes on at the log's
// first sequence, without asking for each that is gone.
func TestHoleThatReachesTheLogsBeginningIsSkippedAtOnce(t *testing.T) {
	t.Parallel()
	log := &memoryLog{first: testLayout.At(0).FirstSeq(), msgs: make([]*jetstream.RawStreamMsg, 3*holesMax)}
	p, err := New(Config{JetStream: noJetStream{}, Log: log, Store: rowStore{}})
	if err != nil {
		t.Fatal(err)
	}
	s := newShard(p, testLayout.At(0))
	s.next = log.first
	a, _ := schemas.ParseUser("alice")
	chat := schemas.DirectChat(a, a)
	last := log.first + 3*holesMax - 1
	delivered := []entry{{seq: last, subject: s.shard.Timeline(chat), data: []byte(`{"type":"later","id":"m","from":"alice"}`)}}
	log.expired = last
	prefix := s.densePrefix(t.Context(), delivered)
	if prefix.cut != nil || prefix.upto != last || len(prefix.events) != 1 {
		t.Errorf("the prefix has %d events, reaches %d and is cut by %v; want one at %d", len(prefix.events), prefix.upto, prefix.cut, last)
	}
	log.expired = 0
	prefix = s.densePrefix(t.Context(), delivered)
	if prefix.cut == nil || prefix.upto != log.first+holesMax-1 {
		t.Errorf("a hole within the log: the prefix reaches %d and is cut by %v; want %d and a cut", prefix.upto, prefix.cut, log.first+holesMax-1)
	}
}

// rowStore has no rows.
type rowStore struct{ Store }

func (rowStore) Committed(context.Context, string) (uint64, error) { return 0, nil }
