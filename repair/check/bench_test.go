package check_test

import (
	"fmt"
	"testing"

	"parley/repair/check"
	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/store/sqlite/sqlitetest"
	"parley/workers/workerstest"
)

// BenchmarkCheck compares a log of 40,000 events in 1,000 chats and 8 shards with its
// store, and makes that store anew from it.
func BenchmarkCheck(b *testing.B) {
	w := newWorld(b, streamstest.Options{Settings: streams.Settings{Shards: 8}})
	var chats []schemas.Chat
	for i := range 1000 {
		chats = append(chats, workerstest.ChatNo(i))
	}
	const events = 40_000
	w.publish(events/len(chats), func(i int) []byte { return message(fmt.Sprintf("m%d", i), 100) }, chats...)
	w.persistAll()
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			wantClean(b, w.check(b, w.path, func(c *check.Config) { c.WindowEvents, c.Deep = 0, false }))
		}
		b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
	})
	for name, statements := range map[string][]string{
		"rebuild an empty store":  {"DELETE FROM events", "DELETE FROM buckets", "DELETE FROM chats", "DELETE FROM chats_by_user", "DELETE FROM shards"},
		"rebuild a damaged store": {"DELETE FROM events WHERE seq % 10 = 3", "DELETE FROM chats"},
		"rebuild an intact store": nil,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				path := w.copyStore(b)
				for _, statement := range statements {
					sqlitetest.Exec(b, path, statement)
				}
				b.StartTimer()
				w.rebuild(b, path)
			}
			b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
