package sqlite

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"parley/schemas"
	"parley/workers/store"
	"parley/workers/store/storetest"
)

// BenchmarkCommit stores batches of 2,000 events in 100 chats, synced.
func BenchmarkCommit(b *testing.B) {
	s := open(b)
	l := storetest.NewTimeline("0", 1<<40)
	l.BucketEvents = store.BucketEventsMax
	const events = 2000
	var messages []storetest.Message
	for i := range events {
		chat := storetest.DirectChat(fmt.Sprintf("user-%04d", i%100*37%100), fmt.Sprintf("user-%04d", 500+i%100))
		messages = append(messages, storetest.Message{Chat: chat})
	}
	b.ReportAllocs()
	cpu, rows := time.Duration(0), 0
	for b.Loop() {
		b.StopTimer()
		batch := l.Batch(messages...)
		before := cpuTime()
		b.StartTimer()
		if err := s.Commit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		cpu += cpuTime() - before
		rows += events
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(rows), "cpu-ns/row")
}

// BenchmarkPage reads the newest 50 events of a chat of 10,000.
func BenchmarkPage(b *testing.B) {
	s := open(b)
	l := storetest.NewTimeline("0", 1<<40)
	l.BucketEvents = store.BucketEventsMax
	chat := storetest.DirectChat("alice", "bob")
	for range 10 {
		var messages []storetest.Message
		for i := range 2000 {
			other := chat
			if i%2 == 1 {
				other = storetest.DirectChat("alice", fmt.Sprintf("user-%d", i%100))
			}
			messages = append(messages, storetest.Message{Chat: other})
		}
		if err := s.Commit(b.Context(), l.Batch(messages...)); err != nil {
			b.Fatal(err)
		}
	}
	for _, readers := range []int{1, 10} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			b.SetParallelism(readers)
			b.ReportAllocs()
			before := cpuTime()
			run := func(pb *testing.PB) {
				for pb.Next() {
					if events, more, err := s.Page(b.Context(), chat, store.Range{Limit: schemas.PageEventsDefault}); len(events) != 50 || !more || err != nil {
						b.Error(len(events), more, err)
						return
					}
				}
			}
			b.RunParallel(run)
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/page")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pages/s")
		})
	}
}

// cpuTime is the processor time of this process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
