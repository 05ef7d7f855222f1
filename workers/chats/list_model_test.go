package chats_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/schemas"
	"parley/workers/store"
)

// listModel makes lists of chats from all that ever was in the log.
type listModel struct {
	*world
	chats  []schemas.Chat
	events map[schemas.Chat][]schemas.StoredEvent
	stored map[schemas.Chat]int // how many of events are in the store
	marks  map[markOf]store.Mark
}

type markOf struct {
	user string
	chat schemas.Chat
}

// read takes what the log has beyond what the model knows.
func (m *listModel) read() {
	m.T.Helper()
	for _, chat := range m.chats {
		m.readChat(chat)
	}
}

func (m *listModel) readChat(chat schemas.Chat) []schemas.StoredEvent {
	m.T.Helper()
	known := m.events[chat]
	for _, ev := range m.timeline(chat) {
		if len(known) == 0 || ev.Seq > known[len(known)-1].Seq {
			known = append(known, ev)
		}
	}
	m.events[chat] = known
	return known
}

// markSomewhere has a user have read a chat up to one of its events, or got it.
func (m *listModel) markSomewhere(random *rand.Rand, user string, chat schemas.Chat) {
	m.T.Helper()
	events := m.readChat(chat)
	if len(events) == 0 {
		return
	}
	at := random.IntN(len(events))
	if random.IntN(2) == 0 {
		at = len(events) - 1 // what is not stored yet is behind it
	}
	mark := store.Mark{Chat: chat, User: m.user(user), Delivered: events[at].Seq}
	if random.IntN(2) == 0 {
		mark.Delivered, mark.Read = 0, events[at].Seq
		for _, stored := range events[:at+1] {
			if ev, err := schemas.DecodeEvent(stored.JSON); err == nil && ev.Type == schemas.Message {
				mark.ReadN++
			}
		}
	}
	m.mark(mark)
	of := markOf{user, chat}
	all := m.marks[of]
	if all.Delivered = max(all.Delivered, mark.Delivered); mark.Read > all.Read {
		all.Read, all.ReadN = mark.Read, mark.ReadN
	}
	m.marks[of] = all
}

func (m *listModel) persist() {
	m.T.Helper()
	m.read()
	m.PersistAll()
	for chat, events := range m.events {
		m.stored[chat] = len(events)
	}
}

// row is what a test compares of a chat in a list.
type row struct {
	Chat, Name, Role    string
	Members             uint64
	Seq, Prev, N        uint64
	Time                time.Time
	Unread, Read        uint64
	Delivered           uint64
	Type                schemas.EventType
	Deleted, Cut, Muted bool
}

func (m *listModel) want(user string) (rows []row) {
	m.T.Helper()
	for _, chat := range m.chats {
		if r, in := m.wantRow(user, chat); in {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return b.Time.Compare(a.Time) })
	return rows
}

// wantRow returns a chat as it is in a user's list; in is false where it is not in it.
func (m *listModel) wantRow(user string, chat schemas.Chat) (r row, in bool) {
	m.T.Helper()
	r.Chat = chat.String()
	role, storedRole, readN := schemas.Left, schemas.Left, uint64(0)
	if chat.HasDirectMember(m.user(user)) {
		role = schemas.Member
	}
	for i, stored := range m.events[chat] {
		ev, err := schemas.DecodeEvent(stored.JSON)
		if err != nil {
			m.T.Fatal(err)
		}
		if ev.Type == schemas.Message {
			r.N++
			if ev.From.String() == user {
				r.Read, readN = stored.Seq, r.N
			}
		} else {
			r.Members = ev.Count
		}
		if ev.Type == schemas.GroupEvent {
			r.Name = ev.Name
		}
		if is, changes := roleOf(ev, user); changes {
			if role = is; ev.Joins() && r.N > 0 {
				r.Read, readN = stored.Seq, r.N
			}
		}
		r.Seq, r.Prev, r.Time, r.Type = stored.Seq, r.Seq, stored.Time, ev.Type
		r.Cut = len(stored.JSON) > schemas.CutTextBytesMax
		if i < m.stored[chat] {
			storedRole = role
		}
	}
	if chat.Kind() == schemas.Group {
		r.Role = string(role)
	}
	mark := m.marks[markOf{user, chat}]
	if mark.Read > r.Read {
		r.Read, readN = mark.Read, mark.ReadN
	}
	r.Unread, r.Delivered = r.N-readN, max(mark.Delivered, r.Read)
	return r, role.In() && storedRole.In()
}

// roleOf returns the role that an event gives a user, if it gives one.
func roleOf(ev *schemas.Event, user string) (role schemas.Role, changes bool) {
	for of, role := range ev.Roles() {
		if of.String() == user {
			return role, true
		}
	}
	return "", false
}

func rowsOf(t testing.TB, list []schemas.ListChat) (rows []row) {
	t.Helper()
	for _, c := range list {
		ev, err := schemas.DecodeEvent(c.Last.JSON)
		if err != nil {
			t.Fatalf("last of %s is %s: %v", c.Chat, c.Last.JSON, err)
		}
		rows = append(rows, row{
			Chat: c.Chat.String(), Name: c.Name, Role: string(c.Role), Members: c.Members,
			Seq: c.Last.Seq, Prev: c.Last.Prev, N: c.Last.N, Time: c.Last.Time, Unread: c.Unread, Read: c.Read, Delivered: c.Delivered,
			Type: ev.Type, Deleted: c.Last.Deleted, Cut: c.Last.Cut, Muted: c.Muted,
		})
	}
	return rows
}

func (m *listModel) check(when string) {
	m.T.Helper()
	m.read()
	for _, user := range listUsers {
		want := m.want(user)
		for _, limit := range []int{1, 4, 200} {
			if diff := cmp.Diff(want, rowsOf(m.T, m.list(user, limit))); diff != "" {
				m.T.Errorf("%s: list of %s in pages of %d (-want +got):\n%s", when, user, limit, diff)
				return
			}
		}
	}
}

var listUsers = []string{"ada", "ben", "cleo", "dan", "eve"}

// happen has something happen in a chat of the model, or begins one.
func (m *listModel) happen(random *rand.Rand) {
	m.T.Helper()
	pick := func() string { return listUsers[random.IntN(len(listUsers))] }
	by := pick()
	if len(m.chats) < 12 && random.IntN(3) == 0 {
		chat := schemas.DirectChat(m.user(by), m.user(pick()))
		if random.IntN(2) == 0 {
			chat = m.create(fmt.Sprintf("g%d", len(m.chats)), by, pick(), pick())
		}
		if !slices.Contains(m.chats, chat) {
			m.chats = append(m.chats, chat)
		}
		return
	}
	if len(m.chats) == 0 {
		return
	}
	chat := m.chats[random.IntN(len(m.chats))]
	a, b, direct := chat.Users()
	roles := map[string]schemas.Role{}
	if !direct {
		roles = m.standing(chat)
	}
	switch kind := random.IntN(12); {
	case kind > 9:
		m.markSomewhere(random, by, chat)
	case direct && kind < 5:
		m.say(chat, a.String(), "hi")
	case direct:
		m.say(chat, b.String(), "hi")
	case kind < 6:
		if roles[by].In() {
			m.say(chat, by, strings.Repeat("é", random.IntN(2)*1000))
		}
	case kind < 8:
		m.ask(schemas.TAdd, by, `"chat":%q,"users":[%q]`, chat, pick())
	case kind == 8:
		m.ask(schemas.TRemove, by, `"chat":%q,"users":[%q]`, chat, pick())
	default:
		m.ask(schemas.TRename, by, `"chat":%q,"name":"name %d"`, chat, random.IntN(3))
	}
}
