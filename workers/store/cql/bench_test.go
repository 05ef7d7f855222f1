package cql

import (
	"fmt"
	"testing"

	"parley/schemas"
	"parley/workers/store"
	"parley/workers/store/storetest"
)

// BenchmarkCommit stores batches of 2,000 events of that many busy chats, from
// which each takes its turn.
func BenchmarkCommit(b *testing.B) {
	for _, chats := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("chats=%d", chats), func(b *testing.B) {
			s := open(b)
			l := storetest.NewTimeline("0", 1<<40)
			l.BucketEvents = store.BucketEventsMax
			const events = 2000
			rows, next := 0, 0
			for b.Loop() {
				b.StopTimer()
				messages := make([]storetest.Message, events)
				for i := range messages {
					messages[i].Chat = storetest.DirectChat(fmt.Sprintf("user-%05d", next), fmt.Sprintf("user-%05d", chats+next))
					next = (next + 1) % chats
				}
				batch := l.Batch(messages...)
				b.StartTimer()
				if err := s.Commit(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				rows += events
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkPage reads the newest 50 events of a chat of 1,000, and of one with
// sixty closed buckets.
func BenchmarkPage(b *testing.B) {
	for _, buckets := range []int64{1, 60} {
		b.Run(fmt.Sprintf("buckets=%d", buckets), func(b *testing.B) {
			s := open(b)
			l := storetest.NewTimeline("0", 1<<40)
			l.BucketEvents = 1000
			chat := storetest.DirectChat("alice", "bob")
			for range buckets {
				messages := make([]storetest.Message, l.BucketEvents)
				for i := range messages {
					messages[i].Chat = chat
				}
				if err := s.Commit(b.Context(), l.Batch(messages...)); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if events, more, err := s.Page(b.Context(), chat, store.Range{Limit: schemas.PageEventsDefault}); len(events) != 50 || !more || err != nil {
					b.Fatal(len(events), more, err)
				}
			}
		})
	}
}
