package edge

import (
	"context"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	// wordsMax bounds the groups that a user is being let into at once; past it all
	// of its groups are asked for.
	wordsMax = 64
	// enterWithin bounds the time in which a user is let into a group, but for what is
	// sent to its sessions then; past it all of its groups are asked for.
	enterWithin = 10 * time.Second
	// letInWithin bounds the time in which a user's sessions are sent what came in a
	// group since it is in; past it they are told to resync.
	letInWithin = 10 * time.Second
)

// enterCreated lets a user into the group that it has made. The personal event that
// tells of it may come later.
func (ms *membership) enterCreated(ctx context.Context, u *user, chat schemas.Chat) {
	if _, refused := ms.memberOf(u, chat); refused == nil {
		return
	}
	m, refused := ms.services.standing(ctx, chat, u.name)
	if refused != nil {
		return // it has left since, or no worker answers any more
	}
	frame := schemas.ChatFrame{T: schemas.TChat, Chat: chat, Change: schemas.ChatAdded, Seq: m.since}
	if err := ms.enter(ctx, u, &schemas.Notice{ChatFrame: frame, Role: m.role, From: m.from}); err != nil && ctx.Err() == nil {
		ms.log.Warn("enter group", "user", u.name, "chat", chat, "error", err)
	}
}

// enter lets a user into a group: its sessions are told, sent the event by which it
// came in and what followed, and then what comes live. It may be told twice, and
// late, when the user has left again.
func (ms *membership) enter(ctx context.Context, u *user, notice *schemas.Notice) error {
	u.entering.Lock()
	defer u.entering.Unlock()
	entering, cancel := context.WithTimeout(ctx, enterWithin)
	defer cancel()
	if g := ms.groupOf(notice.Chat); g != nil {
		if m, in := g.memberOf(u); in && m.since >= notice.Seq {
			return nil
		}
	}
	g, made := ms.holdGroup(notice.Chat, notice.Seq)
	defer g.release()
	if made {
		if g.failed = g.subscribe(); g.failed == nil {
			g.failed = ms.flusher.flush(entering)
		}
		close(g.ready)
	}
	if err := g.await(entering); err != nil {
		return err
	}
	m := member{role: notice.Role, since: notice.Seq, from: notice.From}
	asOf, err := ms.catchUpToEnd(entering, notice.Chat, u.name, &m, notice.Seq)
	if err != nil {
		return err
	}
	in, err := ms.admit(entering, g, u, m, asOf)
	if err != nil || !in {
		return err
	}
	ms.letIn(ctx, u, g)
	return nil
}

// holdGroup returns the group of a chat, and begins it where there is none: made
// tells that the caller has to subscribe it. asOf is what the caller knows of its
// members. Each call is ended by [group.release], or by a member.
func (ms *membership) holdGroup(chat schemas.Chat, asOf uint64) (g *group, made bool) {
	v := ms.lives.of(chat.String())
	v.mu.Lock()
	defer v.mu.Unlock()
	g, ok := v.groups[chat.String()]
	if !ok {
		g = &group{
			audience: audience{live: v, cursors: map[schemas.Chat]cursor{chat: {last: asOf, fresh: true}}},
			chat:     chat, ready: make(chan struct{}), members: make(map[schemas.User]member), known: asOf,
		}
		g.group = g
		v.groups[chat.String()] = g
	}
	g.holds++
	return g, !ok
}

// subscribe is for who made the group; the caller flushes, and closes ready.
func (g *group) subscribe() error {
	pattern := streams.LiveOfGroup(g.chat)
	sub, err := g.live.base.subscribe(pattern, g.live.channel)
	if err != nil {
		return err
	}
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	g.sub = sub
	return nil
}

// await returns when NATS has the group's subscription.
func (g *group) await(ctx context.Context) error {
	select {
	case <-g.ready:
		return g.failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// catchUpToEnd applies to m what has changed in a group after a seq until now, and
// returns the seq up to which that is.
func (ms *membership) catchUpToEnd(ctx context.Context, chat schemas.Chat, name schemas.User, m *member, after uint64) (uint64, error) {
	last, _, err := ms.logReader.Last(ctx, chat)
	if err != nil || last <= after {
		return after, err
	}
	return last, ms.catchUp(ctx, chat, name, m, after, last)
}

// admit makes u a member as the group knows it by now, reading from the log what
// the group does not remember.
func (ms *membership) admit(ctx context.Context, g *group, u *user, m member, asOf uint64) (in bool, err error) {
	for {
		in, known, ok := g.admit(u, m, asOf)
		if ok {
			return in, nil
		}
		if err := ms.catchUp(ctx, g.chat, u.name, &m, asOf, known); err != nil {
			return false, err
		}
		asOf = known
	}
}

// admit makes u, who was m as of a seq, a member if it is one after all that has
// changed since. Where the group does not remember as far back, ok is false: what
// changed up to the seq known has to be applied first.
func (g *group) admit(u *user, m member, asOf uint64) (in bool, known uint64, ok bool) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	if asOf < g.known {
		return false, g.known, false
	}
	for _, change := range g.changes {
		if change.seq > asOf {
			m.apply(change, u.name)
		}
	}
	if m.user = u; !m.role.In() || !u.joinGroup(g) {
		return false, g.known, true
	}
	if g.members[u.name].user == nil {
		g.holds++
	}
	g.members[u.name] = m
	return true, g.known, true
}

// catchUp applies to m what changed in a group after one seq and up to another,
// which the log has had.
func (ms *membership) catchUp(ctx context.Context, chat schemas.Chat, name schemas.User, m *member, after, upto uint64) error {
	return streams.Walk(ctx, ms.logReader, chat, after, upto, func(stored *schemas.StoredEvent) error {
		if stored.Seq > upto || !changesGroup(stored.JSON) {
			return nil
		}
		if ev, err := schemas.DecodeEvent(stored.JSON); err == nil { // else nobody follows it
			m.apply(groupChange{stored.Seq, ev}, name)
		}
		return nil
	})
}

// letIn has the sessions of a user who has come into a group be told, sent the
// event by which it did and what followed, and then what comes live. That event
// may be a later one than that of which word came. The caller holds u.entering.
func (ms *membership) letIn(ctx context.Context, u *user, g *group) {
	m, in := g.memberOf(u)
	if !in {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, letInWithin)
	defer cancel()
	frame := jsonFrame(schemas.ChatFrame{T: schemas.TChat, Chat: g.chat, Change: schemas.ChatAdded, Seq: m.since})
	for _, s := range u.everySession() {
		welcomed := s.holdChat(ctx, g.chat, frame)
		g.attach(s)
		if !welcomed && !s.holdChat(ctx, g.chat, frame) { // it may have been meanwhile
			continue // it is sent what comes from its welcome on
		}
		r := newResume(ms, s)
		r.entering, r.since = true, map[schemas.Chat]uint64{g.chat: m.since}
		r.chat(ctx, g.chat, m.since-1, m.since)
		if ctx.Err() != nil {
			r.forceOpen(g.chat)
		}
		if ctx.Err() != nil || len(r.result.Reset) > 0 {
			s.push(resyncFrame)
		}
	}
}

// holdChat keeps a chat's live events from a session until its resume has sent
// what came before them, and sends it a frame first. It returns false, and does
// nothing, where the session was not welcomed yet.
func (s *session) holdChat(ctx context.Context, chat schemas.Chat, frame wireFrame) (welcomed bool) {
	held := make(chan bool, 1)
	s.loop.push(item{do: func(l *fanoutLoop) {
		if s.out.welcomed && !s.out.closed {
			if s.out.gates == nil {
				s.out.gates = make(map[schemas.Chat]*gate)
			}
			s.out.gates[chat] = &gate{held: true}
			l.append(s, frame)
		}
		held <- s.out.welcomed && !s.out.closed
	}})
	select {
	case welcomed = <-held:
		return welcomed
	case <-ctx.Done():
		return false
	}
}
