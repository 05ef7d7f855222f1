package edge

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"parley/schemas"
	"parley/streams"
)

const (
	// liveChannelMax bounds the messages that wait for a live loop. Past it
	// NATS drops them, and the loop repairs its users' chats from the log.
	liveChannelMax = 1 << 16
	// liveBatchMax bounds what a live loop gathers before it hands on.
	liveBatchMax = 128
	// cursorsMax bounds the chats whose last seq is kept per user. Past it one
	// is forgotten: its next event is then delivered unchecked.
	cursorsMax = 4096
)

// user is a user with at least one session on this edge.
type user struct {
	name schemas.User
	live *liveLoop
	subs [2]*nats.Subscription
	// ready is closed when the server has the subscriptions; failed tells that it never will.
	ready  chan struct{}
	failed error

	sessions []*session // guarded by live.mu; replaced, never changed in place; those of a fan-out loop together

	// The live loop's own.
	cursors map[schemas.Chat]cursor

	mu       sync.Mutex
	sends    *rate.Limiter // made at the first send
	typingAt map[schemas.Chat]time.Time
}

// cursor is how far a user's sessions have been sent a chat.
type cursor struct {
	last    uint64
	seen    uint64 // while healing: the highest seq that is known to exist
	healing bool
}

// liveLoop takes what NATS brings for a share of the users and hands it to
// their sessions in order. It keeps a cursor per user and chat: what is not
// higher is dropped, and a gap is read from the log before going on.
type liveLoop struct {
	edge    *Edge
	channel chan *nats.Msg
	calls   chan func()   // run by the loop: results of heals
	repairs chan struct{} // holds one while a repair is asked for

	mu    sync.Mutex
	users map[string]*user

	// The loop's own.
	batches [][]item // by fan-out loop
	batched int
	echoes  echoWatch
	heals   int // in flight
	// repairing and repairAgain: one repair at a time, and what was asked meanwhile is one more.
	repairing, repairAgain bool
}

func newLiveLoop(e *Edge) *liveLoop {
	return &liveLoop{
		edge:    e,
		channel: make(chan *nats.Msg, liveChannelMax),
		calls:   make(chan func(), 64),
		repairs: make(chan struct{}, 1),
		users:   make(map[string]*user),
		batches: make([][]item, len(e.loops)),
	}
}

var userHash = maphash.MakeSeed()

// liveLoopOf returns the loop that serves the user: always the same, so that order holds.
func (e *Edge) liveLoopOf(name schemas.User) *liveLoop {
	return e.lives[maphash.String(userHash, name.String())%uint64(len(e.lives))]
}

// join adds a session to its user's, subscribing for the user if it is the
// first, and returns when NATS has the subscription: from then on nothing is missed.
func (v *liveLoop) join(ctx context.Context, name schemas.User, s *session) error {
	v.mu.Lock()
	u, ok := v.users[name.String()]
	if !ok {
		u = &user{name: name, live: v, ready: make(chan struct{})}
		v.users[name.String()] = u
	}
	s.user = u
	s.loop.push(item{do: func(l *fanoutLoop) { l.attach(s) }})
	u.sessions = insertSession(u.sessions, s)
	v.mu.Unlock()

	if !ok {
		u.failed = v.subscribe(ctx, u)
		close(u.ready)
	}
	select {
	case <-u.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	return u.failed
}

func (v *liveLoop) subscribe(ctx context.Context, u *user) error {
	for i, pattern := range streams.LiveOfUser(u.name) {
		sub, err := v.edge.conn.ChanSubscribe(pattern, v.channel)
		if err != nil {
			return fmt.Errorf("subscribe %q: %w", pattern, err)
		}
		v.mu.Lock()
		u.subs[i] = sub
		v.mu.Unlock()
	}
	if err := v.edge.flusher.flush(ctx); err != nil {
		return fmt.Errorf("flush subscriptions of %s: %w", u.name, err)
	}
	return nil
}

// leave removes a session; with a user's last one its subscriptions end.
func (v *liveLoop) leave(s *session) {
	u := s.user
	v.mu.Lock()
	u.sessions = removeSession(u.sessions, s)
	var subs [2]*nats.Subscription
	if len(u.sessions) == 0 && v.users[u.name.String()] == u {
		delete(v.users, u.name.String())
		subs = u.subs
	}
	v.mu.Unlock()
	for _, sub := range subs {
		if sub != nil {
			_ = sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
		}
	}
	s.loop.push(item{do: func(l *fanoutLoop) { l.detach(s) }})
}

// insertSession returns sessions with s, those of one fan-out loop kept together.
func insertSession(sessions []*session, s *session) []*session {
	at := len(sessions)
	for i, other := range sessions {
		if other.loop == s.loop {
			at = i
			break
		}
	}
	grown := make([]*session, 0, len(sessions)+1)
	grown = append(grown, sessions[:at]...)
	grown = append(grown, s)
	return append(grown, sessions[at:]...)
}

func removeSession(sessions []*session, s *session) []*session {
	kept := make([]*session, 0, len(sessions))
	for _, other := range sessions {
		if other != s {
			kept = append(kept, other)
		}
	}
	return kept
}

// run handles messages until ctx ends.
func (v *liveLoop) run(ctx context.Context) {
	echoes := time.NewTicker(echoCheckEvery)
	defer echoes.Stop()
	for {
		select {
		case m := <-v.channel:
			v.handleMessage(m)
		case call := <-v.calls:
			call()
		case <-v.repairs:
			v.repair()
		case <-echoes.C:
			v.checkEchoes(v.edge.now())
		case <-ctx.Done():
			return
		}
		if v.batched >= liveBatchMax || len(v.channel) == 0 {
			v.handOn()
		}
	}
}

// call has the loop run f, unless the edge stops first.
func (v *liveLoop) call(f func()) {
	select {
	case v.calls <- f:
	case <-v.edge.ctx.Done():
	}
}

func (v *liveLoop) handleMessage(m *nats.Msg) {
	u := v.receiver(m)
	if u == nil {
		return // its last session has just left
	}
	chat, kind, from, ok := streams.ParseLive(m.Subject)
	if !ok {
		return // a kind of a later version
	}
	switch kind {
	case streams.LiveIsTimeline:
		stored, ok := streams.ParseStored(chat, m.Header)
		if !ok {
			v.edge.log.Warn("live message that the log did not republish", "subject", m.Subject)
			return
		}
		v.handleStored(u, chat, stored, m.Data)
	case streams.LiveIsTyping:
		if from != u.name {
			v.deliver(u, item{frame: jsonFrame(schemas.TypingFrame{T: schemas.TTyping, Chat: chat, User: from})})
		}
	}
}

// receiver returns the user whose subscription brought m: its name stands in the pattern.
func (v *liveLoop) receiver(m *nats.Msg) *user {
	rest := strings.TrimPrefix(m.Sub.Subject, "live.direct.")
	rest = strings.TrimPrefix(rest, "*.")
	name, _, _ := strings.Cut(rest, ".")
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.users[name]
}

// handleStored delivers an event in its place, or reads from the log what is missing before it.
func (v *liveLoop) handleStored(u *user, chat schemas.Chat, stored streams.Stored, event []byte) {
	c, known := u.cursors[chat]
	switch {
	case known && stored.Seq <= c.last:
		// Told before; notes to oneself come twice.
	case c.healing:
		c.seen = max(c.seen, stored.Seq)
		u.cursors[chat] = c
	case stored.Hint:
		if !known {
			c.last = stored.Seq - 1
		}
		v.heal(u, chat, c, stored.Seq, "hint")
	case known && stored.Prev > c.last:
		v.heal(u, chat, c, stored.Seq, "gap")
	default:
		u.setCursor(chat, cursor{last: stored.Seq})
		v.deliver(u, item{frame: eventFrame(chat, stored, event), chat: chat, seq: stored.Seq})
	}
}

func (u *user) setCursor(chat schemas.Chat, c cursor) {
	if u.cursors == nil {
		u.cursors = make(map[schemas.Chat]cursor)
	}
	if _, known := u.cursors[chat]; !known && len(u.cursors) >= cursorsMax {
		for other, c := range u.cursors {
			if !c.healing {
				delete(u.cursors, other)
				break
			}
		}
	}
	u.cursors[chat] = c
}

// deliver gathers it for the fan-out loops of the user's sessions.
func (v *liveLoop) deliver(u *user, it item) {
	v.mu.Lock()
	sessions := u.sessions
	v.mu.Unlock()
	for len(sessions) > 0 {
		loop := sessions[0].loop
		n := 1
		for n < len(sessions) && sessions[n].loop == loop {
			n++
		}
		it.to = sessions[:n]
		v.batches[loop.number] = append(v.batches[loop.number], it)
		v.batched++
		sessions = sessions[n:]
	}
}

func (v *liveLoop) handOn() {
	if v.batched == 0 {
		return
	}
	v.batched = 0
	for i, batch := range v.batches {
		if len(batch) > 0 {
			v.edge.loops[i].push(batch...)
			clear(batch)
			v.batches[i] = batch[:0]
		}
	}
}
