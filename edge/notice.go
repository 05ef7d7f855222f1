package edge

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
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

// handleNotice takes a personal event. What it tells of a group that its user
// came into is done beside the loop: the group may have to be subscribed first.
func (v *liveLoop) handleNotice(name string, data []byte) {
	v.mu.Lock()
	u := v.users[name]
	v.mu.Unlock()
	if u == nil {
		return // its last session has just left
	}
	var notice schemas.Notice
	if err := json.Unmarshal(data, &notice); err != nil {
		v.edge.log.Warn("personal event cannot be read", "user", name, "error", err)
		return
	}
	switch notice.Change {
	case schemas.ChatAdded:
		if m, refused := v.edge.memberOf(u, notice.Chat); refused == nil && m.since >= notice.Seq {
			return // told before
		}
		if u.words.Add(1) > wordsMax {
			u.words.Add(-1)
			v.edge.loadLater(u)
			return
		}
		v.edge.tasks.Go(func() {
			defer u.words.Add(-1)
			if err := v.edge.added(v.edge.ctx, u, &notice); err != nil && v.edge.ctx.Err() == nil {
				v.edge.log.Warn("enter group", "user", name, "chat", notice.Chat, "error", err)
				v.edge.loadLater(u)
			}
		})
		return
	case schemas.ChatBlocked, schemas.ChatUnblocked, schemas.ChatPrivacy:
		if notice.Hidden {
			v.edge.tasks.Go(func() { v.edge.loadPrivacy(v.edge.ctx, u) })
		}
	case schemas.ChatRead:
		marks := []schemas.ReceiptMark{{User: u.name, Read: notice.Seq}}
		v.deliver(&u.audience, item{frame: jsonFrame(schemas.ReceiptFrame{T: schemas.TReceipt, Chat: notice.Chat, Marks: marks})})
	}
	if !notice.Hidden {
		v.deliver(&u.audience, item{frame: jsonFrame(notice.ChatFrame)})
	}
}

// added lets a user into a group: its sessions are told, sent the event by which it
// came in and what followed, and then what comes live. It may be told twice, and
// late, when the user has left again.
func (e *Edge) added(ctx context.Context, u *user, notice *schemas.Notice) error {
	u.entering.Lock()
	defer u.entering.Unlock()
	entering, cancel := context.WithTimeout(ctx, enterWithin)
	defer cancel()
	if g := e.groupOf(notice.Chat); g != nil {
		if m, in := g.memberOf(u); in && m.since >= notice.Seq {
			return nil
		}
	}
	g, made := e.holdGroup(notice.Chat, notice.Seq)
	defer g.release()
	if made {
		if g.failed = g.subscribe(); g.failed == nil {
			g.failed = e.flusher.flush(entering)
		}
		close(g.ready)
	}
	if err := g.await(entering); err != nil {
		return err
	}
	m := member{role: notice.Role, since: notice.Seq, from: notice.From}
	asOf, err := e.catchUpToEnd(entering, notice.Chat, u.name, &m, notice.Seq)
	if err != nil {
		return err
	}
	in, err := e.admit(entering, g, u, m, asOf)
	if err != nil || !in {
		return err
	}
	e.letIn(ctx, u, g)
	return nil
}

// letIn has the sessions of a user who has come into a group be told, sent the
// event by which it did and what followed, and then what comes live. That event
// may be a later one than that of which word came. The caller holds u.entering.
func (e *Edge) letIn(ctx context.Context, u *user, g *group) {
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
		r := resume{edge: e, session: s, entering: true, since: map[schemas.Chat]uint64{g.chat: m.since}}
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
