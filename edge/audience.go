package edge

import (
	"parley/schemas"
)

// cursorsMax bounds the chats whose last seq is kept per audience. Past it one
// is forgotten: its next event is then delivered unchecked.
const cursorsMax = 4096

// audience is to whom a live loop hands what comes on a subscription: the
// sessions of a user, for its direct chats, or those of a group's members here.
type audience struct {
	live  *liveLoop
	group *group // nil for a user's direct chats

	sessions []*session // guarded by live.mu; replaced, never changed in place; those of a fan-out loop together

	cursors map[schemas.Chat]cursor // the live loop's; it changes them under live.mu
}

// cursor is how far an audience has been sent a chat.
type cursor struct {
	last    uint64
	seen    uint64 // while healing: the highest seq that is known to exist
	healing bool
	fresh   bool   // nothing was sent yet: last is what the group's members were read as of
	quiet   uint64 // what is read up to here changes the group's members, and is not sent
}

func (a *audience) setCursor(chat schemas.Chat, c cursor) {
	a.live.mu.Lock()
	defer a.live.mu.Unlock()
	if a.cursors == nil {
		a.cursors = make(map[schemas.Chat]cursor)
	}
	if _, known := a.cursors[chat]; !known && len(a.cursors) >= cursorsMax {
		for other, c := range a.cursors {
			if !c.healing {
				delete(a.cursors, other)
				break
			}
		}
	}
	a.cursors[chat] = c
}

// sentUpTo returns the seq up to which the audience has been sent a chat; ok is false
// where that is not known.
func (a *audience) sentUpTo(chat schemas.Chat) (seq uint64, ok bool) {
	a.live.mu.Lock()
	defer a.live.mu.Unlock()
	c, known := a.cursors[chat]
	return c.last, known && !c.fresh
}

// everySession returns the sessions as they are now.
func (a *audience) everySession() []*session {
	a.live.mu.Lock()
	defer a.live.mu.Unlock()
	return a.sessions
}

// insertSession returns sessions with s, once, those of one fan-out loop kept together.
func insertSession(sessions []*session, s *session) []*session {
	at := len(sessions)
	for i, other := range sessions {
		if other == s {
			return sessions
		}
		if other.loop == s.loop && at == len(sessions) {
			at = i
		}
	}
	grown := make([]*session, 0, len(sessions)+1)
	grown = append(grown, sessions[:at]...)
	grown = append(grown, s)
	return append(grown, sessions[at:]...)
}

func removeSession(sessions []*session, s *session) []*session {
	kept := make([]*session, 0, len(sessions))
	for _, other := range sessions {
		if other != s {
			kept = append(kept, other)
		}
	}
	return kept
}
