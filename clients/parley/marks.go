package parley

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"parley/schemas"
)

// marksMax bounds the chats whose marks are remembered; past it the one that was
// still the longest is forgotten, and not said again.
const marksMax = 1024

// marks are the watermarks that the client has told or is to tell.
type marks struct {
	signal chan struct{} // has one element while something is to be said

	mu    sync.Mutex // guards what follows
	chats map[schemas.Chat]watermarks
	clock uint64 // counts raises: tells which marks moved last
}

type watermarks struct {
	delivered, read           uint64
	isDeliveredDue, isReadDue bool
	moved                     uint64
}

type markFrame struct {
	T schemas.Type `json:"t"`
	schemas.Mark
}

func (m *marks) init() {
	m.signal = make(chan struct{}, 1)
	m.chats = map[schemas.Chat]watermarks{}
}

// raise has marks said that are higher than those before.
func (m *marks) raise(chat schemas.Chat, delivered, read uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, known := m.chats[chat]
	if delivered <= w.delivered && read <= w.read {
		return
	}
	if !known && len(m.chats) >= marksMax {
		m.forgetOldest()
	}
	w.isDeliveredDue = w.isDeliveredDue || delivered > w.delivered
	w.isReadDue = w.isReadDue || read > w.read
	w.delivered, w.read = max(w.delivered, delivered), max(w.read, read)
	m.clock++
	w.moved = m.clock
	m.chats[chat] = w
	m.wake()
}

// again has all marks said once more.
func (m *marks) again() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for chat, w := range m.chats {
		w.isDeliveredDue, w.isReadDue = w.delivered > 0, w.read > 0
		m.chats[chat] = w
	}
	if len(m.chats) > 0 {
		m.wake()
	}
}

func (m *marks) forget(chat schemas.Chat) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.chats, chat)
}

// take returns the frames that are due, the last moved chat's at the end. What was
// read was delivered: a mark of that at or below it is not said.
func (m *marks) take() []markFrame {
	m.mu.Lock()
	defer m.mu.Unlock()
	var due []schemas.Chat
	for chat, w := range m.chats {
		if w.isDeliveredDue || w.isReadDue {
			due = append(due, chat)
		}
	}
	slices.SortFunc(due, func(a, b schemas.Chat) int { return cmp.Compare(m.chats[a].moved, m.chats[b].moved) })
	var frames []markFrame
	for _, chat := range due {
		w := m.chats[chat]
		if w.isReadDue {
			frames = append(frames, markFrame{schemas.TRead, schemas.Mark{Chat: chat, Seq: w.read}})
		}
		if w.isDeliveredDue && w.delivered > w.read {
			frames = append(frames, markFrame{schemas.TDelivered, schemas.Mark{Chat: chat, Seq: w.delivered}})
		}
		w.isDeliveredDue, w.isReadDue = false, false
		m.chats[chat] = w
	}
	return frames
}

func (m *marks) forgetOldest() {
	var oldest schemas.Chat
	first := m.clock + 1
	for chat, w := range m.chats {
		if w.moved < first {
			oldest, first = chat, w.moved
		}
	}
	delete(m.chats, oldest)
}

func (m *marks) wake() {
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

// marksLoop says what is due, and no more often than others are told of it: of a
// burst the highest is said.
func (c *Client) marksLoop(ctx context.Context) {
	for {
		select {
		case <-c.marks.signal:
		case <-ctx.Done():
			return
		}
		c.sayMarks()
		if c.sleep(ctx, schemas.MarksEvery) != nil {
			return
		}
	}
}

// sayMarks writes what is due. Without a connection it writes nothing: the next
// one has all of them said.
func (c *Client) sayMarks() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return
	}
	for _, frame := range c.marks.take() {
		if c.writeLocked(conn, frame) != nil {
			return // the read loop ends too
		}
	}
}
