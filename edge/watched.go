package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// watched is a user whose presence sessions here are told. It belongs to the live
// loop of its name; all of it is guarded by live.mu.
type watched struct {
	name     schemas.User
	sub      *nats.Subscription // nil where it failed
	holds    int                // who is about to watch
	sessions []*session         // replaced, never changed in place
	is       schemas.Presence
	asOf     time.Time // zero: not known yet
}

// holdWatched has users be watched here until releaseWatched, and returns when NATS
// has the subscriptions.
func (e *Edge) holdWatched(ctx context.Context, users []schemas.User) (err error) {
	for _, user := range users {
		if holdErr := e.liveLoopOf(user.String()).holdWatched(user); holdErr != nil {
			err = holdErr
		}
	}
	if err != nil {
		return err
	}
	return e.flusher.flush(ctx)
}

func (v *liveLoop) holdWatched(user schemas.User) (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.watched[user.String()]
	if w == nil {
		w = &watched{name: user}
		v.watched[user.String()] = w
	}
	w.holds++
	if w.sub != nil {
		return nil
	}
	if v.edge.watchedUsers.Add(1) > watchedMax {
		v.edge.watchedUsers.Add(-1)
		return errWatched
	}
	if w.sub, err = v.edge.conn.ChanSubscribe(streams.PresenceOf(user), v.channel); err != nil {
		v.edge.watchedUsers.Add(-1)
		return fmt.Errorf("subscribe %q: %w", streams.PresenceOf(user), err)
	}
	return nil
}

func (e *Edge) releaseWatched(users []schemas.User) {
	for _, user := range users {
		v := e.liveLoopOf(user.String())
		v.mu.Lock()
		w := v.watched[user.String()]
		w.holds--
		ended := v.endWatchedLocked(w)
		v.mu.Unlock()
		unsubscribe(ended)
	}
}

// endWatchedLocked forgets a user whom nobody watches, and returns its subscription.
func (v *liveLoop) endWatchedLocked(w *watched) *nats.Subscription {
	if w.holds > 0 || len(w.sessions) > 0 {
		return nil
	}
	delete(v.watched, w.name.String())
	if w.sub != nil {
		v.edge.watchedUsers.Add(-1)
	}
	return w.sub
}

// beginWatch has a session be told of a user from now on, and returns what it has to
// know before: what the worker answered, or what came since. It returns false where
// the session does not watch the user any more.
func (e *Edge) beginWatch(s *session, user schemas.User, answer *schemas.PresenceAnswer) (is schemas.Presence, asOf time.Time, ok bool) {
	v := e.liveLoopOf(user.String())
	v.mu.Lock()
	defer v.mu.Unlock()
	if !s.watching.has(user) {
		return is, asOf, false
	}
	w := v.watched[user.String()]
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

// watchedNow is a user's presence as u is told it; asOf is zero where it is not known.
func (e *Edge) watchedNow(u *user, of schemas.User) (is schemas.Presence, asOf time.Time) {
	v := e.liveLoopOf(of.String())
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.watched[of.String()]
	switch {
	case w == nil:
		return is, asOf
	case u.getPrivacy().blocks(of):
		return offline, w.asOf
	}
	return w.is, w.asOf
}

func (e *Edge) endWatch(s *session, user schemas.User) {
	v := e.liveLoopOf(user.String())
	v.mu.Lock()
	w := v.watched[user.String()]
	if w == nil {
		v.mu.Unlock()
		return
	}
	w.sessions = removeSession(w.sessions, s)
	ended := v.endWatchedLocked(w)
	v.mu.Unlock()
	unsubscribe(ended)
}

// handleChange takes a worker's word of a user that is watched.
func (v *liveLoop) handleChange(name string, data []byte) {
	var change schemas.PresenceChange
	if err := json.Unmarshal(data, &change); err != nil {
		v.edge.log.Warn("presence cannot be read", "user", name, "error", err)
		return
	}
	v.applyPresence(name, change)
}

// applyPresence tells a change to who watches the user. Several workers tell each,
// and one of them may be behind.
func (v *liveLoop) applyPresence(name string, change schemas.PresenceChange) {
	v.mu.Lock()
	w := v.watched[name]
	if w == nil || change.AsOf.Before(w.asOf) {
		v.mu.Unlock()
		return
	}
	before, sessions := w.is, w.sessions
	w.is, w.asOf = change.Presence, change.AsOf
	v.mu.Unlock()
	if before == change.Presence {
		return
	}
	told := slices.DeleteFunc(slices.Clone(sessions), func(s *session) bool { return s.user.getPrivacy().blocks(w.name) })
	v.deliverTo(told, item{frame: presenceFrame(schemas.Ref{}, map[schemas.User]schemas.Presence{w.name: change.Presence})})
}

// applyAnswer tells those who watch what a worker has answered, where it is news.
func (e *Edge) applyAnswer(answer *schemas.PresenceAnswer) {
	byLoop := make(map[*liveLoop][]schemas.User)
	for user := range answer.Users {
		v := e.liveLoopOf(user.String())
		byLoop[v] = append(byLoop[v], user)
	}
	for v, users := range byLoop {
		v.call(func() {
			for _, user := range users {
				v.applyPresence(user.String(), schemas.PresenceChange{Presence: answer.Users[user], AsOf: answer.AsOf})
			}
		})
	}
}
