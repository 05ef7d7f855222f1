package bench

import (
	"math"
	"testing"
)

// What grew in straight lines is found again.
func TestSizingFindsTheLines(t *testing.T) {
	t.Parallel()
	memory, start := linear{30e6, 600, 20}, linear{0.02, 2e-6, 3e-7}
	point := func(events, chats float64) logPoint {
		return logPoint{events, chats, start.at(events, chats), memory.at(events, chats)}
	}
	killed := point(1e6, 1e5)
	killed.seconds, killed.residentBytes = 4, 200e6
	s := sizingOf(point(0, 0), point(1e5, 1e5), point(1e6, 1e5), killed, 300e6)
	for _, c := range []struct{ got, want float64 }{
		{s.resident.base, memory.base}, {s.resident.perChat, memory.perChat}, {s.resident.perEvent, memory.perEvent},
		{s.stopped.base, start.base}, {s.stopped.perChat, start.perChat}, {s.stopped.perEvent, start.perEvent},
		{s.killed.at(1e6, 1e5), 4}, {s.residentAfter.at(1e6, 1e5), 200e6}, {s.disk.at(1e6, 0), 300e6}, {s.eventsPerChat, 10},
	} {
		if math.Abs(c.got-c.want) > 1e-9*math.Abs(c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

// A start that was faster with more in the log, by chance, says that what is more costs nothing.
func TestSizingNeverFalls(t *testing.T) {
	t.Parallel()
	full := logPoint{1e6, 1e5, 0.1, 50e6}
	s := sizingOf(logPoint{0, 0, 0.2, 30e6}, logPoint{1e5, 1e5, 0.15, 60e6}, full, full, 1)
	for name, l := range map[string]linear{"resident": s.resident, "resident after": s.residentAfter, "stopped": s.stopped, "killed": s.killed} {
		if l.perChat < 0 || l.perEvent < 0 {
			t.Errorf("%s falls: %+v", name, l)
		}
	}
}
