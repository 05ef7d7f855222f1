package edge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
)

// watchedMax bounds the users that sessions of this edge watch, each a subscription.
// Past it watches of others are refused.
const watchedMax = 1 << 18

var errWatched = errors.New("too many users are watched")

// watchedUsers has the watched users of one live loop. The loop calls handleChange; the
// read loops and the goroutines of requests call the other methods.
type watchedUsers struct {
	loop  *liveLoop
	count *atomic.Int64 // of all live loops; at most watchedMax

	mu    sync.Mutex // taken before watching.mu and user.mu; never held together with liveLoop.mu
	users map[string]*watched
}

// watched is a user whose presence sessions here are told. It belongs to the live
// loop of its name; all of it is guarded by watchedUsers.mu.
type watched struct {
	name     schemas.User
	sub      *nats.Subscription // nil where it failed
	holds    int                // who is about to watch
	sessions []*session         // replaced, never changed in place
	is       schemas.Presence
	asOf     time.Time // zero: not known yet
}

// names returns the users that are watched.
func (wu *watchedUsers) names() []schemas.User {
	wu.mu.Lock()
	defer wu.mu.Unlock()
	names := make([]schemas.User, 0, len(wu.users))
	for _, w := range wu.users {
		names = append(names, w.name)
	}
	return names
}

// hold has users be watched here until release, and returns when NATS
// has the subscriptions.
func (ws *watches) hold(ctx context.Context, users []schemas.User) (err error) {
	for _, user := range users {
		if holdErr := ws.of(user).hold(user); holdErr != nil {
			err = holdErr
		}
	}
	if err != nil {
		return err
	}
	return ws.flusher.flush(ctx)
}

func (wu *watchedUsers) hold(user schemas.User) (err error) {
	wu.mu.Lock()
	defer wu.mu.Unlock()
	w := wu.users[user.String()]
	if w == nil {
		w = &watched{name: user}
		wu.users[user.String()] = w
	}
	w.holds++
	if w.sub != nil {
		return nil
	}
	if wu.count.Add(1) > watchedMax {
		wu.count.Add(-1)
		return errWatched
	}
	if w.sub, err = wu.loop.base.subscribe(streams.PresenceOf(user), wu.loop.channel); err != nil {
		wu.count.Add(-1)
		return err
	}
	return nil
}

// begin adds a session to those that watch a user. It returns the presence to send first:
// the worker's answer, or a change that arrived since. ok is false if the session has
// ended its watch meanwhile. The caller holds the user, so that it is in users.
func (wu *watchedUsers) begin(s *session, user schemas.User, answer *schemas.PresenceAnswer) (is schemas.Presence, asOf time.Time, ok bool) {
	wu.mu.Lock()
	defer wu.mu.Unlock()
	if !s.watching.has(user) {
		return is, asOf, false
	}
	w := wu.users[user.String()]
	w.sessions = insertSession(w.sessions, s)
	if w.asOf.IsZero() {
		w.is, w.asOf = answer.Users[user], answer.AsOf
	}
	is, asOf = answer.Users[user], answer.AsOf
	if asOf.Before(w.asOf) {
		is, asOf = w.is, w.asOf
	}
	if s.user.getPrivacy().blocks(user) {
		is = offline
	}
	return is, asOf, true
}

// now is a user's presence as u is told it; asOf is zero where it is not known.
func (wu *watchedUsers) now(u *user, of schemas.User) (is schemas.Presence, asOf time.Time) {
	wu.mu.Lock()
	defer wu.mu.Unlock()
	w := wu.users[of.String()]
	switch {
	case w == nil:
		return is, asOf
	case u.getPrivacy().blocks(of):
		return offline, w.asOf
	}
	return w.is, w.asOf
}

func (ws *watches) release(users []schemas.User) {
	for _, user := range users {
		ws.of(user).release(user)
	}
}

func (wu *watchedUsers) release(user schemas.User) {
	wu.mu.Lock()
	w := wu.users[user.String()]
	w.holds--
	ended := wu.endLocked(w)
	wu.mu.Unlock()
	unsubscribe(ended)
}

func (wu *watchedUsers) end(s *session, user schemas.User) {
	wu.mu.Lock()
	w := wu.users[user.String()]
	if w == nil {
		wu.mu.Unlock()
		return
	}
	w.sessions = removeSession(w.sessions, s)
	ended := wu.endLocked(w)
	wu.mu.Unlock()
	unsubscribe(ended)
}

// endLocked forgets a user whom nobody watches, and returns its subscription.
func (wu *watchedUsers) endLocked(w *watched) *nats.Subscription {
	if w.holds > 0 || len(w.sessions) > 0 {
		return nil
	}
	delete(wu.users, w.name.String())
	if w.sub != nil {
		wu.count.Add(-1)
	}
	return w.sub
}

// handleChange takes a worker's word of a user that is watched.
func (wu *watchedUsers) handleChange(name string, data []byte) {
	var change schemas.PresenceChange
	if err := json.Unmarshal(data, &change); err != nil {
		wu.loop.log.Warn("presence cannot be read", "user", name, "error", err)
		return
	}
	wu.apply(name, change)
}

// apply sends a change to the sessions that watch the user. Only the live loop calls it.
// Every worker publishes every change, and one worker can be behind: apply drops a change
// that is older than the last.
func (wu *watchedUsers) apply(name string, change schemas.PresenceChange) {
	wu.mu.Lock()
	w := wu.users[name]
	if w == nil || change.AsOf.Before(w.asOf) {
		wu.mu.Unlock()
		return
	}
	before, sessions := w.is, w.sessions
	w.is, w.asOf = change.Presence, change.AsOf
	wu.mu.Unlock()
	if before == change.Presence {
		return
	}
	told := slices.DeleteFunc(slices.Clone(sessions), func(s *session) bool { return s.user.getPrivacy().blocks(w.name) })
	wu.loop.deliverTo(told, item{frame: presenceFrame(schemas.Ref{}, map[schemas.User]schemas.Presence{w.name: change.Presence})})
}

// apply has each live loop apply a worker's answer, as it applies a published change.
func (ws *watches) apply(answer *schemas.PresenceAnswer) {
	byLoop := make(map[*liveLoop][]schemas.User)
	for user := range answer.Users {
		v := ws.lives.of(user.String())
		byLoop[v] = append(byLoop[v], user)
	}
	for v, users := range byLoop {
		v.call(func() {
			for _, user := range users {
				v.watched.apply(user.String(), schemas.PresenceChange{Presence: answer.Users[user], AsOf: answer.AsOf})
			}
		})
	}
}
