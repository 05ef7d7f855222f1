package edge

import (
	"syscall"
	"testing"
	"time"

	"parley/streams"
)

func BenchmarkEventFrame(b *testing.B) {
	chat := testChat(b, "direct.alice.bob")
	stored := streams.Stored{Seq: 1<<40 + 7, Prev: 1<<40 + 6, Time: storedTime}
	b.ReportAllocs()
	for b.Loop() {
		_ = eventFrame(chat, stored, smallEvent)
	}
}

// BenchmarkFanout delivers events to 1,000 sessions over loopback. The readers'
// work is in the process's CPU time too.
func BenchmarkFanout(b *testing.B) {
	k := newSink(b, 1000)
	v, u := newLiveSink(b, k, "bob")
	chat := testChat(b, "direct.alice.bob")
	seq := uint64(1 << 40)
	for _, perPass := range []int{1, 16} {
		b.Run(map[int]string{1: "one-event-a-pass", 16: "sixteen-events-a-pass"}[perPass], func(b *testing.B) {
			b.ReportAllocs()
			start := cpuTime(b)
			events := 0
			for b.Loop() {
				for range perPass {
					v.handleStored(&u.audience, chat, streams.Stored{Seq: seq + 1, Prev: seq, Time: storedTime}, smallEvent)
					seq++
				}
				v.handOn()
				k.loop.passOnce()
				events += perPass
			}
			deliveries := float64(events * len(k.sessions))
			b.ReportMetric(deliveries/(cpuTime(b)-start).Seconds(), "deliveries/cpu-s")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
		})
	}
}

// BenchmarkHandleStored is an event's way through a live loop to one session's outbox.
func BenchmarkHandleStored(b *testing.B) {
	k := newSink(b, 1)
	v, u := newLiveSink(b, k, "bob")
	chat := testChat(b, "direct.alice.bob")
	seq := uint64(1 << 40)
	b.ReportAllocs()
	for b.Loop() {
		v.handleStored(&u.audience, chat, streams.Stored{Seq: seq + 1, Prev: seq, Time: storedTime}, smallEvent)
		seq++
		v.handOn()
		k.loop.passOnce()
	}
}

// cpuTime is the processor time that the process has had.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
