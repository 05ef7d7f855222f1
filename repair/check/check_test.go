package check_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"parley/repair/check"
	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/store/sqlite/sqlitetest"
	"parley/workers/workerstest"
)

// filled is a world with seven chats in two shards, and four dead letters; all of
// it is persisted.
func filled(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 2}})
	var chats []schemas.Chat
	for i := range 6 {
		chats = append(chats, workerstest.ChatNo(i))
	}
	text := func(i int) []byte { return message(fmt.Sprintf("m%d", i), 10) }
	w.publish(60, text, chats...)
	w.publish(1, func(int) []byte { return []byte("unreadable") }, chats[:3]...)
	w.publish(1, func(int) []byte { return []byte(`{"type":"message","id":"m","from":"mallory","body":{}}`) }, chats[0])
	w.publish(60, text, append(chats, workerstest.ChatNo(9))...)
	w.persistAll()
	return w
}

// TestDamageIsFoundAndRepaired damages a store in one way at a time. The check
// names it; a rebuild makes the store that it was, to the last column; and a second
// rebuild changes nothing.
func TestDamageIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	w := filled(t)
	original := sqlitetest.Dump(t, w.path)
	report := w.check(t, w.path, nil)
	wantClean(t, report)
	if s0, s1 := report.Shards[0], report.Shards[1]; s0.GivenUp+s1.GivenUp != 4 || s0.Compared+s1.Compared != 60*6+60*7 || s0.NotStored+s1.NotStored != 0 {
		t.Errorf("given up %d, compared %d, not stored %d", s0.GivenUp+s1.GivenUp, s0.Compared+s1.Compared, s0.NotStored+s1.NotStored)
	}
	run := func(name string, from uint64) {
		t.Run(name, func(t *testing.T) {
			for _, damage := range damages(from) {
				t.Run(damage.name, func(t *testing.T) { testDamage(t, w, original, damage) })
			}
		})
	}
	run("the log has all", w.Layout.At(0).FirstSeq())
	from := w.purge(100)
	wantClean(t, w.check(t, w.path, nil))
	run("rows are older than the log", from)
	if letters := countLetters(t, w); letters != 4 {
		t.Errorf("%d dead letters, want the 4 that there were", letters)
	}

	t.Run("an empty store", func(t *testing.T) { testEmptyStore(t, w) })
}

// testDamage damages a copy of the store. The check finds it, and the rebuild repairs it.
func testDamage(t *testing.T, w *world, original []string, damage damage) {
	path := w.damagedCopy(t, damage.statements)
	damaged := w.check(t, path, nil)
	kinds := slices.Sorted(maps.Keys(found(damaged)))
	if !slices.Equal(kinds, damage.want) {
		t.Errorf("found %v, want %v", found(damaged), damage.want)
		for _, s := range damaged.Shards {
			t.Log(s.Findings)
		}
	}
	for range 2 {
		w.rebuild(t, path)
		wantDump(t, path, original)
	}
	wantClean(t, w.check(t, path, nil))
}

func testEmptyStore(t *testing.T, w *world) {
	path := w.copyStore(t)
	for _, table := range []string{"events", "buckets", "chats", "chats_by_user", "shards"} {
		sqlitetest.Exec(t, path, "DELETE FROM "+table)
	}
	report := w.check(t, path, nil)
	for i, shard := range w.Layout.All() {
		first, last := w.bounds(shard)
		if got, want := report.Shards[i].NotStored, last+1-first; got != want || report.Differences() != 0 {
			t.Errorf("%d events are not stored, %d differ; want %d and none", got, report.Differences(), want)
		}
	}
	w.rebuild(t, path)
	wantClean(t, w.check(t, path, nil))
	rebuilt := sqlitetest.Dump(t, path)
	w.rebuild(t, path)
	wantDump(t, path, rebuilt)
}

type damage struct {
	name       string
	statements []string
	want       []check.Kind // sorted
}

// damages are those that a log from a sequence up can repair.
func damages(from uint64) []damage {
	within := func(format string, args ...any) string {
		return fmt.Sprintf(format, args...) + fmt.Sprintf(" AND seq >= %d", from)
	}
	small := workerstest.ChatNo(1).String()
	return []damage{
		{"nothing", nil, nil},
		{"rows in the middle are gone", []string{within("DELETE FROM events WHERE n IN (75, 76, 90)")}, []check.Kind{check.Gap, check.Missing}},
		{"a chat's first rows are gone", []string{within("DELETE FROM events WHERE chat = '%s' AND n BETWEEN 1 AND 70", small)}, []check.Kind{check.Gap, check.Missing}},
		{"a chat's last row is gone", []string{within("DELETE FROM events WHERE chat = '%s' AND n = 120", small)}, []check.Kind{check.Head, check.Missing}},
		{"all rows of a chat are gone", []string{within("DELETE FROM events WHERE chat = '%s'", small)}, []check.Kind{check.Head, check.Missing}},
		{"a head is gone", []string{fmt.Sprintf("DELETE FROM chats WHERE chat = '%s'", small)}, []check.Kind{check.Head}},
		{"all heads are gone", []string{"DELETE FROM chats WHERE last_seq >= " + fmt.Sprint(from)}, []check.Kind{check.Head}},
		{"a head is set back", []string{fmt.Sprintf("UPDATE chats SET last_seq = last_seq - 20, stamp = stamp - 20, last_n = last_n - 3 WHERE chat = '%s'", small)}, []check.Kind{check.Head}},
		{"a head has another n", []string{fmt.Sprintf("UPDATE chats SET last_n = last_n - 3 WHERE chat = '%s'", small)}, []check.Kind{check.Head}},
		{"a head has another size", []string{fmt.Sprintf("UPDATE chats SET bucket_bytes = bucket_bytes - 3 WHERE chat = '%s'", small)}, []check.Kind{check.Head}},
		{"a head has another bucket", []string{fmt.Sprintf("UPDATE chats SET bucket = 1 WHERE chat = '%s'", small)}, []check.Kind{check.Head}},
		{"the shards' rows are gone", []string{"DELETE FROM shards"}, nil},
		{"the shards' rows are set back, and rows above are gone", []string{
			"UPDATE shards SET committed = committed - 100", "DELETE FROM events WHERE n = 110",
		}, []check.Kind{check.Gap}},
		{"everything in the log's range is gone", []string{
			within("DELETE FROM events WHERE TRUE"), fmt.Sprintf("DELETE FROM chats WHERE last_seq >= %d", from), "DELETE FROM shards",
		}, nil},
		{"rows have another content", []string{within(`UPDATE events SET event = '{"type":"message"}' WHERE n IN (80, 118)`)}, []check.Kind{check.Different, check.Head}},
		{"rows have another author", []string{within(`UPDATE events SET author = 'mallory', id = 'x', time = 17 WHERE n IN (80, 118)`)}, []check.Kind{check.Different}},
		{"a row has another n", []string{within("UPDATE events SET n = n + 5 WHERE chat = '%s' AND n = 110", small)}, []check.Kind{check.Order}},
		{"a row has another prev", []string{within("UPDATE events SET prev = prev - 1 WHERE chat = '%s' AND n = 110", small)}, []check.Kind{check.Gap}},
	}
}
