package edge

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"parley/schemas"
)

// session is one live connection of a device.
type session struct {
	// Fixed once made.
	id     schemas.ID
	device schemas.ID
	user   *user
	conn   *websocket.Conn // read by the read loop; written only by the fan-out loop and its helper
	raw    syscall.RawConn // of conn; nil where it has no non-blocking write, as with TLS
	loop   *fanoutLoop
	// stopResume ends the session's resume when the connection is gone; nil without one.
	stopResume func()

	// Shared.
	heardAt   atomic.Int64 // unix seconds of the last frame from the client
	expiresAt atomic.Int64 // unix seconds at which the token's time is over
	usedAt    atomic.Int64 // unix seconds of the last one that was more than a sign of life
	away      atomic.Bool  // that was long ago
	gone      atomic.Bool  // it has left: no group takes it in any more
	returns   atomic.Bool  // it was told to come back at once
	closing   atomic.Bool  // a close frame is on its way: what the client still sends is dropped
	requests  atomic.Int32 // to workers, until their answer is in the outbox; at most requestsMax

	watching watching // whose presence it is told

	// The read loop's.
	badFrames []time.Time // of the last minute, at most BadFramesMax

	// The fan-out loop's.
	out outbox
}

// outbox is what a session is still to be written. Its fields belong to the
// session's fan-out loop.
type outbox struct {
	welcomed bool                   // the welcome is queued: live events may follow
	dirty    bool                   // in the pass's list of sessions to write
	closed   bool                   // takes nothing more
	frames   []wireFrame            // that wait, in order; shared with other sessions
	bytes    int                    // of frames; at most outboxBytesMax
	pages    []wireFrame            // each waits until no frame does; at most requestsMax
	writing  bool                   // a helper goroutine is writing: the loop must not
	index    int                    // place in the loop's list of sessions
	pingAt   int64                  // unix seconds of the next ping
	shownAt  int64                  // unix seconds at which its key in the bucket presence is written again
	gates    map[schemas.Chat]*gate // chats whose live events are held or filtered; nil for most
	room     chan struct{}          // closed when nothing waits any more; the resume's, nil for most
}

// empty tells whether nothing waits, and nothing is being written.
func (o *outbox) empty() bool { return !o.writing && len(o.frames) == 0 && len(o.pages) == 0 }

// drop forgets what waits.
func (o *outbox) drop() { o.frames, o.bytes, o.pages = nil, 0, nil }

// gate keeps a chat's live events from a session while the session is sent
// what it missed of that chat. They are not buffered: the log has them.
type gate struct {
	held    bool
	skipped uint64 // highest seq that was kept back while held
	floor   uint64 // once open: events up to this seq were sent from the log
}

// outboxBytesMax bounds what waits for one session behind what a helper writes,
// which is no more than that. Past it the session is closed with 4008: resuming
// loses nothing.
const outboxBytesMax = 1 << 20

// Goroutines that close a connection give the other side this long to take the
// close frame and to hang up itself.
const lingerWithin = 2 * time.Second

// push queues one frame for the session.
func (s *session) push(frame wireFrame) { s.loop.push(item{one: s, frame: frame}) }

// pushPage queues the answer to a request. It goes out when nothing else waits:
// pages that were asked for at once would overflow the outbox of a client that is
// merely slow.
func (s *session) pushPage(frame wireFrame) {
	s.loop.push(item{do: func(l *fanoutLoop) { l.appendPage(s, frame) }})
}

// awaitRoom returns when nothing waits for the session, or nothing will go out
// any more. Only its resume calls it.
func (s *session) awaitRoom(ctx context.Context) {
	room := make(chan struct{})
	s.loop.push(item{do: func(l *fanoutLoop) { l.awaitRoom(s, room) }})
	select {
	case <-room:
	case <-ctx.Done():
	}
}

// close queues a close frame; the connection ends when it is written or given up.
func (s *session) close(code schemas.CloseCode, reason string) {
	if s.closing.CompareAndSwap(false, true) {
		s.loop.push(item{do: func(l *fanoutLoop) { l.closeSession(s, code, reason) }})
	}
}

// hangUp ends the connection's writing side, so that the client reads the close
// frame before the end. The read loop sees the client's end, or its deadline.
func (s *session) hangUp() {
	conn := s.conn.NetConn()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // it may be closed already
	}
	_ = conn.SetReadDeadline(time.Now().Add(lingerWithin))
}

// used notes that the client said something that is no sign of life alone.
func (s *session) used(now time.Time) {
	s.usedAt.Store(now.Unix())
	if s.away.Load() && s.away.CompareAndSwap(true, false) {
		s.loop.show(s)
	}
}
