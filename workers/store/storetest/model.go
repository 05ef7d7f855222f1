package storetest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// state is what the events of one chat have made of it, applied one after the
// other: there are no stamps here, and nothing comes twice.
type state struct {
	edits     map[uint64][]store.Edit                       // by target
	reactions map[uint64]map[string]map[schemas.User]uint64 // who reacts to a target with an emoji, by which event
	members   map[schemas.User]store.Member
	users     map[schemas.User]store.UserChat
	receipts  map[schemas.User]store.Receipt
}

func newState() *state {
	return &state{edits: map[uint64][]store.Edit{}, reactions: map[uint64]map[string]map[schemas.User]uint64{},
		members: map[schemas.User]store.Member{}, users: map[schemas.User]store.UserChat{}, receipts: map[schemas.User]store.Receipt{}}
}

// change applies what e says of an earlier event, and returns what a store is
// told of it; ok is false where it changes nothing.
func (s *state) change(rows []store.Event, e *store.Event, ev *schemas.Event) (change store.Change, ok bool) {
	target := rowAt(rows, ev.Target)
	if target == nil || target.Type != schemas.Message || !target.Expires.IsZero() && !e.Time.Before(target.Expires) {
		return change, false
	}
	gone := target.State.Deleted != 0
	change = store.Change{Type: ev.Type, Seq: e.Seq, Target: target.Seq, Bucket: target.Bucket, Expires: target.Expires, On: !ev.Remove}
	switch ev.Type {
	case schemas.Edit:
		if gone {
			e.JSON = blank(e.JSON)
			return change, false
		}
		e.Expires = target.Expires
		target.State.Edited, target.State.Body = e.Seq, ev.Body
		change.Body, change.Time = ev.Body, e.Time
		s.edits[target.Seq] = append(s.edits[target.Seq], store.Edit{Target: target.Seq, Seq: e.Seq, Time: e.Time, Body: ev.Body})
	case schemas.Delete:
		if gone {
			return change, false
		}
		change.Blanks = s.blank(rows, target, e.Seq)
	case schemas.React:
		change.Emoji, change.User = ev.Emoji, e.Author
		s.react(target.Seq, ev.Emoji, e.Author, e.Seq, change.On)
	case schemas.Pin:
		target.State.Pinned = change.On
	}
	return change, true
}

// blank takes the content from a target and its edits.
func (s *state) blank(rows []store.Event, target *store.Event, by uint64) (blanks []store.Blank) {
	all := []*store.Event{target}
	edits := s.edits[target.Seq]
	for i := range edits {
		edits[i].Body = nil
		all = append(all, rowAt(rows, edits[i].Seq))
	}
	for _, row := range all {
		row.JSON, row.State.Body, row.State.Deleted = blank(row.JSON), nil, by
		blanks = append(blanks, store.Blank{Seq: row.Seq, Bucket: row.Bucket, JSON: row.JSON})
	}
	return blanks
}

func blank(event []byte) []byte {
	empty, err := schemas.Blank(event)
	if err != nil {
		panic(err)
	}
	return empty
}

func (s *state) react(target uint64, emoji string, user schemas.User, seq uint64, on bool) {
	if s.reactions[target] == nil {
		s.reactions[target] = map[string]map[schemas.User]uint64{}
	}
	if s.reactions[target][emoji] == nil {
		s.reactions[target][emoji] = map[schemas.User]uint64{}
	}
	delete(s.reactions[target][emoji], user)
	if on {
		s.reactions[target][emoji][user] = seq
	}
}

// roles applies what e makes of users, and tells c of it.
func (s *state) roles(c *store.ChatBatch, head *store.Head, e *store.Event, ev *schemas.Event, first bool) {
	if a, b, direct := c.Chat.Users(); direct && first {
		for _, user := range slices.Compact([]schemas.User{a, b}) {
			s.role(c, store.Role{User: user, Role: schemas.Member, Seq: e.Seq, Joins: true})
		}
	}
	if ev.Type == schemas.GroupEvent {
		head.Name = ev.Name
		if ev.Change == schemas.Created {
			head.History = ev.History
		}
	}
	for user, role := range ev.Roles() {
		change := store.Role{User: user, Role: role, Seq: e.Seq}
		if ev.Joins() {
			change.Joins = true
			if e.N > 0 {
				s.read(c, store.Read{User: user, Seq: e.Seq, N: e.N})
			}
			if head.History == schemas.HistoryJoined {
				change.From = e.Seq
			}
		}
		s.role(c, change)
	}
	head.Members = s.count()
	if ev.Type == schemas.Message {
		s.read(c, store.Read{User: e.Author, Seq: e.Seq, N: e.N})
	}
}

// read moves a user's mark.
func (s *state) read(c *store.ChatBatch, mark store.Read) {
	s.raise(mark)
	c.Reads = slices.DeleteFunc(c.Reads, func(read store.Read) bool { return read.User == mark.User })
	c.Reads = append(c.Reads, mark)
}

func (s *state) raise(mark store.Read) {
	user := s.users[mark.User]
	if mark.Seq > user.Read {
		user.Read, user.ReadN = mark.Seq, mark.N
	}
	s.users[mark.User] = user
}

func (s *state) role(c *store.ChatBatch, role store.Role) {
	c.Roles = append(c.Roles, role)
	user, member := s.users[role.User], s.members[role.User]
	user.Chat, user.Role = c.Chat, role.Role
	member.User, member.Role = role.User, role.Role
	if role.Joins {
		user.Since, user.From = role.Seq, role.From
		member.Since, member.From = role.Seq, role.From
	}
	s.users[role.User] = user
	if c.Chat.Kind() == schemas.Group {
		s.members[role.User] = member
	}
}

// count is how many members a group has.
func (s *state) count() (n uint64) {
	for _, member := range s.members {
		if member.Role.In() {
			n++
		}
	}
	return n
}

// rowAt is the row at seq, nil where there is none.
func rowAt(rows []store.Event, seq uint64) *store.Event {
	at, found := slices.BinarySearchFunc(rows, seq, func(e store.Event, seq uint64) int { return cmp.Compare(e.Seq, seq) })
	if !found {
		return nil
	}
	return &rows[at]
}

// Members returns the rows of a group's members by rising name, also of those who left.
func (l *Timeline) Members(chat schemas.Chat) []store.Member {
	return slices.SortedFunc(maps.Values(l.stateOf(chat).members), func(a, b store.Member) int {
		return cmp.Compare(a.User.String(), b.User.String())
	})
}

// UserChats returns what user is in, by rising name.
func (l *Timeline) UserChats(user schemas.User) (chats []store.UserChat) {
	for _, s := range l.states {
		if c := s.users[user]; c.Role.In() {
			chats = append(chats, c)
		}
	}
	slices.SortFunc(chats, func(a, b store.UserChat) int { return cmp.Compare(a.Chat.String(), b.Chat.String()) })
	return chats
}

// Edits returns those of targets, by rising target, then seq.
func (l *Timeline) Edits(chat schemas.Chat, of []store.Event) (edits []store.Edit) {
	for i := range of {
		edits = append(edits, l.stateOf(chat).edits[of[i].Seq]...)
	}
	return edits
}

// Reactions returns what is under targets.
func (l *Timeline) Reactions(chat schemas.Chat, of []store.Event) map[uint64][]store.Reactions {
	all := map[uint64][]store.Reactions{}
	for i := range of {
		for emoji, users := range l.stateOf(chat).reactions[of[i].Seq] {
			if len(users) == 0 {
				continue
			}
			names := slices.SortedFunc(maps.Keys(users), func(a, b schemas.User) int { return cmp.Compare(users[a], users[b]) })
			all[of[i].Seq] = append(all[of[i].Seq], store.Reactions{Emoji: emoji, First: users[names[0]], Count: len(names),
				Users: names[:min(len(names), schemas.ReactionUsersMax)]})
		}
		slices.SortFunc(all[of[i].Seq], func(a, b store.Reactions) int { return cmp.Compare(a.First, b.First) })
	}
	return all
}

// Summaries returns those of all chats; a last event that has disappeared is left out.
func (l *Timeline) Summaries(now time.Time) map[schemas.Chat]store.Summary {
	all := map[schemas.Chat]store.Summary{}
	for chat, head := range l.heads {
		last := l.Events[chat][len(l.Events[chat])-1]
		short, cut, err := schemas.CutEvent(last.JSON)
		if err != nil {
			short, cut = nil, true
		}
		if isOver(last.Expires, now) {
			short = nil
		}
		all[chat] = store.Summary{Head: head, Last: short, Cut: cut, Prev: last.Prev, Expires: last.Expires}
	}
	return all
}

// Mark moves a user's marks, and returns them for a store.
func (l *Timeline) Mark(m store.Mark) store.Mark {
	if l.states[m.Chat] == nil {
		l.states[m.Chat] = newState()
	}
	s := l.states[m.Chat]
	s.raise(store.Read{User: m.User, Seq: m.Read, N: m.ReadN})
	user, receipt := s.users[m.User], s.receipts[m.User]
	user.Delivered, receipt.Delivered = max(user.Delivered, m.Delivered), max(receipt.Delivered, m.Delivered)
	if m.Told {
		receipt.Read = max(receipt.Read, m.Read)
	}
	s.users[m.User] = user
	if receipt != (store.Receipt{}) {
		s.receipts[m.User] = receipt
	}
	return m
}

// Receipts returns what others are told of users in a chat.
func (l *Timeline) Receipts(chat schemas.Chat) map[schemas.User]store.Receipt {
	return l.stateOf(chat).receipts
}

func (l *Timeline) stateOf(chat schemas.Chat) *state {
	if s := l.states[chat]; s != nil {
		return s
	}
	return newState()
}
