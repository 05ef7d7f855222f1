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

	stopped, killed linear // seconds to start, after SIGTERM and after SIGKILL
	resident        linear // bytes
	disk            linear // bytes
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
	// After a kill every block is read again: all of it goes with the events.
	s.killed = linear{base: empty.seconds, perEvent: max(0, (killed.seconds-empty.seconds)/killed.events)}
	// A server that has read all of its blocks keeps more of them in memory.
	full.residentBytes = max(full.residentBytes, killed.residentBytes)
	s.resident = line(empty, shallow, full, func(p logPoint) float64 { return p.residentBytes })
	return s
}

const (
	sizingName = "sizing"
	// A message id is remembered for two minutes, at 140 to 180 bytes.
	dedupSeconds = 120
	dedupBytes   = 160
)

// addSizing adds what the parts cost, and what follows for logs of some ages and rates.
func (r *run) addSizing(s sizing) {
	r.add(s.result("nothing", 0, 0, s.resident.base, s.stopped.base, s.killed.base))
	const million = 1e6
	r.add(s.result("more for a million chats", 0, million, million*s.resident.perChat, million*s.stopped.perChat, million*s.killed.perChat))
	r.add(s.result("more for a million events", million, 0, million*s.resident.perEvent, million*s.stopped.perEvent, million*s.killed.perEvent))
	for _, age := range []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		for _, rate := range []float64{100, 1000, 10_000} {
			events := age.Seconds() * rate
			chats := events / s.eventsPerChat
			r.add(s.result(fmt.Sprintf("%.0f h at %.0f messages/s", age.Hours(), rate), events, chats,
				s.resident.at(events, chats)+rate*dedupSeconds*dedupBytes, s.stopped.at(events, chats), s.killed.at(events, chats)))
		}
	}
}

func (s sizing) result(name string, events, chats, residentBytes, stopped, killed float64) Result {
	result := Result{Workload: sizingName, Case: name}
	result.figure("events", events/1e6, "million")
	result.figure("chats", chats/1e6, "million")
	result.figure("disk", events*s.disk.perEvent/(1<<30), "GiB")
	result.figure("memory", residentBytes/(1<<20), "MiB")
	result.figure("start after SIGTERM", stopped, "s")
	result.figure("after SIGKILL", killed, "s")
	return result
}
