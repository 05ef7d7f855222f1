package edge

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"parley/schemas"
)

// user is a user with at least one session on this edge. It is the audience of
// its direct chats.
type user struct {
	audience
	name schemas.User
	subs []*nats.Subscription // guarded by live.mu
	// ready is closed when the server has the subscriptions, those of the user's
	// groups too; failed tells that it never will.
	ready  chan struct{}
	failed error

	mu       sync.Mutex
	typingAt map[schemas.Chat]time.Time
	groups   map[*group]struct{} // that it is a member of; as what, the groups tell
	ended    bool                // its last session has left: it comes into no group any more
	privacy  privacy
	unknown  bool        // no worker has told the groups and the privacy yet
	looks    []markAsked // marks whose chat's end is to be looked up; at most looksMax
	looking  bool        // somebody does

	entering sync.Mutex   // held while its groups or its privacy are loaded, or a group is entered
	words    atomic.Int32 // groups that it is being let into; at most wordsMax
}

func (u *user) everyGroup() []*group {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.groups))
}

// endGroups returns the user's groups and lets it come into no other.
func (u *user) endGroups() []*group {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	return slices.Collect(maps.Keys(u.groups))
}

func (u *user) hasEnded() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ended
}

func (u *user) joinGroup(g *group) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return false
	}
	if u.groups == nil {
		u.groups = make(map[*group]struct{})
	}
	u.groups[g] = struct{}{}
	return true
}

func (u *user) leaveGroup(g *group) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.groups, g)
}

// isReady tells whether the user's first session has come to its welcome.
func (u *user) isReady() bool {
	select {
	case <-u.ready:
		return true
	default:
		return false
	}
}

func (u *user) isUnknown() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.unknown
}

func (u *user) setUnknown(unknown bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.unknown = unknown
}

// blocksIn tells whether the two of a direct chat do not talk.
func (u *user) blocksIn(chat schemas.Chat) bool {
	a, b, direct := chat.Users()
	if !direct {
		return false
	}
	if a == u.name {
		a = b
	}
	return u.getPrivacy().blocks(a)
}
