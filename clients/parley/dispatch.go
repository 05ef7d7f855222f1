package parley

import (
	"context"
	"errors"
	"slices"
	"time"

	"parley/schemas"
)

// repairTries is how often a page that mends a gap is asked for; after that the
// client goes on without it and tells its log.
const repairTries = 5

// dispatchLoop applies what came, in order, and calls back.
func (c *Client) dispatchLoop() {
	for {
		items, isOpen := c.inbox.next(c.ctx, c.typists.timer.C)
		if !isOpen {
			return
		}
		for _, it := range items {
			if c.ctx.Err() != nil {
				return
			}
			c.dispatch(it)
		}
		for _, who := range c.typists.over(time.Now()) {
			c.opts.OnTyping(who.chat, who.user, false)
		}
	}
}

func (c *Client) dispatch(it item) {
	switch {
	case it.event != nil:
		c.takeLive(it.event)
	case it.chat != nil:
		c.takeChat(it.chat)
	case it.receipt != nil:
		if c.opts.OnReceipt != nil {
			c.opts.OnReceipt(*it.receipt)
		}
	case it.presence != nil:
		c.takePresence(it.presence)
	case it.typing != nil:
		c.takeTyping(typist{it.typing.Chat, it.typing.User})
	case it.resumed != nil:
		c.takeResumed(it.resumed)
	case it.resync:
		for _, chat := range c.chats.byActivity() {
			c.readOn(chat)
		}
		c.marks.again()
		c.watched.again()
	case it.welcome != nil:
		if c.opts.OnWelcome != nil {
			c.opts.OnWelcome(*it.welcome)
		}
	case it.lost != nil:
		c.opts.OnLost(it.lost.err, it.lost.wait)
	}
}

// takeLive takes a live event, after what is missing before it.
func (c *Client) takeLive(live *schemas.LiveEvent) {
	if after, missing := c.chats.gap(live.Chat, live.Prev); missing {
		c.mend(live.Chat, after, live.Seq)
	}
	c.deliver(Event{live.Chat, live.Seq, live.Prev, live.Time, live.Event})
}

// deliver hands an event that is new to the caller, and tells that it was delivered.
func (c *Client) deliver(ev Event) {
	if !c.chats.take(eventName{ev.Chat, ev.From, ev.ID}, ev.Seq) {
		return
	}
	if ev.Type == schemas.Message && c.typists.end(typist{ev.Chat, ev.From}) {
		c.opts.OnTyping(ev.Chat, ev.From, false)
	}
	if c.opts.OnEvent == nil {
		return
	}
	c.opts.OnEvent(ev)
	// A message of the user itself has moved its marks already.
	isOwn := ev.Type == schemas.Message && ev.From == c.Session().User
	if !c.opts.NoDelivered && !isOwn {
		c.Delivered(ev.Chat, ev.Seq)
	}
}

func (c *Client) takePresence(frame *schemas.PresenceFrame) {
	users := c.watched.has(frame.Users) // a change may cross an unwatch
	if len(users) > 0 && c.opts.OnPresence != nil {
		c.opts.OnPresence(users)
	}
}

func (c *Client) takeTyping(who typist) {
	if c.opts.OnTyping != nil && c.typists.begin(who, time.Now()) {
		c.opts.OnTyping(who.chat, who.user, true)
	}
}

// takeChat keeps what is held to the chats that the user is in: one that it was
// added to is resumed from there on, even before anything is said in it.
func (c *Client) takeChat(frame *schemas.ChatFrame) {
	switch frame.Change {
	case schemas.ChatAdded:
		c.chats.begin(frame.Chat, frame.Seq)
	case schemas.ChatRemoved:
		c.forget(frame.Chat)
	}
	if c.opts.OnChat != nil {
		c.opts.OnChat(*frame)
	}
}

// takeResumed reads what the resume left out: chats under reset, and those
// beyond the number that a hello may name.
func (c *Client) takeResumed(resumed *schemas.Resumed) {
	chats := c.chats.byActivity()
	var left []schemas.Chat
	if len(chats) > schemas.ResumeChatsMax {
		left = slices.Clone(chats[schemas.ResumeChatsMax:])
	}
	for _, reset := range resumed.Reset {
		switch reset.Reason {
		case schemas.ResetGap:
			left = append(left, reset.Chat)
		case schemas.ResetNotMember, schemas.ResetAhead:
			// Ahead: the server lost what is held here. Its next event is taken as it comes.
			c.forget(reset.Chat)
		}
	}
	for _, chat := range left {
		c.readOn(chat)
	}
	if c.opts.OnResumed != nil {
		c.opts.OnResumed(*resumed)
	}
}

// forget lets go of a chat that is not the user's any more, or is another one by now.
func (c *Client) forget(chat schemas.Chat) {
	c.chats.forget(chat)
	c.marks.forget(chat)
}

// readOn takes all events of chat after the highest that is held.
func (c *Client) readOn(chat schemas.Chat) {
	c.mend(chat, c.chats.highest(chat), schemas.SeqMax)
}

// mend takes the events of chat between after and below, page by page.
func (c *Client) mend(chat schemas.Chat, after, below uint64) {
	for {
		page, err := c.historyAgain(schemas.History{Chat: chat, After: &after, Limit: new(int64(schemas.PageEventsMax))})
		if isNotMember(err) {
			c.forget(chat)
			return
		}
		if err != nil {
			if c.ctx.Err() == nil {
				c.opts.Log.Warn("gap not mended: its events are missing", "chat", chat, "after", after, "err", err)
			}
			return
		}
		before := after
		for _, stored := range page.Events {
			if stored.Seq >= below {
				return
			}
			ev, err := schemas.DecodeEvent(stored.JSON)
			if err != nil {
				c.opts.Log.Warn("event of a page not taken", "chat", chat, "seq", stored.Seq, "err", err)
				continue
			}
			c.deliver(Event{chat, stored.Seq, stored.Prev, stored.Time, *ev})
			after = max(after, stored.Seq)
		}
		if !page.More || after == before {
			return
		}
	}
}

// historyAgain asks for a page until it comes, at most repairTries times.
func (c *Client) historyAgain(ask schemas.History) (page schemas.Page, err error) {
	for range repairTries {
		page, err = c.History(context.WithoutCancel(c.ctx), ask)
		var refusal *schemas.Error
		if err == nil || !errors.As(err, &refusal) || isNotMember(err) {
			return page, err
		}
		if err := c.sleep(c.ctx, refusalWait(refusal)); err != nil {
			return page, err
		}
	}
	return page, err
}

// refusalWait is how long to wait before what was refused is asked for again.
func refusalWait(refusal *schemas.Error) time.Duration {
	if refusal.RetryAfter > 0 {
		return seconds(refusal.RetryAfter)
	}
	return time.Second
}

func isNotMember(err error) bool {
	var refusal *schemas.Error
	return errors.As(err, &refusal) && refusal.Code == schemas.NotMember
}
