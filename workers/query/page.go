package query

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"parley/schemas"
)

// page is a run of events by rising seq, encoded as the items of an answer with
// commas between them, so that any part of it is a part of its text.
type page struct {
	text    []byte
	items   []item
	expires time.Time // when the first of the items disappears; zero: never
}

func newPage(items []item) (page, error) {
	bytes := 0
	for i := range items {
		bytes += len(items[i].event) + 128
	}
	p := page{text: make([]byte, 0, bytes), items: items}
	starts := make([]int, len(items))
	for i := range items {
		it := &items[i]
		if i > 0 {
			p.text = append(p.text, ',')
		}
		it.start = len(p.text)
		var err error
		if p.text, starts[i], err = it.append(p.text); err != nil {
			return page{}, err
		}
		it.end = len(p.text)
		if !it.expires.IsZero() && (p.expires.IsZero() || it.expires.Before(p.expires)) {
			p.expires = it.expires
		}
	}
	for i := range items { // once the text stays where it is: nothing else holds the store's rows then
		it, end := &items[i], starts[i]+len(items[i].event)
		it.event = p.text[starts[i]:end:end]
	}
	return p, nil
}

// index returns where in the page the event at seq is.
func (p *page) index(seq uint64) (at int, ok bool) {
	return slices.BinarySearchFunc(p.items, seq, func(it item, seq uint64) int { return cmp.Compare(it.seq, seq) })
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

// answer is a page as it is sent: parts are runs of items, by rising seq.
type answer struct {
	parts [][]byte
	more  bool
}

func (a *answer) encode() []byte {
	size := len(`{"events":[],"more":false}`)
	for _, part := range a.parts {
		size += len(part) + 1
	}
	text := append(make([]byte, 0, size), `{"events":[`...)
	for i, part := range a.parts {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, part...)
	}
	text = append(text, `],"more":`...)
	text = strconv.AppendBool(text, a.more)
	return append(text, '}')
}
