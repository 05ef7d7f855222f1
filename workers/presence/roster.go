package presence

import (
	"sync"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	// lapseAfter is how long after its time a key is looked for whose end did not come.
	lapseAfter = time.Second
	// confirmAfter is that after its end has come: NATS may just have woken, with what
	// edges wrote meanwhile behind it.
	confirmAfter = 500 * time.Millisecond
	// doubtFor is how long a key counts that a replica has and the watch does not.
	doubtFor = time.Second
)

// roster is every user with a session, and what others see of it. What is shown is
// changed by the watch alone; it may be read by anybody.
type roster struct {
	mu       sync.RWMutex
	users    map[schemas.User]entry
	sessions int
	asOf     time.Time // when the last message of the bucket was stored that is in it
}

// entry is one user's: a hundred thousand of them are to be small.
type entry struct {
	sessions []session
	shown    schemas.Status // online, away or offline
}

type session struct {
	id      schemas.ID
	status  schemas.Status
	lookFor int64 // unix milliseconds at which the bucket is asked whether it still has the key
	written int64 // unix microseconds at which it was written last, by the bucket's clock
}

// change is what others are to be told of a user.
type change struct {
	user schemas.User
	schemas.Presence
}

func newRoster() *roster { return &roster{users: make(map[schemas.User]entry)} }

// reached notes how far the bucket was read.
func (r *roster) reached(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.After(r.asOf) {
		r.asOf = at
	}
}

// readUpTo is when the last message was stored that is in it.
func (r *roster) readUpTo() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.asOf
}

// put takes a key that is in the bucket, until when it lives by this process's clock,
// and returns the change that it makes.
func (r *roster) put(key streams.SessionKey, until time.Time) (change, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.users[key.User]
	i := e.find(key.Session)
	if i < 0 {
		i = len(e.sessions)
		e.sessions = append(e.sessions, session{id: key.Session}) // which is part of the first key's text, as the user is
		r.sessions++
	}
	is := &e.sessions[i]
	is.status, is.lookFor, is.written = key.Status, until.Add(lapseAfter).UnixMilli(), key.Stored.UnixMicro()
	return r.settleLocked(key.User, e, key.Stored)
}

// end takes a session away. Where it was the last of a user who is shown, nothing
// changes yet, and last is true: the bucket is to be asked for others.
func (r *roster) end(user schemas.User, id schemas.ID, at time.Time) (c change, changed, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.users[user]
	i := e.find(id)
	if i < 0 {
		return c, false, len(e.sessions) == 0 && e.isShown()
	}
	e.sessions[i] = e.sessions[len(e.sessions)-1]
	e.sessions = e.sessions[:len(e.sessions)-1]
	r.sessions--
	if len(e.sessions) == 0 && e.isShown() {
		r.users[user] = e
		return c, false, true
	}
	c, changed = r.settleLocked(user, e, at)
	return c, changed, false
}

// settle returns the change of a user of whom no more sessions are known than there are.
func (r *roster) settle(user schemas.User, at time.Time) (change, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settleLocked(user, r.users[user], at)
}

func (r *roster) settleLocked(user schemas.User, e entry, at time.Time) (c change, changed bool) {
	before := e.shown
	e.shown = e.status()
	if len(e.sessions) == 0 {
		delete(r.users, user)
	} else {
		r.users[user] = e
	}
	c = change{user, schemas.Presence{Status: e.shown}}
	if e.shown == schemas.Offline {
		c.LastSeen = at.UTC().Truncate(time.Microsecond) // as stores keep it
	}
	return c, e.shown != before && (before != "" || e.shown != schemas.Offline)
}

// lapse has the bucket be asked for a session's key whose end has come.
func (r *roster) lapse(user schemas.User, id schemas.ID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.users[user]; e.find(id) >= 0 {
		e.sessions[e.find(id)].lookFor = now.Add(confirmAfter).UnixMilli()
	}
}

// due returns the sessions whose keys are to be looked for, as they were stored last.
func (r *roster) due(now time.Time) (due []streams.SessionKey) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	at := now.UnixMilli()
	for user, e := range r.users {
		for i := range e.sessions {
			if is := &e.sessions[i]; is.lookFor <= at {
				due = append(due, streams.SessionKey{User: user, Session: is.id, Stored: time.UnixMicro(is.written)})
			}
		}
	}
	return due
}

// has tells whether a session is known.
func (r *roster) has(user schemas.User, id schemas.ID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e := r.users[user]
	return e.find(id) >= 0
}

// shown returns how users are, and as of when.
func (r *roster) shown(users []schemas.User) (map[schemas.User]schemas.Presence, time.Time) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make(map[schemas.User]schemas.Presence, len(users))
	for _, user := range users {
		status := r.users[user].shown
		if status == "" {
			status = schemas.Offline
		}
		all[user] = schemas.Presence{Status: status}
	}
	return all, r.asOf
}

// size returns how many sessions there are, and users who have any.
func (r *roster) size() (sessions, users int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.sessions, len(r.users)
}

func (e *entry) find(id schemas.ID) int {
	for i := range e.sessions {
		if e.sessions[i].id == id {
			return i
		}
	}
	return -1
}

func (e *entry) isShown() bool { return e.shown == schemas.Online || e.shown == schemas.Away }

// status is what others see: nothing where one session is to be invisible, since all
// are then, and one may not have heard of it yet; else the most present of them.
func (e *entry) status() schemas.Status {
	status := schemas.Offline
	for i := range e.sessions {
		switch e.sessions[i].status {
		case schemas.Invisible:
			return schemas.Offline
		case schemas.Online:
			status = schemas.Online
		case schemas.Away:
			if status == schemas.Offline {
				status = schemas.Away
			}
		}
	}
	return status
}
