package parley

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

// inboxBytesMax bounds what waits for the callbacks: more than a resume brings.
// Past it the connection is given up and resumed from what was taken.
const inboxBytesMax = 32 << 20

// item is what dispatchLoop takes next; one of the pointers is set, or resync.
type item struct {
	bytes    int
	event    *schemas.LiveEvent
	chat     *schemas.ChatFrame
	typing   *schemas.TypingFrame
	receipt  *schemas.ReceiptFrame
	presence *schemas.PresenceFrame
	resumed  *schemas.Resumed
	welcome  *schemas.Welcome
	lost     *loss
	resync   bool
}

type loss struct {
	err  error
	wait time.Duration
}

func decodeItem(t schemas.Type, data []byte) (it item, err error) {
	switch t {
	case schemas.TEvent:
		it.event = &schemas.LiveEvent{}
		err = json.Unmarshal(data, it.event)
	case schemas.TChat:
		it.chat = &schemas.ChatFrame{}
		err = json.Unmarshal(data, it.chat)
	case schemas.TTyping:
		it.typing = &schemas.TypingFrame{}
		err = json.Unmarshal(data, it.typing)
	case schemas.TReceipt:
		it.receipt = &schemas.ReceiptFrame{}
		err = json.Unmarshal(data, it.receipt)
	case schemas.TPresence:
		it.presence = &schemas.PresenceFrame{}
		err = json.Unmarshal(data, it.presence)
	case schemas.TResumed:
		it.resumed = &schemas.Resumed{}
		err = json.Unmarshal(data, it.resumed)
	case schemas.TResync:
		it.resync = true
	}
	if err != nil {
		return it, fmt.Errorf("decode frame %s: %w", t, err)
	}
	return it, nil
}

// inbox is a queue between the connection and dispatchLoop, bounded by bytes.
type inbox struct {
	signal chan struct{} // has one element while something waits

	mu     sync.Mutex // guards what follows
	items  []item
	bytes  int
	closed bool
}

// put queues it, and tells whether there was room.
func (q *inbox) put(it item, bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes+bytes > inboxBytesMax {
		return false
	}
	it.bytes = bytes
	q.items = append(q.items, it)
	q.bytes += bytes
	q.wake()
	return true
}

// drop empties the queue.
func (q *inbox) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items, q.bytes = nil, 0
}

// close lets next return what is left, and then nothing more.
func (q *inbox) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake()
}

func (q *inbox) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// next waits for the oldest items and takes all of them: none where tick came first.
// isOpen is false where the queue is closed and empty, or ctx ended.
func (q *inbox) next(ctx context.Context, tick <-chan time.Time) (items []item, isOpen bool) {
	for {
		q.mu.Lock()
		items, closed := q.items, q.closed
		q.items, q.bytes = nil, 0
		q.mu.Unlock()
		if len(items) > 0 {
			return items, true
		}
		if closed {
			return nil, false
		}
		select {
		case <-q.signal:
		case <-tick:
			return nil, true
		case <-ctx.Done():
			return nil, false
		}
	}
}
