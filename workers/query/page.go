package query

import (
	"strconv"
	"time"

	"parley/schemas"
)

// page is a run of events by rising seq, encoded as the items of an answer with
// commas between them, so that any part of it is a part of its text.
type page struct {
	text  []byte
	items []item
}

type item struct {
	seq   uint64
	n     uint64
	start int // of its text
	end   int
	bytes int // of its JSON: what bounds a page counts
}

// add appends ev. Its JSON goes in as it is.
func (p *page) add(ev schemas.StoredEvent) {
	if len(p.items) > 0 {
		p.text = append(p.text, ',')
	}
	start := len(p.text)
	p.text = append(p.text, `{"seq":`...)
	p.text = strconv.AppendUint(p.text, ev.Seq, 10)
	p.text = append(p.text, `,"prev":`...)
	p.text = strconv.AppendUint(p.text, ev.Prev, 10)
	p.text = append(p.text, `,"time":"`...)
	p.text = ev.Time.UTC().AppendFormat(p.text, time.RFC3339Nano)
	p.text = append(p.text, '"')
	if ev.N > 0 {
		p.text = append(p.text, `,"n":`...)
		p.text = strconv.AppendUint(p.text, ev.N, 10)
	}
	p.text = append(p.text, `,"event":`...)
	p.text = append(p.text, ev.JSON...)
	p.text = append(p.text, '}')
	p.items = append(p.items, item{seq: ev.Seq, n: ev.N, start: start, end: len(p.text), bytes: len(ev.JSON)})
}

// room is what a page may still take.
type room struct{ events, bytes int }

func newRoom(limit int) room { return room{limit, schemas.PageBytesMax} }

// take tells whether an event of that size fits, and takes its place. The first
// event of a page fits always.
func (r *room) take(bytes int, first bool) bool {
	if !first && (r.events < 1 || bytes > r.bytes) {
		return false
	}
	r.events--
	r.bytes -= bytes
	return true
}

// newest returns the text of p's newest events that have room, and how many they are.
func (p *page) newest(r *room, first bool) (text []byte, n int) {
	at := len(p.items)
	for at > 0 && r.take(p.items[at-1].bytes, first && at == len(p.items)) {
		at--
	}
	if at == len(p.items) {
		return nil, 0
	}
	return p.text[p.items[at].start:], len(p.items) - at
}

// answer is a page as it is sent: older comes before newer.
type answer struct {
	older, newer []byte
	more         bool
}

func (a *answer) encode() []byte {
	text := make([]byte, 0, len(a.older)+len(a.newer)+len(`{"events":[,],"more":false}`))
	text = append(text, `{"events":[`...)
	text = append(text, a.older...)
	if len(a.older) > 0 && len(a.newer) > 0 {
		text = append(text, ',')
	}
	text = append(text, a.newer...)
	text = append(text, `],"more":`...)
	text = strconv.AppendBool(text, a.more)
	return append(text, '}')
}
