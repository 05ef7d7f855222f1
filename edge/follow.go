package edge

import (
	"bytes"
	"slices"

	"github.com/nats-io/nats.go"

	"parley/schemas"
)

// changesMax bounds the events that a group remembers to have changed its
// members. Whoever comes in with what was known before them reads the log.
const changesMax = 64

// groupChange is an event that changed members of a group.
type groupChange struct {
	seq   uint64
	event *schemas.Event
}

// follow applies an event of the group, which its members here were sent: the
// live loop calls it for each in its order. Who comes in is not let in by it but by
// the personal event that tells of it, which comes where the group is not followed
// yet, too: see [membership.enter].
func (g *group) follow(seq uint64, event []byte) {
	if !changesGroup(event) {
		return
	}
	ev, err := schemas.DecodeEvent(event)
	if err != nil {
		g.live.log.Warn("event of a group cannot be read", "chat", g.chat, "seq", seq, "error", err)
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

// takeOut ends a membership whose end came by no event here.
func (ms *membership) takeOut(u *user, g *group) {
	g.drop(u)
	frame := jsonFrame(schemas.ChatFrame{T: schemas.TChat, Chat: g.chat, Change: schemas.ChatRemoved})
	for _, s := range u.everySession() {
		s.push(frame)
	}
}

// reload has the members here be asked for anew, after events up to a seq were missed.
func (g *group) reload(missed uint64) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	g.changes, g.known, g.count = nil, missed, 0
	for _, m := range g.members {
		g.live.members.loadLater(m.user)
	}
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
