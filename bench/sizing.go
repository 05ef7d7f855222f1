package bench

import (
	"fmt"
	"time"
)

// sizing tells what a NATS node needs, from what was measured of three: an empty
// one, one with an event in each chat, and one with many. Each need is taken to
// grow in a straight line with chats and with events.
type sizing struct {
	eventsPerChat float64 // as measured: an estimate has chats in this proportion

	stopped, killed         linear // seconds to start, after SIGTERM and after SIGKILL
	resident, residentAfter linear // bytes, at rest and just after the start that follows a SIGKILL
	disk                    linear // bytes
}

// linear is base + perChat·chats + perEvent·events.
type linear struct{ base, perChat, perEvent float64 }

func (l linear) at(events, chats float64) float64 {
	return l.base + l.perChat*chats + l.perEvent*events
}

// line goes through the values of three points, of which the first is empty and
// the second has an event in each of the third's chats. Noise cannot make it fall.
func line(empty, shallow, full logPoint, value func(logPoint) float64) linear {
	l := linear{base: value(empty)}
	l.perEvent = max(0, (value(full)-value(shallow))/(full.events-shallow.events))
	l.perChat = max(0, (value(shallow)-l.base)/shallow.chats-l.perEvent)
	return l
}

func sizingOf(empty, shallow, full, killed logPoint, diskBytes int64) sizing {
	s := sizing{eventsPerChat: full.events / full.chats}
	s.disk.perEvent = float64(diskBytes) / full.events
	s.stopped = line(empty, shallow, full, func(p logPoint) float64 { return p.seconds })
	s.resident = line(empty, shallow, full, func(p logPoint) float64 { return p.residentBytes })
	// After a kill every block is read again: what that takes goes with the events. What
	// the server then knows of the blocks it forgets when nobody asked for two minutes.
	s.killed = linear{base: empty.seconds, perEvent: max(0, (killed.seconds-empty.seconds)/killed.events)}
	s.residentAfter = s.resident
	s.residentAfter.perEvent += max(0, (killed.residentBytes-s.resident.at(killed.events, killed.chats))/killed.events)
	return s
}

const (
	sizingName = "sizing"
	// A message id is remembered for two minutes, at 140 to 180 bytes.
	dedupSeconds = 120
	dedupBytes   = 160
)

// results are the cost of each part, and the needs of logs of some ages and rates.
func (s sizing) results() []Result {
	const million = 1e6
	nothing, chats, events := s.needs(0, 0), s.needs(0, million), s.needs(million, 0)
	results := []Result{
		nothing.result("nothing"),
		chats.less(nothing).result("more for a million chats"),
		events.less(nothing).result("more for a million events"),
	}
	for _, age := range []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		for _, rate := range []float64{100, 1000, 10_000} {
			n := s.needs(age.Seconds()*rate, age.Seconds()*rate/s.eventsPerChat)
			n.resident += rate * dedupSeconds * dedupBytes
			n.residentAfter += rate * dedupSeconds * dedupBytes
			results = append(results, n.result(fmt.Sprintf("%.0f h at %.0f messages/s", age.Hours(), rate)))
		}
	}
	return results
}

// needs are those of a node with so much in its log: bytes and seconds.
type needs struct {
	events, chats                                  float64
	disk, resident, residentAfter, stopped, killed float64
}

func (s sizing) needs(events, chats float64) needs {
	return needs{
		events: events, chats: chats, disk: s.disk.at(events, chats),
		resident: s.resident.at(events, chats), residentAfter: s.residentAfter.at(events, chats),
		stopped: s.stopped.at(events, chats), killed: s.killed.at(events, chats),
	}
}

// less is what n needs more than other.
func (n needs) less(other needs) needs {
	return needs{
		events: n.events - other.events, chats: n.chats - other.chats, disk: n.disk - other.disk,
		resident: n.resident - other.resident, residentAfter: n.residentAfter - other.residentAfter,
		stopped: n.stopped - other.stopped, killed: n.killed - other.killed,
	}
}

func (n needs) result(name string) Result {
	result := Result{Workload: sizingName, Case: name}
	result.figure("events", n.events/1e6, "million")
	result.figure("chats", n.chats/1e6, "million")
	result.figure("disk", n.disk/(1<<30), "GiB")
	result.figure("memory", n.resident/(1<<20), "MiB")
	result.figure("memory after SIGKILL", n.residentAfter/(1<<20), "MiB")
	result.figure("start after SIGTERM", n.stopped, "s")
	result.figure("start after SIGKILL", n.killed, "s")
	return result
}
