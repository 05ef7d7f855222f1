package receipts_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/receipts"
	"parley/workers/store"
	"parley/workers/store/sqlite"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server, a store, and one chat in which something was said.
type world struct {
	*workerstest.World
	chat schemas.Chat
	said []uint64 // seqs
}

var (
	alice, bob = workerstest.User("alice"), workerstest.User("bob")
)

// newWorld is one in which so many messages of alice are stored.
func newWorld(t testing.TB, said int, options streamstest.Options) *world {
	t.Helper()
	w := &world{World: workerstest.NewWorld(t, options), chat: schemas.DirectChat(alice, bob)}
	w.say(said, "")
	w.PersistAll()
	return w
}

// start runs a worker on a store until stop is called.
func (w *world) start(st receipts.Store) (stop func()) {
	w.T.Helper()
	conn := w.Connect(w.T, streams.WorkerComponent)
	js := streamstest.JetStream(w.T, conn)
	worker, err := receipts.New(receipts.Config{
		Conn: conn, JetStream: js, Log: streams.NewLog(js, w.Layout), Store: st,
		CollectFor: 10 * time.Millisecond, RetryMax: 20 * time.Millisecond,
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return workerstest.Run(w.T, worker.Run)
}

// say has n messages of alice in the log; extra are more members, with a comma before.
func (w *world) say(n int, extra string) {
	w.T.Helper()
	for range n {
		event := fmt.Sprintf(`{"type":"message","id":"m%d","from":"alice","body":{"kind":"text","text":"hi"}%s}`, len(w.said), extra)
		ack, err := w.EdgeJS.Publish(w.T.Context(), w.Layout.Shard(w.chat).Timeline(w.chat), []byte(event))
		if err != nil {
			w.T.Fatal(err)
		}
		w.said = append(w.said, ack.Sequence)
	}
}

func (w *world) mark(subject string, seq uint64) {
	w.T.Helper()
	data, err := json.Marshal(schemas.StoredMark{Seq: seq})
	if err == nil {
		err = errors.Join(w.Edge.Publish(subject, data), w.Edge.Flush())
	}
	if err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) told(kind streams.MarkKind, seq uint64) {
	w.T.Helper()
	w.mark(w.Layout.Shard(w.chat).Mark(w.chat, kind, bob), seq)
}

// rows are what is stored of bob.
type rows struct {
	receipt                store.Receipt
	read, readN, delivered uint64
}

func (w *world) rows() (r rows) {
	w.T.Helper()
	receipts, err := w.Store.Receipts(context.Background(), w.chat, []schemas.User{bob})
	if err != nil {
		w.T.Fatal(err)
	}
	chats, err := w.Store.UserChats(context.Background(), bob, store.AnyKind, 10)
	if err != nil {
		w.T.Fatal(err)
	}
	r.receipt = receipts[bob]
	for _, chat := range chats {
		r.read, r.readN, r.delivered = chat.Read, chat.ReadN, chat.Delivered
	}
	return r
}

func (w *world) want(want rows) {
	w.T.Helper()
	workerstest.WaitFor(w.T, fmt.Sprintf("bob's rows are %+v", want), func() bool { return w.rows() == want })
}

// wantNothingLeft waits until every mark was acknowledged.
func (w *world) wantNothingLeft() {
	w.T.Helper()
	workerstest.WaitFor(w.T, "no mark is left", func() bool {
		stream, err := w.JetStream.Stream(context.Background(), streams.ReceiptsStream)
		return err == nil && stream.CachedInfo().State.Msgs == 0
	})
}

func TestMarksBecomeRows(t *testing.T) {
	t.Parallel()
	for name, nodes := range map[string]int{"one node": 1, "a cluster": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testMarks(t, newWorld(t, 5, streamstest.Options{Nodes: nodes}))
		})
	}
}

func testMarks(t *testing.T, w *world) {
	w.start(w.Store)
	w.told(streams.MarkDelivered, w.said[3])
	w.want(rows{receipt: store.Receipt{Delivered: w.said[3]}, delivered: w.said[3]})
	w.told(streams.MarkRead, w.said[1])
	w.want(rows{store.Receipt{Delivered: w.said[3], Read: w.said[1]}, w.said[1], 2, w.said[3]})
	w.told(streams.MarkRead, w.said[0]) // lower
	w.told(streams.MarkRead, w.said[4])
	w.want(rows{store.Receipt{Delivered: w.said[3], Read: w.said[4]}, w.said[4], 5, w.said[3]})
	w.wantNothingLeft()
}

// TestPrivateMarksAreTheUsersOwn: others see nothing of them, the user's sessions do.
func TestPrivateMarksAreTheUsersOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, streamstest.Options{})
	own := w.Subscribe(streams.Personal(bob))
	w.start(w.Store)
	w.told(streams.MarkRead, w.said[0])
	w.mark(streams.PrivateRead(bob, w.chat), w.said[1])
	w.want(rows{receipt: store.Receipt{Read: w.said[0]}, read: w.said[1], readN: 2})
	msg, err := own.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var notice schemas.Notice
	if err := json.Unmarshal(msg.Data, &notice); err != nil || notice.Change != schemas.ChatRead || notice.Seq != w.said[1] || notice.Chat != w.chat || !notice.Hidden {
		t.Errorf("bob's sessions are told %s, %v", msg.Data, err)
	}
	w.wantNothingLeft()
}

// TestMarkWaitsForItsEvent: a mark that comes before its event is stored comes again.
func TestMarkWaitsForItsEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, streamstest.Options{})
	w.start(w.Store)
	w.say(1, "")
	w.told(streams.MarkRead, w.said[1])
	w.told(streams.MarkRead, w.said[0])
	w.want(rows{store.Receipt{Read: w.said[0]}, w.said[0], 1, 0})
	workerstest.Persist(t, w.Env, w.Store)
	w.want(rows{store.Receipt{Read: w.said[1]}, w.said[1], 2, 0})
	w.wantNothingLeft()
}

// TestReadOfWhatHasDisappeared: the messages up to it are counted all the same.
func TestReadOfWhatHasDisappeared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, streamstest.Options{})
	w.say(2, `,"ttl":1`)
	w.say(1, "")
	workerstest.PersistAll(t, w.Env, w.Store)
	workerstest.WaitFor(t, "two of four have disappeared", func() bool {
		events, _, err := w.Store.Page(context.Background(), w.chat, store.Range{Limit: 10})
		return err == nil && len(events) == 2
	})
	w.start(w.Store)
	w.told(streams.MarkRead, w.said[2])
	w.want(rows{store.Receipt{Read: w.said[2]}, w.said[2], 3, 0})
}

// failing is a store that is away for a while.
type failing struct {
	*sqlite.Store
	left atomic.Int32 // how often it still fails
}

func (f *failing) Mark(ctx context.Context, marks []store.Mark) error {
	if f.left.Add(-1) >= 0 {
		return store.ErrUnavailable
	}
	return f.Store.Mark(ctx, marks)
}

// TestMarksOutliveTheStoresAbsence: what was not stored is not acknowledged, and what
// was given to a worker that ended comes to another.
func TestMarksOutliveTheStoresAbsence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, streamstest.Options{})
	away := &failing{Store: w.Store}
	away.left.Store(1 << 30)
	stop := w.start(away)
	w.told(streams.MarkRead, w.said[0])
	workerstest.WaitFor(t, "the store refused a mark", func() bool { return away.left.Load() < 1<<30 })
	if got := w.rows(); got != (rows{}) {
		t.Errorf("stored %+v", got)
	}
	stop()
	w.start(w.Store)
	w.told(streams.MarkDelivered, w.said[1])
	w.want(rows{store.Receipt{Delivered: w.said[1], Read: w.said[0]}, w.said[0], 1, w.said[1]})
	w.wantNothingLeft()
}

// TestWhatIsNoMarkIsDropped: it does not hold up the others, and does not come again.
func TestWhatIsNoMarkIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, streamstest.Options{})
	w.start(w.Store)
	shard := w.Layout.Shard(w.chat)
	for subject, data := range map[string]string{
		shard.Mark(w.chat, streams.MarkRead, bob):      `{"seq":0}`,
		shard.Mark(w.chat, streams.MarkDelivered, bob): `{"seq":9007199254740993}`,
		"user.bob.read.direct.bob.alice":               `{"seq":7}`,
		"user.bob.read.nothing":                        `{"seq":7}`,
		"chat.0.direct.bob.alice.read.bob":             `{"seq":7}`,
		"chat.0.group.g.read.bob":                      `seq`,
	} {
		if err := w.Edge.Publish(subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	w.told(streams.MarkRead, w.said[0])
	w.want(rows{store.Receipt{Read: w.said[0]}, w.said[0], 1, 0})
	w.wantNothingLeft()
}

// TestLostStreamIsMadeAgain: a server alone loses the marks, and the worker goes on.
func TestLostStreamIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, streamstest.Options{Administrator: true})
	w.start(w.Store)
	w.told(streams.MarkDelivered, w.said[0])
	w.want(rows{receipt: store.Receipt{Delivered: w.said[0]}, delivered: w.said[0]})
	if err := w.JetStream.DeleteStream(t.Context(), streams.ReceiptsStream); err != nil {
		t.Fatal(err)
	}
	workerstest.WaitFor(t, "the stream is there again", func() bool {
		_, err := w.JetStream.Consumer(context.Background(), streams.ReceiptsStream, streams.ReceiptsConsumer)
		return err == nil || !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrConsumerNotFound)
	})
	w.told(streams.MarkRead, w.said[0])
	w.want(rows{store.Receipt{Delivered: w.said[0], Read: w.said[0]}, w.said[0], 1, w.said[0]})
}

// TestAnyOrderEndsAlike: of whatever marks, by several workers and in any order, the
// highest stay.
func TestAnyOrderEndsAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20, streamstest.Options{})
	w.start(w.Store)
	w.start(w.Store)
	readers := 0
	rapid.Check(t, func(rt *rapid.T) {
		readers++
		reader := workerstest.User(fmt.Sprintf("reader%d", readers))
		want := map[streams.MarkKind]uint64{}
		for range rapid.IntRange(1, 30).Draw(rt, "marks") {
			kind := rapid.SampledFrom([]streams.MarkKind{streams.MarkRead, streams.MarkDelivered}).Draw(rt, "kind")
			seq := rapid.SampledFrom(w.said).Draw(rt, "seq")
			want[kind] = max(want[kind], seq)
			w.mark(w.Layout.Shard(w.chat).Mark(w.chat, kind, reader), seq)
		}
		workerstest.WaitFor(t, fmt.Sprintf("%s has %v", reader, maps.Collect(maps.All(want))), func() bool {
			got, err := w.Store.Receipts(context.Background(), w.chat, []schemas.User{reader})
			return err == nil && got[reader] == (store.Receipt{Delivered: want[streams.MarkDelivered], Read: want[streams.MarkRead]})
		})
	})
	w.wantNothingLeft()
}
