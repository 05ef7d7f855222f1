package edge

import (
	"slices"

	"github.com/nats-io/nats.go"

	"parley/schemas"
)

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

func unsubscribe(sub *nats.Subscription) {
	if sub != nil {
		_ = sub.Unsubscribe() // fails only when the connection is closed, and the subscription with it
	}
}
