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
	// NATS drops them, and the loop repairs its chats from the log.
	liveChannelMax = 1 << 16
	// liveBatchMax bounds what a live loop gathers before it hands on.
	liveBatchMax = 128
)

// liveLoop takes what NATS brings for a share of the users and of the groups, and
// hands it to their sessions in order. It keeps a cursor per audience and chat: what
// is not higher is dropped, and a gap is read from the log before going on.
type liveLoop struct {
	// Fixed by New.
	*base
	loops   []*fanoutLoop
	members *membership   // set by newMembership
	watched *watchedUsers // set by newWatches; it has a mutex of its own
	channel chan *nats.Msg
	calls   chan func()   // run by the loop: results of heals
	repairs chan struct{} // holds one while a repair is asked for

	mu     sync.Mutex
	users  map[string]*user
	groups map[string]*group // by the chat's name

	// The loop's own.
	batches  [][]item // by fan-out loop
	batched  int
	echoes   echoWatch
	heals    int // in flight
	receipts *receiptBoard
	typists  *typists
	// repairing and repairAgain: one repair at a time, and what was asked meanwhile is one more.
	repairing, repairAgain bool
}

func newLiveLoop(b *base, loops []*fanoutLoop, hints *rate.Limiter) *liveLoop {
	v := &liveLoop{
		base:    b,
		loops:   loops,
		channel: make(chan *nats.Msg, liveChannelMax),
		calls:   make(chan func(), 64),
		repairs: make(chan struct{}, 1),
		users:   make(map[string]*user),
		groups:  make(map[string]*group),
		batches: make([][]item, len(loops)),
		echoes:  echoWatch{hints: hints},
	}
	v.receipts, v.typists = newReceiptBoard(v), newTypists(v)
	return v
}

// liveLoops are all of an edge's. A user, a group and a user that is watched belong
// to one of them each.
type liveLoops []*liveLoop

// newLiveLoops returns as many live loops as there are fan-out loops.
func newLiveLoops(b *base, loops []*fanoutLoop) liveLoops {
	hints := rate.NewLimiter(hintsPerSecond, hintsPerSecond) // shared: the bound is the edge's
	var lives liveLoops
	for range loops {
		lives = append(lives, newLiveLoop(b, loops, hints))
	}
	return lives
}

var liveHash = maphash.MakeSeed()

// of returns the loop that serves a user or a group, by its name: always the same,
// so that order holds.
func (ls liveLoops) of(name string) *liveLoop {
	return ls[maphash.String(liveHash, name)%uint64(len(ls))]
}

// join adds a session to its user's, subscribing for the user and its groups if it
// is the first, and returns when NATS has the subscriptions: from then on nothing is missed.
func (v *liveLoop) join(ctx context.Context, name schemas.User, s *session) error {
	v.mu.Lock()
	u, ok := v.users[name.String()]
	if !ok {
		u = &user{audience: audience{live: v}, name: name, ready: make(chan struct{})}
		v.users[name.String()] = u
	}
	s.user = u
	s.loop.push(item{do: func(l *fanoutLoop) { l.attach(s) }})
	u.sessions = insertSession(u.sessions, s)
	v.mu.Unlock()

	if !ok {
		if u.failed = v.subscribe(ctx, u); u.failed == nil {
			v.members.loadUser(ctx, u, false)
		}
		close(u.ready)
	}
	select {
	case <-u.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, g := range u.everyGroup() {
		g.attach(s)
	}
	return u.failed
}

func (v *liveLoop) subscribe(ctx context.Context, u *user) error {
	direct := streams.LiveOfUser(u.name)
	for _, pattern := range []string{direct[0], direct[1], streams.Personal(u.name)} {
		sub, err := v.base.subscribe(pattern, v.channel)
		if err != nil {
			return err
		}
		v.mu.Lock()
		u.subs = append(u.subs, sub)
		v.mu.Unlock()
	}
	if err := v.flusher.flush(ctx); err != nil {
		return fmt.Errorf("flush subscriptions of %s: %w", u.name, err)
	}
	return nil
}

// leave removes a session; with a user's last one its subscriptions end, and its
// part in groups here.
func (v *liveLoop) leave(s *session) {
	u := s.user
	s.gone.Store(true) // no group takes it in any more
	v.mu.Lock()
	u.sessions = removeSession(u.sessions, s)
	var subs []*nats.Subscription
	last := len(u.sessions) == 0 && v.users[u.name.String()] == u
	var groups []*group
	if last {
		delete(v.users, u.name.String())
		subs = u.subs
		groups = u.endGroups() // before another takes its name
	} else {
		groups = u.everyGroup()
	}
	v.mu.Unlock()
	for _, sub := range subs {
		unsubscribe(sub)
	}
	for _, g := range groups {
		if last {
			g.drop(u)
		} else {
			g.detach(s)
		}
	}
	s.loop.push(item{do: func(l *fanoutLoop) { l.detach(s) }})
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
			v.checkEchoes(v.now())
			v.receipts.check(v.now())
			v.typists.forget(v.now())
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
	case <-v.ctx.Done():
	}
}

func (v *liveLoop) handleMessage(m *nats.Msg) {
	if name, personal := strings.CutPrefix(m.Sub.Subject, streams.PersonalPrefix); personal {
		v.handleNotice(name, m.Data)
		return
	}
	if name, ok := strings.CutPrefix(m.Sub.Subject, streams.PresencePrefix); ok {
		v.watched.handleChange(name, m.Data)
		return
	}
	a := v.audienceOf(m.Sub.Subject)
	if a == nil {
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
			v.log.Warn("live message that the log did not republish", "subject", m.Subject)
			return
		}
		v.handleStored(a, chat, stored, m.Data)
	case streams.LiveIsTyping:
		v.typists.handleTyped(a, chat, from)
	case streams.LiveIsRead, streams.LiveIsDelivered:
		if a, b, direct := chat.Users(); direct && a == b && m.Sub.Subject != streams.LiveOfUser(a)[0] {
			return // notes to oneself come twice
		}
		v.receipts.handleReceipt(a, chat, kind, from, m.Data)
	}
}

// audienceOf returns whose subscription has a pattern: a user's name or a group's stands in it.
func (v *liveLoop) audienceOf(pattern string) *audience {
	v.mu.Lock()
	defer v.mu.Unlock()
	if rest, ok := strings.CutPrefix(pattern, "live.direct."); ok {
		name, _, _ := strings.Cut(strings.TrimPrefix(rest, "*."), ".")
		if u := v.users[name]; u != nil {
			return &u.audience
		}
		return nil
	}
	if g := v.groups[strings.TrimSuffix(strings.TrimPrefix(pattern, "live."), ".>")]; g != nil {
		return &g.audience
	}
	return nil
}

// handleStored delivers an event in its place, or reads from the log what is missing before it.
func (v *liveLoop) handleStored(a *audience, chat schemas.Chat, stored streams.Stored, event []byte) {
	c, known := a.cursors[chat]
	switch {
	case known && stored.Seq <= c.last:
		// Told before; notes to oneself come twice.
	case c.healing:
		c.seen = max(c.seen, stored.Seq)
		a.setCursor(chat, c)
	case stored.Hint:
		if !known {
			c.last = stored.Seq - 1
		}
		v.heal(a, chat, c, stored.Seq, "hint")
	case known && stored.Prev > c.last:
		if c.fresh {
			c.quiet = stored.Prev // from before the sessions were welcomed
		}
		v.heal(a, chat, c, stored.Seq, "gap")
	default:
		a.setCursor(chat, cursor{last: stored.Seq})
		v.tell(a, chat, stored.Seq, eventFrame(chat, stored, event), event)
	}
}

// tell delivers an event, and has its group follow it.
func (v *liveLoop) tell(a *audience, chat schemas.Chat, seq uint64, frame wireFrame, event []byte) {
	v.deliver(a, item{frame: frame, chat: chat, seq: seq})
	if a.group != nil {
		a.group.follow(seq, event)
	}
}

// deliver gathers it for the fan-out loops of the audience's sessions.
func (v *liveLoop) deliver(a *audience, it item) { v.deliverTo(a.everySession(), it) }

func (v *liveLoop) deliverTo(sessions []*session, it item) {
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
			v.loops[i].push(batch...)
			clear(batch)
			v.batches[i] = batch[:0]
		}
	}
}
