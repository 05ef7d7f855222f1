package edge

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"parley/schemas"
)

// fanoutLoop owns the writing side of a share of the sessions. A pass takes all
// that waits, gives every frame to its sessions, and then does one non-blocking
// write per session that has something: write(2) is most of all work in groups,
// so what comes in during a pass leaves in one write at the next.
type fanoutLoop struct {
	number    int // place in the edge's list of loops
	metrics   *metrics
	heartbeat time.Duration
	awayAfter time.Duration
	show      func(*session) // writes its key in the bucket presence
	now       func() time.Time

	mu      sync.Mutex
	room    sync.Cond // signalled when inbox was taken
	inbox   []item
	stopped bool

	wake chan struct{}

	// The loop's own.
	sessions []*session
	dirty    []*session
	spare    []item        // the other inbox slice
	lists    [][]wireFrame // empty ones for outboxes, at most listsMax
	joined   []byte        // frames of one session on their way to write(2)
	write    rawWrite
	helpers  sync.WaitGroup
}

// item is one thing for a loop to do: hand frame to the sessions in to (a live
// event of chat at seq, or a frame without seq), or to one session, or a call.
type item struct {
	frame wireFrame
	chat  schemas.Chat
	seq   uint64
	to    []*session // never changed once queued
	one   *session
	do    func(*fanoutLoop)
}

const (
	// inboxItemsMax bounds a loop's inbox: past it push waits for the next pass.
	inboxItemsMax = 1 << 16
	// listsMax bounds the empty lists that a loop keeps, of listFramesKept frames at most.
	listsMax       = 1024
	listFramesKept = 256
	// joinedBytesMax bounds what one write takes together; a longer frame goes alone.
	joinedBytesMax = 64 << 10
	// helperWriteWithin bounds the write of helperPieceBytes to a session that does not take its bytes.
	helperWriteWithin = 30 * time.Second
	helperPieceBytes  = 32 << 10
	sweepEvery        = time.Second

	// See [fanoutLoop.rest].
	restWritesMin          = 64
	restDeliveriesPerWrite = 16
	restMax                = 5 * time.Millisecond
)

func newFanoutLoop(number int, m *metrics, heartbeat, awayAfter time.Duration, show func(*session), now func() time.Time) *fanoutLoop {
	l := &fanoutLoop{number: number, metrics: m, heartbeat: heartbeat, awayAfter: awayAfter, show: show, now: now, wake: make(chan struct{}, 1)}
	l.room.L = &l.mu
	l.write.init()
	return l
}

// push queues items in order. It waits while the inbox is full, so the loop
// itself must not call it.
func (l *fanoutLoop) push(items ...item) {
	l.mu.Lock()
	for len(l.inbox) >= inboxItemsMax && !l.stopped {
		l.room.Wait()
	}
	l.inbox = append(l.inbox, items...)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run makes passes until ctx ends and then waits for its helpers.
func (l *fanoutLoop) run(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.wake:
		case <-ticker.C:
			l.sweepOnce()
		case <-ctx.Done():
			l.mu.Lock()
			l.stopped = true
			l.mu.Unlock()
			l.room.Broadcast()
			l.passOnce()
			l.helpers.Wait()
			return
		}
		started := time.Now()
		delivered, written := l.passOnce()
		l.rest(time.Since(started), delivered, written)
	}
}

// rest lets frames gather after a pass that wrote few to each of many sessions:
// as long as the pass took, so that a loop is late by no more than it would be at
// its limit anyway, and then one write carries them together.
func (l *fanoutLoop) rest(pass time.Duration, delivered, written int) {
	if written >= restWritesMin && delivered < restDeliveriesPerWrite*written {
		time.Sleep(min(pass, restMax))
	}
}

// passOnce does what waits. It returns the event frames it gave to sessions and
// the sessions it wrote to.
func (l *fanoutLoop) passOnce() (delivered, written int) {
	l.mu.Lock()
	items := l.inbox
	l.inbox = l.spare[:0]
	l.mu.Unlock()
	l.room.Broadcast()

	for i := range items {
		it := &items[i]
		switch {
		case it.do != nil:
			it.do(l)
		case it.one != nil:
			l.append(it.one, it.frame)
		default:
			for _, s := range it.to {
				if l.admits(s, it) {
					l.append(s, it.frame)
					delivered++
				}
			}
		}
	}
	clear(items)
	l.spare = items

	for i, s := range l.dirty {
		s.out.dirty = false
		l.flush(s)
		l.dirty[i] = nil
	}
	written = len(l.dirty)
	l.dirty = l.dirty[:0]
	l.metrics.deliveries.Add(float64(delivered))
	return delivered, written
}

// admits tells whether a live frame may go to the session now.
func (l *fanoutLoop) admits(s *session, it *item) bool {
	if s.out.gates == nil || it.seq == 0 {
		return s.out.welcomed
	}
	g, ok := s.out.gates[it.chat]
	switch {
	case !ok:
		return s.out.welcomed
	case g.held: // before the welcome too
		g.skipped = max(g.skipped, it.seq)
		return false
	case it.seq <= g.floor:
		return false
	}
	l.dropGate(s, it.chat) // live events are past what was read from the log
	return true
}

func (l *fanoutLoop) dropGate(s *session, chat schemas.Chat) {
	delete(s.out.gates, chat)
	if len(s.out.gates) == 0 {
		s.out.gates = nil
	}
}

// append adds a frame to what waits for the session.
func (l *fanoutLoop) append(s *session, frame wireFrame) {
	o := &s.out
	if o.closed {
		return
	}
	if !o.dirty {
		o.dirty = true
		l.dirty = append(l.dirty, s)
	}
	if o.bytes+len(frame) > outboxBytesMax && !l.makeRoom(s) {
		return
	}
	if o.frames == nil {
		o.frames = l.takeList()
	}
	o.frames = append(o.frames, frame)
	o.bytes += len(frame)
}

// appendPage adds an answer, which is in the outbox when its turn has come.
func (l *fanoutLoop) appendPage(s *session, frame wireFrame) {
	o := &s.out
	switch {
	case o.empty():
		s.requests.Add(-1)
		l.append(s, frame)
	case !o.closed:
		o.pages = append(o.pages, frame)
	}
}

// nextPage puts the next answer where frames wait. It returns false where there is none.
func (l *fanoutLoop) nextPage(s *session) bool {
	o := &s.out
	if len(o.pages) == 0 {
		return false
	}
	s.requests.Add(-1)
	o.frames, o.bytes = append(o.frames, o.pages[0]), len(o.pages[0])
	if o.pages = o.pages[1:]; len(o.pages) == 0 {
		o.pages = nil
	}
	return true
}

// makeRoom writes in the middle of a pass what this one pass brought for the
// session: a burst alone does not make it slow. It returns false where the session ends.
func (l *fanoutLoop) makeRoom(s *session) bool {
	if s.out.writing {
		s.closing.Store(true)
		l.closeSession(s, schemas.CloseSlow, "too slow: resume at once")
		return false
	}
	l.flush(s)
	return !s.out.closed
}

// flush writes what waits for the session, as far as the kernel takes it now.
// The rest is a helper's.
func (l *fanoutLoop) flush(s *session) {
	o := &s.out
	if o.writing {
		return
	}
	for len(o.frames) > 0 || l.nextPage(s) {
		if s.raw == nil {
			l.startHelper(s, nil)
			return
		}
		chunk := l.takeChunk(o)
		n, err := l.write.once(s.raw, chunk)
		if err != nil {
			l.abandon(s)
			return
		}
		l.metrics.writes.Inc()
		if n < len(chunk) {
			l.startHelper(s, chunk[n:])
			return
		}
	}
	l.emptied(s)
}

// takeChunk takes the frames of one write from an outbox: the next one, or
// several joined in a buffer that is hot in the cache and the loop's own.
func (l *fanoutLoop) takeChunk(o *outbox) []byte {
	list := o.frames
	n, size := 1, len(list[0])
	for n < len(o.frames) && size+len(o.frames[n]) <= joinedBytesMax {
		size += len(o.frames[n])
		n++
	}
	chunk := []byte(o.frames[0])
	if n > 1 {
		l.joined = l.joined[:0]
		for _, frame := range o.frames[:n] {
			l.joined = append(l.joined, frame...)
		}
		chunk = l.joined
	}
	clear(o.frames[:n])
	o.bytes -= size
	if o.frames = o.frames[n:]; len(o.frames) == 0 {
		o.frames = list[:0] // all of it can be used again
	}
	return chunk
}

// startHelper has a goroutine of its own write rest and all that waits;
// meanwhile frames gather in the outbox.
func (l *fanoutLoop) startHelper(s *session, rest []byte) {
	o := &s.out
	pending := make([]byte, 0, len(rest)+o.bytes)
	pending = append(pending, rest...)
	for _, frame := range o.frames {
		pending = append(pending, frame...)
	}
	o.frames, o.bytes, o.writing = nil, 0, true
	l.metrics.helpers.Inc()
	within := helperWriteWithin
	if o.closed {
		within = lingerWithin
	}
	l.helpers.Go(func() {
		err := writePatiently(s.conn.NetConn(), pending, within)
		l.push(item{do: func(l *fanoutLoop) {
			s.out.writing = false
			if err != nil {
				l.abandon(s)
				return
			}
			l.flush(s)
		}})
	})
}

// writePatiently writes all of pending. Each piece of helperPieceBytes has its
// own time: who takes its bytes slowly and steadily is not cut off.
func writePatiently(conn net.Conn, pending []byte, within time.Duration) error {
	for piece := range slices.Chunk(pending, helperPieceBytes) {
		if err := conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		if _, err := conn.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// emptied follows when nothing waits for the session any more.
func (l *fanoutLoop) emptied(s *session) {
	l.giveList(s.out.frames)
	s.out.frames = nil
	if s.out.closed {
		s.hangUp()
	}
	l.signalRoom(s)
}

func (l *fanoutLoop) signalRoom(s *session) {
	if s.out.room != nil {
		close(s.out.room)
		s.out.room = nil
	}
}

// awaitRoom has room closed when nothing waits for the session, or nothing will ever go out.
func (l *fanoutLoop) awaitRoom(s *session, room chan struct{}) {
	o := &s.out
	if o.closed || o.empty() {
		close(room)
		return
	}
	o.room = room
}

// closeSession makes a close frame the session's last. What waits goes out
// before it, but for a session that is too slow: there the frame replaces it.
func (l *fanoutLoop) closeSession(s *session, code schemas.CloseCode, reason string) {
	o := &s.out
	if o.closed {
		return
	}
	o.pages = nil // their requests are asked again elsewhere
	if code == schemas.CloseSlow {
		o.drop()
	}
	l.append(s, closeFrame(code, reason))
	o.closed = true
	s.returns.Store(code == schemas.CloseSlow || code == schemas.CloseDraining)
	l.metrics.closed(code)
	if o.writing {
		// The helper may hold its frame for long: shorten its time.
		_ = s.conn.NetConn().SetWriteDeadline(time.Now().Add(lingerWithin))
	}
}

// abandon ends a connection that cannot be written. The read loop notices.
func (l *fanoutLoop) abandon(s *session) {
	o := &s.out
	o.closed = true
	o.drop()
	s.closing.Store(true)
	_ = s.conn.NetConn().Close()
	l.signalRoom(s)
}

// sweepOnce pings, closes what is silent or expired, and keeps the rest shown.
func (l *fanoutLoop) sweepOnce() {
	now := l.now().Unix()
	refresh := max(int64(keyTTL(l.heartbeat).Seconds()/refreshesPerTTL), 1)
	for _, s := range l.sessions {
		if l.goesAway(s, now) || now >= s.out.shownAt {
			s.out.shownAt = now + refresh
			l.show(s)
		}
		switch {
		case s.closing.Load():
		case now >= s.expiresAt.Load():
			s.closing.Store(true)
			l.closeSession(s, schemas.CloseExpired, "the token's time is over")
		case l.silent(s, now):
			s.closing.Store(true)
			l.closeSession(s, schemas.CloseSilent, "silent for too long")
		case now >= s.out.pingAt:
			s.out.pingAt = now + int64(l.heartbeat.Seconds())
			l.append(s, pingFrame)
		}
	}
}

// goesAway tells whether a session was used so long ago that it is away from now on.
func (l *fanoutLoop) goesAway(s *session, now int64) bool {
	return now-s.usedAt.Load() >= int64(l.awayAfter.Seconds()) && s.away.CompareAndSwap(false, true)
}

// silent tells whether nothing was heard of a session for 2.5 heartbeats: with
// the time that a publication has, that is well within what the log recognizes.
func (l *fanoutLoop) silent(s *session, now int64) bool {
	return now-s.heardAt.Load() > int64(l.heartbeat.Seconds()*2.5)
}

// attach takes a session over; detach lets it go.
func (l *fanoutLoop) attach(s *session) {
	s.out.index = len(l.sessions)
	l.sessions = append(l.sessions, s)
}

func (l *fanoutLoop) detach(s *session) {
	last := len(l.sessions) - 1
	moved := l.sessions[last]
	l.sessions[s.out.index], moved.out.index = moved, s.out.index
	l.sessions[last] = nil
	l.sessions = l.sessions[:last]
	s.out.closed, s.out.gates = true, nil
	s.out.drop()
	l.signalRoom(s)
}

func (l *fanoutLoop) takeList() []wireFrame {
	if n := len(l.lists); n > 0 {
		list := l.lists[n-1]
		l.lists = l.lists[:n-1]
		return list
	}
	return make([]wireFrame, 0, 8)
}

func (l *fanoutLoop) giveList(list []wireFrame) {
	if len(l.lists) < listsMax && cap(list) > 0 && cap(list) <= listFramesKept {
		l.lists = append(l.lists, list[:0])
	}
}
