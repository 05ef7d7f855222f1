package parley

import (
	"slices"
	"time"

	"parley/schemas"
)

// typistsMax bounds who is shown as typing: one more is not told.
const typistsMax = 1024

type typist struct {
	chat schemas.Chat
	user schemas.User
}

// typists are those that OnTyping was told of, with the time at which that ends.
type typists struct {
	until map[typist]time.Time
	timer *time.Timer // runs while there is somebody
}

func (t *typists) init() {
	t.until = map[typist]time.Time{}
	t.timer = time.NewTimer(schemas.TypingFor)
	t.timer.Stop()
}

// begin notes that who types, and tells whether that is new.
func (t *typists) begin(who typist, now time.Time) bool {
	_, isKnown := t.until[who]
	if !isKnown && len(t.until) >= typistsMax {
		return false
	}
	if len(t.until) == 0 {
		t.timer.Reset(schemas.TypingFor)
	}
	t.until[who] = now.Add(schemas.TypingFor)
	return !isKnown
}

// end tells whether who was typing.
func (t *typists) end(who typist) bool {
	_, isKnown := t.until[who]
	delete(t.until, who)
	return isKnown
}

// over ends those whose time is over, and has the timer fire at the next one's.
func (t *typists) over(now time.Time) []typist {
	var ended []typist
	next := schemas.TypingFor
	for who, until := range t.until {
		if left := until.Sub(now); left <= 0 {
			ended = append(ended, who)
		} else {
			next = min(next, left)
		}
	}
	slices.SortFunc(ended, func(a, b typist) int { return t.until[a].Compare(t.until[b]) })
	for _, who := range ended {
		delete(t.until, who)
	}
	if len(t.until) > 0 {
		t.timer.Reset(next)
	} else {
		t.timer.Stop()
	}
	return ended
}

type typingFrame struct {
	T schemas.Type `json:"t"`
	schemas.Typing
}

// Typing tells the others of chat that the user is typing; nobody answers. It may be
// called at each key: only so many frames go out as the server tells on.
func (c *Client) Typing(chat schemas.Chat) error {
	c.mu.Lock()
	conn := c.conn
	isDue := conn != nil && c.typingDueLocked(chat, time.Now())
	c.mu.Unlock()
	if conn == nil {
		return ErrDisconnected
	}
	if !isDue {
		return nil
	}
	return c.write(conn, typingFrame{schemas.TTyping, schemas.Typing{Chat: chat}})
}

// typingDueLocked notes a typing frame where one may go out. What is older than
// the least time between two is forgotten, so it keeps no more than was typed in that.
func (c *Client) typingDueLocked(chat schemas.Chat, now time.Time) bool {
	for other, at := range c.typed {
		if now.Sub(at) >= schemas.TypingEvery {
			delete(c.typed, other)
		}
	}
	if _, isKnown := c.typed[chat]; isKnown {
		return false
	}
	c.typed[chat] = now
	return true
}
