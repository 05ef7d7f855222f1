package edge

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	// askAgainAfter is how long after a worker has begun edges ask again what they watch:
	// the bucket may be new, and edges write their keys first. askAgainSpread is over how long.
	askAgainAfter  = 300 * time.Millisecond
	askAgainSpread = 500 * time.Millisecond
	// askAgainWithin bounds one of those questions.
	askAgainWithin = 5 * time.Second
)

// watches are whom the sessions of an edge watch. A watched user is one subscription,
// however many sessions watch; the live loop of its name holds it (see watchedUsers).
type watches struct {
	*base
	services *services
	lives    liveLoops
	askEvery time.Duration
	again    chan struct{} // holds one while all presence that is watched is to be asked again
	count    atomic.Int64  // users that are watched; at most watchedMax
}

// newWatches returns the watches of an edge, and gives each of lives its watchedUsers.
// askLoop asks workers again once in askEvery, the life of a session key.
func newWatches(b *base, services *services, lives liveLoops, askEvery time.Duration) *watches {
	ws := &watches{base: b, services: services, lives: lives, askEvery: askEvery, again: make(chan struct{}, 1)}
	for _, v := range lives {
		v.watched = &watchedUsers{loop: v, count: &ws.count, users: make(map[string]*watched)}
	}
	return ws
}

// of returns the watched users of the live loop that a user belongs to.
func (ws *watches) of(user schemas.User) *watchedUsers { return ws.lives.of(user.String()).watched }

// handlePresence answers a question about users.
func (ws *watches) handlePresence(ctx context.Context, s *session, frame schemas.Frame) *schemas.Error {
	if err := ws.rates.takeRead(s.user.name, ws.now()); err != nil {
		return err
	}
	return s.request(&ws.tasks, frame.Ref, func() (wireFrame, *schemas.Error) {
		answer, err := ws.ask(ctx, s.user, frame.Users.Users)
		if err != nil {
			return nil, err
		}
		s.push(presenceFrame(frame.Ref, answer.Users)) // before changes that come later
		return nil, nil
	})
}

// ask asks a worker; with whom u does not talk is offline.
func (ws *watches) ask(ctx context.Context, u *user, users []schemas.User) (*schemas.PresenceAnswer, *schemas.Error) {
	private := u.getPrivacy()
	if !private.known {
		return nil, unknownPrivacy(u.name)
	}
	asked := slices.DeleteFunc(slices.Clone(users), private.blocks)
	answer := &schemas.PresenceAnswer{Users: make(map[schemas.User]schemas.Presence, len(users))}
	if len(asked) > 0 {
		ctx, cancel := context.WithTimeout(ctx, requestWithin)
		defer cancel()
		if err := ws.services.ask(ctx, streams.PresenceSubject, schemas.Users{Users: asked}, answer); err != nil {
			return nil, err
		}
	}
	for _, user := range users {
		if private.blocks(user) {
			answer.Users[user] = offline
		}
	}
	return answer, nil
}

func presenceFrame(ref schemas.Ref, users map[schemas.User]schemas.Presence) wireFrame {
	return jsonFrame(schemas.PresenceFrame{T: schemas.TPresence, Ref: refPointer(ref), Users: users})
}

var offline = schemas.Presence{Status: schemas.Offline}

// handleWatch has a session be told of changes, and answers with how it is now.
func (ws *watches) handleWatch(ctx context.Context, s *session, frame schemas.Frame) *schemas.Error {
	if err := ws.rates.takeRead(s.user.name, ws.now()); err != nil {
		return err
	}
	users := frame.Users.Users
	added, refused := s.watching.add(users)
	if refused != nil {
		return refused
	}
	refused = s.request(&ws.tasks, frame.Ref, func() (wireFrame, *schemas.Error) {
		refused := ws.watch(ctx, s, frame.Ref, users)
		if refused != nil {
			ws.unwatch(s, added)
		}
		return nil, refused
	})
	if refused != nil {
		ws.unwatch(s, added)
	}
	return refused
}

// watch subscribes before it asks, so that no change falls between.
func (ws *watches) watch(ctx context.Context, s *session, ref schemas.Ref, users []schemas.User) *schemas.Error {
	err := ws.hold(ctx, users)
	defer ws.release(users)
	switch {
	case errors.Is(err, errWatched):
		return &schemas.Error{Code: schemas.Overloaded, Message: "too many users are watched on this node", RetryAfter: 30}
	case err != nil:
		ws.log.Warn("watch presence", "user", s.user.name, "error", err)
		return &schemas.Error{Code: schemas.Unavailable, Message: "presence cannot be watched now", RetryAfter: 1}
	}
	answer, refused := ws.ask(ctx, s.user, users)
	if refused != nil {
		return refused
	}
	told := make(map[schemas.User]schemas.Presence, len(users))
	asOf := make(map[schemas.User]time.Time, len(users))
	for _, user := range users {
		if is, at, ok := ws.of(user).begin(s, user, answer); ok {
			told[user], asOf[user] = is, at
		}
	}
	s.push(presenceFrame(ref, told))
	later := make(map[schemas.User]schemas.Presence)
	for user := range told { // what came before the answer was on its way
		if now, at := ws.of(user).now(s.user, user); at.After(asOf[user]) && now != told[user] {
			later[user] = now
		}
	}
	if len(later) > 0 {
		s.push(presenceFrame(schemas.Ref{}, later))
	}
	ws.apply(answer) // others may watch who missed it
	return nil
}

// handleUnwatch has a session not be told any more.
func (ws *watches) handleUnwatch(s *session, frame schemas.Frame) *schemas.Error {
	ws.unwatch(s, frame.Users.Users)
	if frame.Ref.Present {
		s.push(doneFrame(frame.Ref))
	}
	return nil
}

func (ws *watches) unwatch(s *session, users []schemas.User) {
	for _, user := range users {
		if s.watching.remove(user) {
			ws.of(user).end(s, user)
		}
	}
}

// unwatchAll is for a session that has left.
func (ws *watches) unwatchAll(s *session) {
	for user := range s.watching.end() {
		ws.of(user).end(s, user)
	}
}

// refresh sends a user's sessions the presence of others that they watch: a block
// between the user and each of others has just begun or ended.
func (ws *watches) refresh(u *user, others []schemas.User) {
	if len(others) == 0 {
		return
	}
	for _, s := range u.everySession() {
		told := make(map[schemas.User]schemas.Presence)
		for _, other := range others {
			if !s.watching.has(other) {
				continue
			}
			if is, asOf := ws.of(other).now(u, other); !asOf.IsZero() {
				told[other] = is
			}
		}
		if len(told) > 0 {
			s.push(presenceFrame(schemas.Ref{}, told))
		}
	}
}

// askAgain has askLoop ask a worker again about each watched user. It never blocks.
func (ws *watches) askAgain() {
	select {
	case ws.again <- struct{}{}:
	default:
	}
}

// askLoop asks again how those are who are watched: after a worker has begun or
// messages were missed, and in any case once in the life of a key.
func (ws *watches) askLoop(ctx context.Context) {
	every := time.NewTicker(ws.askEvery)
	defer every.Stop()
	for {
		select {
		case <-ws.again:
			if !sleep(ctx, askAgainAfter+rand.N(askAgainSpread)) {
				return
			}
		case <-every.C:
		case <-ctx.Done():
			return
		}
		if err := ws.askOnce(ctx); err != nil && ctx.Err() == nil {
			ws.log.Warn("ask again for presence that is watched", "error", err)
		}
	}
}

func (ws *watches) askOnce(ctx context.Context) error {
	for _, v := range ws.lives {
		for some := range slices.Chunk(v.watched.names(), schemas.PresenceUsersMax) {
			ctx, cancel := context.WithTimeout(ctx, askAgainWithin)
			var answer schemas.PresenceAnswer
			refused := ws.services.ask(ctx, streams.PresenceSubject, schemas.Users{Users: some}, &answer)
			cancel()
			if refused != nil {
				return refused
			}
			ws.apply(&answer)
		}
	}
	return nil
}

// watching is whom a session watches; at most [schemas.PresenceUsersMax].
type watching struct {
	mu    sync.Mutex
	users map[schemas.User]struct{}
	ended bool // its session has left
}

// add returns those of users who were not watched. It refuses all of them where the
// session would watch too many.
func (w *watching) add(users []schemas.User) (added []schemas.User, refused *schemas.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, user := range users {
		if _, ok := w.users[user]; !ok && !slices.Contains(added, user) {
			added = append(added, user)
		}
	}
	switch {
	case w.ended:
		return nil, nil
	case len(w.users)+len(added) > schemas.PresenceUsersMax:
		return nil, schemas.Errorf(schemas.Invalid, "a session watches at most %d users: it does %d already", schemas.PresenceUsersMax, len(w.users))
	case w.users == nil:
		w.users = make(map[schemas.User]struct{}, len(added))
	}
	for _, user := range added {
		w.users[user] = struct{}{}
	}
	return added, nil
}

func (w *watching) has(user schemas.User) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.users[user]
	return ok
}

func (w *watching) remove(user schemas.User) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.users[user]
	delete(w.users, user)
	return ok
}

// end returns whom the session watched; it watches nobody any more.
func (w *watching) end() map[schemas.User]struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	users := w.users
	w.users, w.ended = nil, true
	return users
}
