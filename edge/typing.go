package edge

import (
	"slices"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	// typingChatsMax bounds the chats per user whose last typing is remembered.
	typingChatsMax = 64
	// typedEvery is the least time between two frames that are told here: a little less
	// than between two that are told on, of which the first may have taken longer.
	typedEvery = schemas.TypingEvery - 500*time.Millisecond
	// typedMax bounds those who were told to type in the last while. Past it one is not.
	typedMax = 1 << 16
)

// handleTyping tells the other members, at most once in a while.
func (e *Edge) handleTyping(s *session, ref schemas.Ref, typing *schemas.Typing) *schemas.Error {
	if _, err := e.members.memberOf(s.user, typing.Chat); err != nil {
		return err
	}
	if !s.user.blocksIn(typing.Chat) && s.user.mayType(typing.Chat, e.now()) {
		if err := e.conn.Publish(streams.LiveTyping(typing.Chat, s.user.name), nil); err != nil {
			return &schemas.Error{Code: schemas.Unavailable, Message: "typing cannot be told now", RetryAfter: 2}
		}
	}
	if ref.Present {
		s.push(doneFrame(ref))
	}
	return nil
}

func (u *user) mayType(chat schemas.Chat, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.typingAt[chat]) < schemas.TypingEvery {
		return false
	}
	if u.typingAt == nil || len(u.typingAt) >= typingChatsMax {
		u.typingAt = make(map[schemas.Chat]time.Time)
	}
	u.typingAt[chat] = now
	return true
}

// typists are those who were told to type in the last while, of one live loop, which
// alone calls it.
type typists struct {
	loop *liveLoop
	at   map[typingOf]time.Time
}

// typingOf is who types, and to whom it is told.
type typingOf struct {
	audience *audience
	chat     schemas.Chat
	user     schemas.User
}

func newTypists(v *liveLoop) *typists {
	return &typists{loop: v, at: make(map[typingOf]time.Time)}
}

// handleTyped tells the others that somebody types, who may do so on another edge too:
// so it is at most once in a while here as well.
func (ty *typists) handleTyped(a *audience, chat schemas.Chat, from schemas.User) {
	of, now := typingOf{a, chat, from}, ty.loop.now()
	at, known := ty.at[of]
	if now.Sub(at) < typedEvery || !known && len(ty.at) >= typedMax {
		return
	}
	ty.at[of] = now
	others := slices.DeleteFunc(slices.Clone(a.everySession()), func(s *session) bool {
		return s.user.name == from || s.user.getPrivacy().blocks(from)
	})
	ty.loop.deliverTo(others, item{frame: jsonFrame(schemas.TypingFrame{T: schemas.TTyping, Chat: chat, User: from})})
}

func (ty *typists) forget(now time.Time) {
	for of, at := range ty.at {
		if now.Sub(at) >= typedEvery {
			delete(ty.at, of)
		}
	}
}
