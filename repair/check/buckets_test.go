package check_test

import (
	"fmt"
	"testing"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/store"
	"parley/workers/store/sqlite/sqlitetest"
	"parley/workers/workerstest"
)

// TestBucketsAreRebuilt: of a chat whose bucket was closed by its events and of
// one whose bucket was closed by its bytes, whatever of the rows, buckets and heads
// is gone comes back as it was, also where the log begins within either bucket.
func TestBucketsAreRebuilt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1, MaxBytes: 256 << 20}})
	many, large := workerstest.ChatNo(1), workerstest.ChatNo(2)
	const largeBytes = 100_000
	w.publish(store.BucketEventsMax+50, func(i int) []byte { return message(fmt.Sprintf("m%d", i), 10) }, many)
	w.publish(store.BucketBytesMax/largeBytes+20, func(i int) []byte { return message(fmt.Sprintf("m%d", i), largeBytes) }, large)
	w.persistAll()
	original := sqlitetest.Dump(t, w.path)
	buckets := 0
	for _, chat := range []schemas.Chat{many, large} {
		buckets += int(sqlitetest.Exec(t, w.path, fmt.Sprintf("UPDATE buckets SET first_seq = first_seq WHERE chat = '%s'", chat)))
	}
	if buckets != 4 {
		t.Fatalf("the chats have %d buckets, want two each", buckets)
	}
	first := w.Layout.At(0).FirstSeq()
	for _, gone := range []uint64{0, 1000, store.BucketEventsMax + 30} {
		if gone > 0 {
			w.purge(gone)
		}
		t.Run(fmt.Sprintf("the log lacks the first %d", gone), func(t *testing.T) {
			path := w.copyStore(t)
			for _, statement := range []string{
				fmt.Sprintf("DELETE FROM events WHERE seq >= %d AND (seq %% 3 = 1 OR bucket = 1)", first+gone),
				"DELETE FROM chats",
				fmt.Sprintf("DELETE FROM buckets WHERE first_seq >= %d", first+max(gone, 1)),
			} {
				sqlitetest.Exec(t, path, statement)
			}
			if report := w.check(t, path, nil); report.Shards[0].Missing == 0 {
				t.Error("nothing is missing")
			}
			w.rebuild(t, path)
			wantDump(t, path, original)
			wantClean(t, w.check(t, path, nil))
		})
	}
}
