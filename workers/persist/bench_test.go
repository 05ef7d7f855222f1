package persist_test

import (
	"syscall"
	"testing"
	"time"

	"parley/workers/persist"
	"parley/workers/workerstest"
)

// BenchmarkPersist stores what waits in eight shards, over 1,000 chats: a store
// that was away and comes back. The server is in this process: its work counts in
// the CPU too.
func BenchmarkPersist(b *testing.B) {
	w := newWorld(b, 8)
	w.Say(b.N, 1000)
	before := cpuTime(b)
	b.ResetTimer()
	started := time.Now()
	p := w.start(func(cfg *persist.Config) {
		cfg.WindowMin, cfg.WindowMax = 0, 0 // the defaults
	})
	for shard, last := range w.Last {
		workerstest.WaitFor(b, "all is stored", func() bool { return w.Committed(shard) >= last })
	}
	elapsed := time.Since(started)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "events/s")
	b.ReportMetric((cpuTime(b)-before).Seconds()*1e6/float64(b.N), "cpu-µs/event")
	workerstest.WaitFor(b, "the batches are counted", func() bool { return p.metric("events_total") >= float64(b.N) })
	b.ReportMetric(p.metric("events_total")/p.metric("batches_total"), "rows/batch")
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
