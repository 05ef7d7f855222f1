package edge

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
)

// changesMax bounds the events that a group remembers to have changed its
// members. Whoever comes in with what was known before them reads the log.
const changesMax = 64

// group is a group that users on this edge are in. It is the audience of its own
// chat: one subscription, however many of them there are.
type group struct {
	audience
	chat schemas.Chat
	// ready is closed when the server has the subscription; failed tells that it never will.
	ready  chan struct{}
	failed error

	// Guarded by live.mu.
	sub     *nats.Subscription
	holds   int                     // members here, and who is about to be one: without any it ends
	members map[schemas.User]member // here alone
	count   uint64                  // of all members; 0: not known
	changes []groupChange           // by rising seq
	known   uint64                  // changes has all of those after this seq
}

// member is what a user is in a chat.
type member struct {
	user  *user // in a group
	role  schemas.Role
	since uint64 // seq of the event by which it came in
	from  uint64 // what it may read begins here
}

// before is the seq up to which the member may read nothing.
func (m member) before() uint64 { return max(m.from, 1) - 1 }

// groupChange is an event that changed members of a group.
type groupChange struct {
	seq   uint64
	event *schemas.Event
}

// holdGroup returns the group of a chat, and begins it where there is none: made
// tells that the caller has to subscribe it. asOf is what the caller knows of its
// members. Each call is ended by [group.release], or by a member.
func (e *Edge) holdGroup(chat schemas.Chat, asOf uint64) (g *group, made bool) {
	v := e.liveLoopOf(chat.String())
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
	sub, err := g.live.edge.conn.ChanSubscribe(pattern, g.live.channel)
	if err != nil {
		return fmt.Errorf("subscribe %q: %w", pattern, err)
	}
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	g.sub = sub
	return nil
}

// release ends a hold. The last one ends the group.
func (g *group) release() {
	g.live.mu.Lock()
	sub := g.releaseLocked()
	g.live.mu.Unlock()
	unsubscribe(sub)
}

func (g *group) releaseLocked() (ended *nats.Subscription) {
	if g.holds--; g.holds > 0 || g.live.groups[g.chat.String()] != g {
		return nil
	}
	delete(g.live.groups, g.chat.String())
	return g.sub
}

func unsubscribe(sub *nats.Subscription) {
	if sub != nil {
		_ = sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
	}
}

// attach adds a session of a member, unless it has left.
func (g *group) attach(s *session) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	if g.members[s.user.name].user == s.user && !s.gone.Load() {
		g.sessions = insertSession(g.sessions, s)
	}
}

func (g *group) detach(s *session) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	g.sessions = removeSession(g.sessions, s)
}

// readersOf returns the sessions of those who may read an event that came before
// some of them did.
func (g *group) readersOf(seq uint64) []*session {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.sessions), func(s *session) bool { return seq <= g.members[s.user.name].before() })
}

// size is how many members the group has; 0 where that is not known.
func (g *group) size() uint64 {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	return g.count
}

// memberOf tells what a user on this edge is in the group.
func (g *group) memberOf(u *user) (member, bool) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	m := g.members[u.name]
	return m, m.user == u
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

// apply changes m by an event, as far as it is about a user.
func (m *member) apply(change groupChange, name schemas.User) {
	for user, role := range change.event.Roles() {
		if user == name {
			m.become(role, change)
		}
	}
}

func (m *member) become(role schemas.Role, change groupChange) {
	m.role = role
	if !change.event.Joins() {
		return
	}
	m.since = change.seq
	if m.from > 0 {
		m.from = change.seq
	}
}

// drop ends a user's membership here.
func (g *group) drop(u *user) {
	g.live.mu.Lock()
	var ended *nats.Subscription
	g.sessions = slices.DeleteFunc(slices.Clone(g.sessions), func(s *session) bool { return s.user == u })
	if g.members[u.name].user == u {
		delete(g.members, u.name)
		ended = g.releaseLocked()
	}
	g.live.mu.Unlock()
	u.leaveGroup(g)
	unsubscribe(ended)
}

var (
	memberPrefix = []byte(`{"type":"` + schemas.MemberEvent + `"`)
	groupPrefix  = []byte(`{"type":"` + schemas.GroupEvent + `"`)
)

// changesGroup tells without decoding it whether an event of a group changes it.
func changesGroup(event []byte) bool {
	return bytes.HasPrefix(event, memberPrefix) || bytes.HasPrefix(event, groupPrefix)
}

// takesOut tells whether an event of a group takes a user out of it.
func takesOut(event []byte, name schemas.User) bool {
	if !changesGroup(event) {
		return false
	}
	ev, err := schemas.DecodeEvent(event)
	if err != nil {
		return false // nobody follows it
	}
	for user, role := range ev.Roles() {
		if user == name && !role.In() {
			return true
		}
	}
	return false
}

// follow applies an event of the group, which its members here were sent: the
// live loop calls it for each in its order. Who comes in is not let in by it but by
// the personal event that tells of it, which comes where the group is not followed
// yet, too: see [Edge.added].
func (g *group) follow(seq uint64, event []byte) {
	if !changesGroup(event) {
		return
	}
	ev, err := schemas.DecodeEvent(event)
	if err != nil {
		g.live.edge.log.Warn("event of a group cannot be read", "chat", g.chat, "seq", seq, "error", err)
		return
	}
	for _, u := range g.remember(groupChange{seq, ev}) {
		frame := jsonFrame(schemas.ChatFrame{T: schemas.TChat, Chat: g.chat, Change: schemas.ChatRemoved, Seq: seq})
		g.drop(u) // before it is told: what it asks then is refused
		g.live.deliver(&u.audience, item{frame: frame})
	}
}

// remember keeps a change for who comes in later, and returns the members here
// whom it takes out of the group.
func (g *group) remember(change groupChange) (out []*user) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	if len(g.changes) == changesMax {
		g.known = g.changes[0].seq
		g.changes = slices.Delete(g.changes, 0, 1)
	}
	g.changes = append(g.changes, change)
	g.count = change.event.Count
	for name, role := range change.event.Roles() {
		m, here := g.members[name]
		if !here || change.seq < m.since { // it came in by a later event, of which it was told before
			continue
		}
		m.become(role, change)
		if g.members[name] = m; !role.In() {
			out = append(out, m.user)
		}
	}
	return out
}

// reload has the members here be asked for anew, after events up to a seq were missed.
func (g *group) reload(missed uint64) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	g.changes, g.known, g.count = nil, missed, 0
	for _, m := range g.members {
		g.live.edge.loadLater(m.user)
	}
}
