package harness

import (
	"fmt"

	"parley/schemas"
)

// AwaitShown waits for a frame that shows a user so.
func (c *Talker) AwaitShown(user string, status schemas.Status) Frame {
	c.t.Helper()
	return c.Await(func(f Frame) bool {
		for name, is := range f.Users {
			if f.T == schemas.TPresence && name.String() == user && is.Status == status {
				return true
			}
		}
		return false
	})
}

// PresenceOf asks for one user's.
func (c *Talker) PresenceOf(user string) schemas.Presence {
	c.t.Helper()
	for _, is := range c.Do(`{"t":"presence","users":[%q]}`, user).Users {
		return is
	}
	c.t.Fatalf("%s is not told of %s", c.User, user)
	return schemas.Presence{}
}

// AwaitMark waits for a receipt frame of a chat that names a user with at least these
// marks; delivered may have come as read, which implies it.
func (c *Talker) AwaitMark(chat, user string, delivered, read uint64) Frame {
	c.t.Helper()
	return c.Await(func(f Frame) bool {
		if f.T != schemas.TReceipt || f.Chat != chat {
			return false
		}
		for _, m := range f.Marks {
			if m.User.String() == user && max(m.Delivered, m.Read) >= delivered && m.Read >= read {
				return true
			}
		}
		return false
	})
}

// WantReceipts asks how far the members of a chat, who came in at since, have got, until
// they are as wanted: they may lag by a second.
func (c *Talker) WantReceipts(chat string, since uint64, want map[string]schemas.Receipt) {
	c.t.Helper()
	var page schemas.ReceiptsPage
	Eventually(c.t, fmt.Sprintf("receipts of %s are as wanted", chat), func() bool {
		c.Answer(&page, `{"t":"receipts","chat":%q}`, chat)
		for _, got := range page.Receipts {
			is := want[got.User.String()]
			is.Delivered, is.Read = max(is.Delivered, since), max(is.Read, since)
			if got.Delivered != is.Delivered || got.Read != is.Read {
				return false
			}
		}
		return len(page.Receipts) == len(want)
	})
}

// WantListed waits until a chat is in the list with these marks.
func (c *Talker) WantListed(chat string, unread, read, delivered uint64) {
	c.t.Helper()
	Eventually(c.t, fmt.Sprintf("%s lists %s as read", c.User, chat), func() bool {
		var page schemas.ChatsPage
		c.Answer(&page, `{"t":"chats"}`)
		for _, is := range page.Chats {
			if is.Chat.String() == chat {
				return is.Unread == unread && is.Read == read && is.Delivered == delivered
			}
		}
		return false
	})
}
