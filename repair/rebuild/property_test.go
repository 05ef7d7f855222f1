package rebuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"parley/schemas"
	"parley/streams"
	"parley/workers/persist/foldtest"
	"parley/workers/store"
	"parley/workers/store/sqlite"
	"parley/workers/store/sqlite/sqlitetest"
)

func tempDir(t *rapid.T) string {
	dir, err := os.MkdirTemp("", "parley")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// drawDamage draws statements that damage what a log from a sequence up can
// repair. Of chats of which the log has lost what disappeared, that is less.
func drawDamage(t *rapid.T, from uint64, holes string) (statements []string) {
	for range rapid.IntRange(1, 6).Draw(t, "damages") {
		seq := rapid.IntRange(0, 60).Draw(t, "at")
		whole := "chat NOT IN (" + holes + ")"
		// The columns that a row has from the event itself yield to its delete.
		within := fmt.Sprintf("%s AND seq >= %d AND seq - %d", whole, from, foldtest.Layout.At(0).FirstSeq())
		chat := fmt.Sprintf("chat = 'direct.alice.bob%d'", rapid.IntRange(0, 3).Draw(t, "of"))
		statements = append(statements, rapid.SampledFrom([]string{
			fmt.Sprintf("DELETE FROM events WHERE %s >= %d", within, seq),
			fmt.Sprintf("DELETE FROM events WHERE %s <= %d", within, seq),
			fmt.Sprintf("DELETE FROM events WHERE %s = %d", within, seq),
			fmt.Sprintf("DELETE FROM events WHERE seq >= %d AND %s AND %s", from, chat, whole),
			fmt.Sprintf("UPDATE events SET n = n + 3, prev = 1, time = 5, author = 'mallory', id = 'x', type = 'later', event = '{}' WHERE %s = %d AND stamp = seq", within, seq),
			fmt.Sprintf("UPDATE events SET edited = 0, body = '' WHERE edited >= %d AND deleted = 0", from),
			fmt.Sprintf("UPDATE events SET body = 'x' WHERE edited >= %d AND deleted = 0", from),
			fmt.Sprintf("UPDATE events SET deleted = 0, event = '{}', body = 'x' WHERE deleted >= %d AND type = 'message'", from),
			fmt.Sprintf("UPDATE events SET pinned = 1 - pinned WHERE pinned_stamp >= %d", from),
			fmt.Sprintf("DELETE FROM edits WHERE seq >= %d", from),
			fmt.Sprintf("UPDATE edits SET body = 'x', stamp = 0 WHERE seq >= %d", from),
			fmt.Sprintf("DELETE FROM reactions WHERE seq >= %d", from),
			fmt.Sprintf("UPDATE reactions SET is_on = 1 - is_on, seq = 0 WHERE seq >= %d", from),
			fmt.Sprintf("DELETE FROM members_by_chat WHERE since >= %d", from),
			fmt.Sprintf("UPDATE members_by_chat SET role = 'admin', stamp = 0 WHERE stamp >= %d", from),
			fmt.Sprintf("UPDATE members_by_chat SET since = 0, visible = 1 WHERE since >= %d", from),
			fmt.Sprintf("UPDATE chats_by_user SET role = 'left' WHERE stamp >= %d AND %s", from, whole),
			fmt.Sprintf("DELETE FROM chats_by_user WHERE since >= %d AND %s", from, whole),
			fmt.Sprintf("UPDATE chats_by_user SET read = 0, read_n = 0 WHERE read >= %d AND %s", from, whole),
			fmt.Sprintf("DELETE FROM chats WHERE %s AND last_seq >= %d AND %s", chat, from, whole),
			fmt.Sprintf("DELETE FROM chats WHERE last_seq >= %d AND %s", from, whole),
			fmt.Sprintf("UPDATE chats SET last_n = last_n + 7, bucket_events = 0, bucket_bytes = 9, last_time = 4 WHERE last_seq >= %d AND %s", from, whole),
			fmt.Sprintf("UPDATE chats SET created = 3 WHERE last_seq >= %d AND disappearing = 0", from),
			fmt.Sprintf("UPDATE chats SET last_seq = last_seq - 5, stamp = stamp - 5, last_n = 0 WHERE last_seq >= %d AND %s", from, whole),
			"DELETE FROM shards",
			"UPDATE shards SET committed = committed - 7",
			fmt.Sprintf("DELETE FROM buckets WHERE first_seq >= %d AND %s", from, whole),
		}).Draw(t, "damage"))
	}
	return statements
}

// disappear takes out of the log and the store's file what has disappeared by a
// time, and returns a query for the chats of which it was.
func disappear(t *rapid.T, log *foldtest.Log, path string, now time.Time) (holes string) {
	chats := []string{"''"}
	for i, msg := range log.Msgs {
		if msg == nil {
			continue
		}
		ev, err := schemas.DecodeEvent(msg.Data)
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := ev.Expires(msg.Time); ok && !now.Before(at) {
			chat, _ := streams.TimelineChat(msg.Subject)
			chats = append(chats, "'"+chat.String()+"'")
			log.Msgs[i] = nil
		}
	}
	for _, table := range []string{"events", "edits", "reactions"} {
		sqlitetest.Exec(t, path, fmt.Sprintf("DELETE FROM %s WHERE expires > 0 AND expires <= %d", table, now.UnixNano()))
	}
	sqlitetest.Exec(t, path, fmt.Sprintf("UPDATE chats SET last_event = '' WHERE last_expires > 0 AND last_expires <= %d", now.UnixNano()))
	return "SELECT chat FROM chats WHERE chat IN (" + strings.Join(chats, ", ") + ")"
}

// maskSizes dumps a store without the sizes of the buckets of those chats of whose
// rows some disappear, or were blanked below a sequence: those cannot be counted again.
func maskSizes(t *rapid.T, path string, below uint64) []string {
	t.Helper()
	masked := strings.TrimSuffix(path, ".db") + "-masked.db"
	sqlitetest.Exec(t, path, fmt.Sprintf("VACUUM INTO '%s'", masked))
	defer os.Remove(masked)
	sqlitetest.Exec(t, masked, fmt.Sprintf(`UPDATE chats SET bucket_events = 0, bucket_bytes = 0 WHERE disappearing = 1
		OR chat IN (SELECT chat FROM events WHERE seq < %d AND (deleted > 0 OR type = 'edit'))`, below))
	return sqlitetest.Dump(t, masked)
}

// Whatever the log can repair is repaired, to the last column, however the log is
// cut into batches and wherever the rebuild is interrupted.
func TestRebuildMakesTheSameStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runs, refusals := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		log := foldtest.Draw(t)
		letters := make(map[uint64]struct{})
		stored := &foldtest.Log{First: log.First, Msgs: slices.Clone(log.Msgs)}
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(log.Msgs)-1), 0, 3).Draw(t, "letters") {
			letters[log.First+uint64(i)] = struct{}{}
			stored.Msgs[i] = nil
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.db", runs))
		now := foldtest.Start
		st := foldtest.OpenStore(t, path, func() time.Time { return now })
		defer st.Close()
		stored.Store(t, st)
		sqlitetest.Exec(t, path, fmt.Sprintf("INSERT OR REPLACE INTO shards VALUES ('0', %d)", log.First+uint64(len(log.Msgs))-1))
		now = foldtest.Start.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "now")) * time.Second)
		holes := disappear(t, log, path, now)
		if rapid.Bool().Draw(t, "expires") {
			log.Expired = log.First + uint64(rapid.IntRange(0, len(log.Msgs)-1).Draw(t, "expired"))
		}
		from, last, _ := log.Bounds(context.Background(), foldtest.Layout.At(0))
		// A chat that is forgotten in between is counted from its rows as they are then.
		headsMax, counted := 100, from
		if rapid.Bool().Draw(t, "forgets") {
			headsMax, counted = rapid.IntRange(1, 2).Draw(t, "heads"), last+1
		}
		dump := func() []string { return maskSizes(t, path, counted) }
		want := dump()
		for _, statement := range drawDamage(t, from, holes) {
			sqlitetest.Exec(t, path, statement)
		}

		rebuildOnce := func(cancelAt int) error {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			r, err := New(Config{
				JetStream: foldtest.NoJetStream{}, Log: log, Layout: foldtest.Layout, Store: &cancelingStore{Store: st, left: cancelAt, cancel: cancel},
				BatchEventsMax: rapid.SampledFrom([]int{1, 7, 2000}).Draw(t, "batch"),
			})
			if err != nil {
				t.Fatal(err)
			}
			r.cfg.HeadsMax = headsMax
			if err := runShard(ctx, r, log, letters); err != nil && !(errors.Is(err, context.Canceled) && cancelAt >= 0) {
				return err
			}
			return nil
		}
		if rapid.Bool().Draw(t, "interrupted") {
			rebuildOnce(rapid.IntRange(0, 5).Draw(t, "after"))
		}
		for range 2 {
			if err := rebuildOnce(-1); errors.Is(err, ErrBeyondLog) {
				refusals++
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, dump()); diff != "" {
				t.Fatalf("the rows differ; -want +got:\n%s", diff)
			}
		}
	})
	t.Logf("%d of %d runs were refused: of a chat with messages that disappear, too much was gone", refusals, runs)
}

// cancelingStore cancels at a commit; left below 0 means never.
type cancelingStore struct {
	*sqlite.Store
	left   int
	cancel func()
}

func (s *cancelingStore) Commit(ctx context.Context, b store.Batch) error {
	if s.left == 0 {
		s.cancel()
	}
	s.left--
	return s.Store.Commit(ctx, b)
}

// Where rows older than the log are gone, a bucket looks emptier than it was: a
// row is not written a second time, into another bucket than it is in.
func TestRebuildWritesNoRowIntoASecondBucket(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, _ := schemas.ParseUser("alice")
		id, _ := schemas.ParseID("m")
		chat := schemas.DirectChat(a, a)
		log := &foldtest.Log{First: foldtest.Layout.At(0).FirstSeq()}
		batch := store.ChatBatch{Chat: chat, Opened: true}
		at := rapid.IntRange(1, 5).Draw(t, "second bucket begins at")
		expired := rapid.IntRange(1, 6).Draw(t, "log begins at")
		for i := range 7 {
			seq := log.First + uint64(i)
			e := store.Event{Seq: seq, N: uint64(i + 1), Time: time.Unix(1_700_000_000, 0), Type: schemas.Message, Author: a, ID: id,
				JSON: []byte(`{"type":"message","id":"m","from":"alice","body":{"kind":"text","text":"hi"}}`)}
			if i > 0 {
				e.Prev = seq - 1
			}
			if i >= at {
				e.Bucket = 1
			}
			if i == 0 || i == at {
				batch.Buckets = append(batch.Buckets, store.Bucket{Bucket: e.Bucket, FirstSeq: seq})
			}
			batch.Events = append(batch.Events, e)
			batch.Head = store.Head{Created: e.Time, LastSeq: seq, LastN: e.N, LastTime: e.Time, Bucket: e.Bucket}
			log.Msgs = append(log.Msgs, &jetstream.RawStreamMsg{Subject: foldtest.Layout.At(0).Timeline(chat), Sequence: seq, Time: e.Time, Data: e.JSON})
		}
		log.Expired = log.First + uint64(expired)
		path := filepath.Join(tempDir(t), "parley.db")
		st := foldtest.OpenStore(t, path, func() time.Time { return foldtest.Start })
		defer st.Close()
		if err := st.Commit(context.Background(), store.Batch{Shard: "0", Committed: log.First + 6, Chats: []store.ChatBatch{batch}}); err != nil {
			t.Fatal(err)
		}
		before := sqlitetest.Dump(t, path)
		r, err := New(Config{JetStream: foldtest.NoJetStream{}, Log: log, Layout: foldtest.Layout, Store: st, BatchEventsMax: rapid.IntRange(1, 3).Draw(t, "batch")})
		if err != nil {
			t.Fatal(err)
		}
		err = runShard(context.Background(), r, log, nil)
		if refused := expired <= at; errors.Is(err, ErrBeyondLog) != refused || !refused && err != nil {
			t.Fatalf("%v; want it refused: %t", err, refused)
		}
		rows := func(lines []string) (events []string) {
			for _, line := range lines {
				if strings.HasPrefix(line, "events ") {
					events = append(events, line)
				}
			}
			return events
		}
		if diff := cmp.Diff(rows(before), rows(sqlitetest.Dump(t, path))); diff != "" {
			t.Fatalf("-before +after:\n%s", diff)
		}
	})
}
