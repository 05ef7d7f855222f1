package persist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/store/sqlite"
	"parley/workers/store/sqlite/sqlitetest"
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

// noJetStream takes nothing: nothing here is poison, and nobody listens.
type noJetStream struct{ jetstream.JetStream }

func (noJetStream) Conn() *nats.Conn { return nil }

// deliver is a round from what was delivered to the commit. An owner that was
// overtaken stops, and nothing else may stop it.
func (s *shard) deliver(entries []entry) {
	p := s.densePrefix(context.Background(), entries)
	err := s.commit(context.Background(), context.Background(), p.events, p.upto)
	if err := cmp.Or(err, p.cut); err != nil && !errors.Is(err, errTakenOver) {
		panic(err)
	}
}

// openTestStore opens a store for which it is the same time for ever.
func openTestStore(t *rapid.T, path string, now time.Time) *sqlite.Store {
	st, err := sqlite.Open(context.Background(), path, sqlite.Clock(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return st
}

// However a log is cut into deliveries, with what was delivered before, with
// holes, with owners that die in a commit or between commit and ack and with
// owners that wake after others, the store holds what one pass makes; be it that
// some of it has disappeared by then.
func TestAnyDeliveryMakesTheSameStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		log := drawLog(t)
		now := logStart.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "now")) * time.Second)
		oncePath, path := filepath.Join(dir, fmt.Sprintf("once%d.db", runs)), filepath.Join(dir, fmt.Sprintf("many%d.db", runs))
		once := openTestStore(t, oncePath, now)
		defer once.Close()
		owner(t, once, log).deliver(log.entries(0, len(log.msgs)))

		st := openTestStore(t, path, now)
		defer st.Close()
		owners := []*shard{owner(t, st, log)}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			at := rapid.IntRange(0, len(owners)-1).Draw(t, "owner")
			s := owners[at]
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0: // dies, and comes again
				owners[at] = owner(t, st, log)
				continue
			case 1: // another takes over while it is paused
				owners = append(owners, owner(t, st, log))
				continue
			}
			// Is given a part of what is not acknowledged, or was.
			to := rapid.IntRange(0, len(log.msgs)).Draw(t, "to")
			from := rapid.IntRange(0, to).Draw(t, "from")
			switch rapid.IntRange(0, 3).Draw(t, "how") {
			case 0: // paused between comparing the row and committing
				s.commitWithoutComparing(log.entries(from, to))
			case 1: // dies in the commit, of a store that takes chat by chat
				s.commitChats(log.entries(from, to), rapid.IntRange(0, 5).Draw(t, "chats"))
				owners[at] = owner(t, st, log)
			default:
				s.deliver(log.entries(from, to))
			}
		}
		owner(t, st, log).deliver(log.entries(0, len(log.msgs)))
		if diff := gocmp.Diff(sqlitetest.Dump(t, oncePath), sqlitetest.Dump(t, path)); diff != "" {
			t.Fatalf("the rows differ; -want +got:\n%s", diff)
		}
	})
}

// foldNext folds what may be committed of entries; ok is false where nothing may.
func (s *shard) foldNext(entries []entry) (batch store.Batch, ok bool) {
	p := s.densePrefix(context.Background(), entries)
	if p.upto < s.next {
		return batch, false
	}
	ctx := context.Background()
	if err := s.heads.load(ctx, s.cfg.Store, p.events); err != nil {
		panic(err)
	}
	targets, err := loadTargets(ctx, s.cfg.Store, s.heads.get, p.events)
	if err != nil {
		panic(err)
	}
	return fold(s.shard.Token, s.heads.get, targets, p.events, p.upto), true
}

// commitChats commits the first n chats of a batch alone, and not the shard's row.
// It is the shard's owner.
func (s *shard) commitChats(entries []entry, n int) {
	if err := s.compareRow(context.Background()); err != nil {
		return
	}
	batch, ok := s.foldNext(entries)
	if !ok {
		return
	}
	batch.Chats = batch.Chats[:min(n, len(batch.Chats))]
	batch.Committed = s.row
	if err := s.cfg.Store.Commit(context.Background(), batch); err != nil {
		panic(err)
	}
}

// commitWithoutComparing is a commit whose comparison was true once: this owner's
// row and heads are those of its last commit.
func (s *shard) commitWithoutComparing(entries []entry) {
	batch, ok := s.foldNext(entries)
	if !ok {
		return
	}
	if err := s.cfg.Store.Commit(context.Background(), batch); err != nil {
		panic(err)
	}
	s.row, s.next = batch.Committed, batch.Committed+1
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
