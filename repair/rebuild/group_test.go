package rebuild

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/workers/persist/fold"
	"parley/workers/persist/foldtest"
	"parley/workers/store"
	"parley/workers/store/sqlite"
	"parley/workers/store/sqlite/sqlitetest"
)

// groupLog is the log of a group: it is made, renamed, and then used.
func groupLog(t *testing.T) *foldtest.Log {
	t.Helper()
	alice, bob := foldtest.User("alice"), foldtest.User("bob1")
	id, _ := schemas.ParseID("g0")
	log := &foldtest.Log{First: foldtest.Layout.At(0).FirstSeq()}
	for i, ev := range []schemas.Event{
		{Type: schemas.GroupEvent, Change: schemas.Created, Name: "first name", Members: []schemas.User{bob}, Count: 2, History: schemas.HistoryAll},
		{Type: schemas.GroupEvent, Change: schemas.Renamed, Name: "second name", Count: 2},
		{Type: schemas.Message, Body: []byte(`{}`)},
		{Type: schemas.Message, Body: []byte(`{}`)},
	} {
		ev.From = alice
		ev.ID, _ = schemas.ParseID(fmt.Sprint("m", i))
		data, err := schemas.EncodeEvent(&ev)
		if err != nil {
			t.Fatal(err)
		}
		log.Msgs = append(log.Msgs, &jetstream.RawStreamMsg{Subject: foldtest.Layout.At(0).Timeline(schemas.GroupChat(id)),
			Sequence: log.First + uint64(i), Time: foldtest.Start.Add(time.Duration(i) * time.Second), Data: data})
	}
	return log
}

// rebuildFrom applies what is left of the log to st.
func rebuildFrom(t *testing.T, log *foldtest.Log, st *sqlite.Store) error {
	t.Helper()
	r, err := New(Config{JetStream: foldtest.NoJetStream{}, Log: log, Layout: foldtest.Layout, Store: st, BatchEventsMax: 2, RetryWithin: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return runShard(t.Context(), r, log, nil)
}

// runShard applies what is left of the log, but for the letters.
func runShard(ctx context.Context, r *Rebuilder, log *foldtest.Log, letters map[uint64]struct{}) (err error) {
	s := newShard(r, foldtest.Layout.At(0), letters)
	s.from, s.last, _ = log.Bounds(ctx, s.shard)
	if s.row, err = r.cfg.Store.Committed(ctx, s.shard.Token); err != nil {
		return err
	}
	return s.run(ctx)
}

// The head of a group is gone, and the log does not have the events that named it.
// The rebuild reads the name, the size and the history mode from their rows.
func TestRebuildOfAGroupWithoutItsHead(t *testing.T) {
	t.Parallel()
	log := groupLog(t)
	path := filepath.Join(t.TempDir(), "parley.db")
	st := foldtest.OpenStore(t, path, func() time.Time { return foldtest.Start })
	defer st.Close()
	if err := rebuildFrom(t, log, st); err != nil {
		t.Fatal(err)
	}
	want := sqlitetest.Dump(t, path)
	log.Expired = log.First + 2
	sqlitetest.Exec(t, path, "DELETE FROM chats")
	if err := rebuildFrom(t, log, st); err != nil {
		t.Fatal(err)
	}
	if got := sqlitetest.Dump(t, path); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// All rows of the newest bucket are gone that are older than the log. The rebuild has
// no row that says where the bucket begins, and begins it with the log's first event.
func TestRebuildOpensABucketWithoutRows(t *testing.T) {
	t.Parallel()
	log := groupLog(t)
	st := foldtest.OpenStore(t, filepath.Join(t.TempDir(), "parley.db"), func() time.Time { return foldtest.Start })
	defer st.Close()
	s := &shard{Rebuilder: &Rebuilder{cfg: Config{Store: st}}}
	head := store.Head{LastSeq: 1, LastN: 5, Bucket: 3}
	e, err := fold.Decode(foldtest.Layout, foldtest.Layout.At(0), log.Entries(3, 4)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.countBucket(t.Context(), e.Chat, &head, e.Seq); err != nil {
		t.Fatal(err)
	}
	chat := fold.Batch("0", func(schemas.Chat) store.Head { return head }, nil, []fold.Event{e}, e.Seq).Chats[0]
	if len(chat.Buckets) != 1 || chat.Buckets[0] != (store.Bucket{Bucket: 3, FirstSeq: e.Seq}) || chat.Events[0].Bucket != 3 {
		t.Errorf("the event is in bucket %d, and %v begin; want bucket 3 to begin there", chat.Events[0].Bucket, chat.Buckets)
	}
}
