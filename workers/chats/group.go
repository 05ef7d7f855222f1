package chats

import (
	"cmp"
	"slices"

	"parley/schemas"
	"parley/streams"
)

// group is a group as its timeline has made it, up to seq.
type group struct {
	chat    schemas.Chat
	shard   streams.Shard
	first   uint64       // the seq of its first event, and who made it: known where that was folded,
	creator schemas.User // and not where the store has it
	name    string
	history schemas.HistoryMode
	members map[schemas.User]member // who is in, and who was
	count   uint64                  // of those who are in
	seq     uint64                  // everything up to it is folded
	newest  uint64                  // the seq of its newest event
	last    uint64                  // the timeline's end, as the log's leader has it; 0: it holds nothing
	sorted  []schemas.User          // those who are in, by rising name; nil until asked for
}

// member is what a user is in a group.
type member struct {
	role  schemas.Role
	since uint64
	from  uint64 // what it may read begins here
}

// exists tells whether the group was made.
func (g *group) exists() bool { return g.name != "" }

func (g *group) role(user schemas.User) schemas.Role { return g.members[user].role }

// apply folds an event of the group's timeline.
func (g *group) apply(seq uint64, ev *schemas.Event) {
	if ev.Type == schemas.GroupEvent {
		g.name = ev.Name
		if ev.Change == schemas.Created {
			g.history, g.first, g.creator = ev.History, seq, ev.From
		}
	}
	for user, role := range ev.Roles() {
		m := g.members[user]
		switch {
		case role.In() && !m.role.In():
			g.count++
		case !role.In() && m.role.In():
			g.count--
		}
		m.role = role
		if ev.Joins() {
			m.since, m.from = seq, g.history.ReadFrom(seq)
		}
		g.members[user] = m
		g.sorted = nil
	}
	g.seq, g.newest = max(g.seq, seq), max(g.newest, seq)
}

// names returns those who are in, by rising name.
func (g *group) names() []schemas.User {
	if g.sorted == nil {
		g.sorted = make([]schemas.User, 0, g.count)
		for user, m := range g.members {
			if m.role.In() {
				g.sorted = append(g.sorted, user)
			}
		}
		slices.SortFunc(g.sorted, compareUsers)
	}
	return g.sorted
}

func compareUsers(a, b schemas.User) int { return cmp.Compare(a.String(), b.String()) }

// heir is who becomes the owner when the owner leaves: of the admins who has been
// in longest, or of the members where there is none.
func (g *group) heir(leaving schemas.User) *schemas.User {
	var heir *schemas.User
	var is member
	for user, m := range g.members {
		if user == leaving || !m.role.In() {
			continue
		}
		if heir == nil || before(user, m, *heir, is) {
			heir, is = &user, m
		}
	}
	return heir
}

func before(a schemas.User, am member, b schemas.User, bm member) bool {
	if am.role != bm.role {
		return am.role == schemas.Admin
	}
	return cmp.Or(cmp.Compare(am.since, bm.since), compareUsers(a, b)) < 0
}
