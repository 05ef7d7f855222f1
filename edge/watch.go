package edge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

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
	// watchedMax bounds the users that sessions of this edge watch, each a subscription.
	// Past it watches of others are refused.
	watchedMax = 1 << 18
)

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

// watching is whom a session watches; at most [schemas.PresenceUsersMax].
type watching struct {
	mu    sync.Mutex
	users map[schemas.User]struct{}
	ended bool // its session has left
}

// handlePresence answers a question about users.
func (e *Edge) handlePresence(ctx context.Context, s *session, frame schemas.Frame) *schemas.Error {
	if err := e.takeRead(s.user.name, e.now()); err != nil {
		return err
	}
	return e.request(s, frame.Ref, func() (wireFrame, *schemas.Error) {
		answer, err := e.askPresence(ctx, s.user, frame.Users.Users)
		if err != nil {
			return nil, err
		}
		s.push(presenceFrame(frame.Ref, answer.Users)) // before changes that come later
		return nil, nil
	})
}

func presenceFrame(ref schemas.Ref, users map[schemas.User]schemas.Presence) wireFrame {
	return jsonFrame(schemas.PresenceFrame{T: schemas.TPresence, Ref: refPointer(ref), Users: users})
}

var offline = schemas.Presence{Status: schemas.Offline}

// askPresence asks a worker; with whom u does not talk is offline.
func (e *Edge) askPresence(ctx context.Context, u *user, users []schemas.User) (*schemas.PresenceAnswer, *schemas.Error) {
	private := u.getPrivacy()
	if !private.known {
		return nil, unknownPrivacy(u.name)
	}
	asked := slices.DeleteFunc(slices.Clone(users), private.blocks)
	answer := &schemas.PresenceAnswer{Users: make(map[schemas.User]schemas.Presence, len(users))}
	if len(asked) > 0 {
		ctx, cancel := context.WithTimeout(ctx, requestWithin)
		defer cancel()
		if err := e.ask(ctx, streams.PresenceSubject, schemas.Users{Users: asked}, answer); err != nil {
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

// handleWatch has a session be told of changes, and answers with how it is now.
func (e *Edge) handleWatch(ctx context.Context, s *session, frame schemas.Frame) *schemas.Error {
	if err := e.takeRead(s.user.name, e.now()); err != nil {
		return err
	}
	users := frame.Users.Users
	added, refused := s.watching.add(users)
	if refused != nil {
		return refused
	}
	refused = e.request(s, frame.Ref, func() (wireFrame, *schemas.Error) {
		refused := e.watch(ctx, s, frame.Ref, users)
		if refused != nil {
			e.unwatch(s, added)
		}
		return nil, refused
	})
	if refused != nil {
		e.unwatch(s, added)
	}
	return refused
}

// watch subscribes before it asks, so that no change falls between.
func (e *Edge) watch(ctx context.Context, s *session, ref schemas.Ref, users []schemas.User) *schemas.Error {
	err := e.holdWatched(ctx, users)
	defer e.releaseWatched(users)
	switch {
	case errors.Is(err, errWatched):
		return &schemas.Error{Code: schemas.Overloaded, Message: "too many users are watched on this node", RetryAfter: 30}
	case err != nil:
		e.log.Warn("watch presence", "user", s.user.name, "error", err)
		return &schemas.Error{Code: schemas.Unavailable, Message: "presence cannot be watched now", RetryAfter: 1}
	}
	answer, refused := e.askPresence(ctx, s.user, users)
	if refused != nil {
		return refused
	}
	told := make(map[schemas.User]schemas.Presence, len(users))
	asOf := make(map[schemas.User]time.Time, len(users))
	for _, user := range users {
		if is, at, ok := e.beginWatch(s, user, answer); ok {
			told[user], asOf[user] = is, at
		}
	}
	s.push(presenceFrame(ref, told))
	later := make(map[schemas.User]schemas.Presence)
	for user := range told { // what came before the answer was on its way
		if now, at := e.watchedNow(s.user, user); at.After(asOf[user]) && now != told[user] {
			later[user] = now
		}
	}
	if len(later) > 0 {
		s.push(presenceFrame(schemas.Ref{}, later))
	}
	e.applyAnswer(answer) // others may watch who missed it
	return nil
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

// handleUnwatch has a session not be told any more.
func (e *Edge) handleUnwatch(s *session, frame schemas.Frame) *schemas.Error {
	e.unwatch(s, frame.Users.Users)
	if frame.Ref.Present {
		s.push(doneFrame(frame.Ref))
	}
	return nil
}

func (e *Edge) unwatch(s *session, users []schemas.User) {
	for _, user := range users {
		if s.watching.remove(user) {
			e.endWatch(s, user)
		}
	}
}

// unwatchAll is for a session that has left.
func (e *Edge) unwatchAll(s *session) {
	for user := range s.watching.end() {
		e.endWatch(s, user)
	}
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

// tellAgain tells a user's sessions of those whom they watch among others, with whom
// it talks or does not since just now.
func (e *Edge) tellAgain(u *user, others []schemas.User) {
	if len(others) == 0 {
		return
	}
	for _, s := range u.everySession() {
		told := make(map[schemas.User]schemas.Presence)
		for _, other := range others {
			if !s.watching.has(other) {
				continue
			}
			if is, asOf := e.watchedNow(u, other); !asOf.IsZero() {
				told[other] = is
			}
		}
		if len(told) > 0 {
			s.push(presenceFrame(schemas.Ref{}, told))
		}
	}
}

// askAgain has watchLoop ask for all presence that is watched.
func (e *Edge) askAgain() {
	select {
	case e.again <- struct{}{}:
	default:
	}
}

// watchLoop asks again how those are who are watched: after a worker has begun or
// messages were missed, and in any case once in the life of a key.
func (e *Edge) watchLoop(ctx context.Context) {
	every := time.NewTicker(e.presence.ttl)
	defer every.Stop()
	for {
		select {
		case <-e.again:
			if !sleep(ctx, askAgainAfter+rand.N(askAgainSpread)) {
				return
			}
		case <-every.C:
		case <-ctx.Done():
			return
		}
		if err := e.askWatched(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("ask again for presence that is watched", "error", err)
		}
	}
}

func (e *Edge) askWatched(ctx context.Context) error {
	for _, v := range e.lives {
		v.mu.Lock()
		users := make([]schemas.User, 0, len(v.watched))
		for _, w := range v.watched {
			users = append(users, w.name)
		}
		v.mu.Unlock()
		for some := range slices.Chunk(users, schemas.PresenceUsersMax) {
			ctx, cancel := context.WithTimeout(ctx, askAgainWithin)
			var answer schemas.PresenceAnswer
			refused := e.ask(ctx, streams.PresenceSubject, schemas.Users{Users: some}, &answer)
			cancel()
			if refused != nil {
				return refused
			}
			e.applyAnswer(&answer)
		}
	}
	return nil
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
