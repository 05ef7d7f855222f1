package parley

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"parley/schemas"
)

const (
	// chatsMax bounds the chats whose seq is held: past it some chat is
	// forgotten, and its next event taken unchecked.
	chatsMax = 65_536
	// eventsMax bounds the events whose (chat, from, id) is held; older ones are
	// only known by their seq.
	eventsMax = 16_384
)

// Event is one event of a chat's timeline.
type Event struct {
	Chat schemas.Chat
	Seq  uint64
	Prev uint64
	Time time.Time // the log's
	schemas.Event
}

// timeline is what a client holds: the highest seq of each chat, and the newest events' names.
type timeline struct {
	mu    sync.Mutex // guards what follows
	chats map[schemas.Chat]held
	clock uint64 // counts takes: tells which chats were active last

	names map[eventName]struct{}
	ring  []eventName // the names in the order of taking; a full ring forgets its oldest
	next  int         // where the ring's oldest is
}

type held struct {
	seq     uint64
	touched uint64
}

type eventName struct {
	chat schemas.Chat
	from schemas.User
	id   schemas.ID
}

func (t *timeline) init(resume map[schemas.Chat]uint64) {
	t.chats = make(map[schemas.Chat]held, len(resume))
	for chat, seq := range resume {
		t.chats[chat] = held{seq: seq}
	}
	t.names = map[eventName]struct{}{}
}

func (t *timeline) highest(chat schemas.Chat) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.chats[chat].seq
}

func (t *timeline) all() map[schemas.Chat]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[schemas.Chat]uint64, len(t.chats))
	for chat, h := range t.chats {
		all[chat] = h.seq
	}
	return all
}

// byActivity returns the chats, the last active first.
func (t *timeline) byActivity() []schemas.Chat {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Keys(t.chats), func(a, b schemas.Chat) int {
		return cmp.Or(cmp.Compare(t.chats[b].touched, t.chats[a].touched), cmp.Compare(a.String(), b.String()))
	})
}

// resume returns what a hello may name: the last active chats.
func (t *timeline) resume() map[schemas.Chat]uint64 {
	resume := map[schemas.Chat]uint64{}
	for _, chat := range t.byActivity() {
		if len(resume) == schemas.ResumeChatsMax {
			break
		}
		resume[chat] = t.highest(chat)
	}
	return resume
}

// begin holds all before seq of a chat of which nothing is held: the event at seq
// comes next.
func (t *timeline) begin(chat schemas.Chat, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.chats[chat]; !ok && seq > 0 {
		t.hold(chat, seq-1)
	}
}

func (t *timeline) forget(chat schemas.Chat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.chats, chat)
}

// gap returns the seq after which something is missing before an event with prev.
func (t *timeline) gap(chat schemas.Chat, prev uint64) (after uint64, missing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.chats[chat]
	return h.seq, ok && prev > h.seq
}

// take makes the event the highest of its chat, and tells whether it is new.
func (t *timeline) take(name eventName, seq uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.chats[name.chat]
	if ok && seq <= h.seq {
		return false
	}
	t.hold(name.chat, seq)
	if _, known := t.names[name]; known {
		return false
	}
	t.names[name] = struct{}{}
	if len(t.ring) < eventsMax {
		t.ring = append(t.ring, name)
		return true
	}
	delete(t.names, t.ring[t.next])
	t.ring[t.next] = name
	t.next = (t.next + 1) % eventsMax
	return true
}

// hold makes seq the highest of a chat. The caller has the lock.
func (t *timeline) hold(chat schemas.Chat, seq uint64) {
	if _, ok := t.chats[chat]; !ok && len(t.chats) >= chatsMax {
		for some := range t.chats {
			delete(t.chats, some)
			break
		}
	}
	t.clock++
	t.chats[chat] = held{seq: seq, touched: t.clock}
}
