package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"parley/schemas"
	"parley/streams"
)

// groupModel is what a group's log makes of it. Each event is checked against the
// rights as they are where it stands: whoever reads the log need not know them.
type groupModel struct {
	chat    schemas.Chat
	name    string
	history schemas.HistoryMode
	members map[string]modelMember // who is in, and who was
	stays   map[string][]stay
	events  []schemas.StoredEvent
	changes int      // member and group events
	late    int      // what was said by who had just been taken out, and whose edge had not heard of it
	faults  []string // what should not be in the log
}

// modelMember is what [store.Member] has.
type modelMember struct {
	role        schemas.Role
	since, from uint64
}

// stay is a time that somebody was in, from one event to another; to is 0 where it lasts.
type stay struct{ from, to uint64 }

func (s stay) has(seq uint64) bool { return s.from <= seq && (s.to == 0 || seq <= s.to) }

// replayGroup reads all of a group's log, up to what the leader has.
func replayGroup(t testing.TB, log *streams.Log, chat schemas.Chat) *groupModel {
	t.Helper()
	m := &groupModel{chat: chat, members: map[string]modelMember{}, stays: map[string][]stay{}}
	last, _, err := log.Last(t.Context(), chat)
	if err != nil {
		t.Fatal(err)
	}
	for after := uint64(0); after < last; {
		events, _, err := log.After(t.Context(), chat, after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, stored := range events {
			ev, err := schemas.DecodeEvent(stored.JSON)
			if err != nil {
				t.Fatalf("%s at %d: %v", chat, stored.Seq, err)
			}
			m.apply(stored, ev)
			after = stored.Seq
		}
	}
	for _, fault := range m.faults {
		t.Errorf("%s: %s", chat, fault)
	}
	return m
}

func (m *groupModel) fault(stored schemas.StoredEvent, format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf("at %d: %s: %s", stored.Seq, fmt.Sprintf(format, args...), stored.JSON))
}

func (m *groupModel) apply(stored schemas.StoredEvent, ev *schemas.Event) {
	first := len(m.events) == 0
	m.events = append(m.events, stored)
	if ev.Type != schemas.MemberEvent && ev.Type != schemas.GroupEvent {
		if !m.members[ev.From.String()].role.In() {
			m.late++
		}
		return
	}
	m.changes++
	if first != (ev.Change == schemas.Created) {
		m.fault(stored, "a group begins with its creation, once")
	}
	if !first {
		m.check(stored, ev)
	}
	if ev.Type == schemas.GroupEvent {
		m.name, m.history = ev.Name, cmp.Or(ev.History, m.history)
	}
	for user, role := range ev.Roles() {
		m.become(user.String(), role, stored.Seq, ev.Joins())
	}
	if in := len(m.in()); ev.Count != uint64(in) {
		m.fault(stored, "it counts %d members of %d", ev.Count, in)
	}
	owners := 0
	for _, member := range m.members {
		if member.role == schemas.Owner {
			owners++
		}
	}
	if want := min(1, len(m.in())); owners != want {
		m.fault(stored, "%d owners", owners)
	}
}

func (m *groupModel) become(user string, role schemas.Role, seq uint64, joins bool) {
	member := m.members[user]
	member.role = role
	if joins {
		member.since, member.from = seq, m.history.ReadFrom(seq)
		m.stays[user] = append(m.stays[user], stay{from: seq})
	}
	if !role.In() {
		m.stays[user][len(m.stays[user])-1].to = seq
	}
	m.members[user] = member
}

// check finds what nobody had the right to, as the protocol states the rights.
func (m *groupModel) check(stored schemas.StoredEvent, ev *schemas.Event) {
	by := m.members[ev.From.String()].role
	if !by.In() {
		m.fault(stored, "%s is not in", ev.From)
	}
	if ev.Change != schemas.HasLeft && !by.Administers() {
		m.fault(stored, "%s is %s", ev.From, by)
	}
	seen := map[string]bool{}
	for _, user := range ev.Users {
		is := m.members[user.String()].role
		self := user == ev.From
		bad := false
		switch ev.Change {
		case schemas.Added:
			bad = is.In()
		case schemas.Removed:
			bad = !is.In() || self || is.Administers() && by != schemas.Owner
		case schemas.HasLeft:
			bad = !self || len(ev.Users) != 1
		case schemas.RoleChanged:
			bad = !is.In() || self || by != schemas.Owner || is == ev.Role
		default:
			bad = true
		}
		if bad || seen[user.String()] {
			m.fault(stored, "%s is %q", user, is)
		}
		seen[user.String()] = true
	}
	heir := ""
	if ev.Change == schemas.HasLeft && by == schemas.Owner {
		heir = m.heir(ev.From.String())
	}
	if named := ev.Owner; heir == "" && named != nil || heir != "" && (named == nil || named.String() != heir) {
		m.fault(stored, "the next owner is %q", heir)
	}
}

// heir is the oldest admin, else the oldest member; of one age, the first by name.
func (m *groupModel) heir(leaving string) string {
	others := slices.DeleteFunc(m.in(), func(user string) bool { return user == leaving })
	if len(others) == 0 {
		return ""
	}
	return slices.MinFunc(others, func(a, b string) int {
		ma, mb := m.members[a], m.members[b]
		if ma.role != mb.role {
			if ma.role == schemas.Admin {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(ma.since, mb.since), cmp.Compare(a, b))
	})
}

// in returns who is in, by rising name.
func (m *groupModel) in() []string {
	var users []string
	for _, user := range slices.Sorted(maps.Keys(m.members)) {
		if m.members[user].role.In() {
			users = append(users, user)
		}
	}
	return users
}

func (m *groupModel) isIn(user string) bool { return m.members[user].role.In() }

func (m *groupModel) last() uint64 { return m.events[len(m.events)-1].Seq }

// seqs are those of the events from a seq on.
func (m *groupModel) seqs(from uint64) (seqs []uint64) {
	for _, ev := range m.events {
		if ev.Seq >= from {
			seqs = append(seqs, ev.Seq)
		}
	}
	return seqs
}
