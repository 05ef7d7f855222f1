package schemas

import (
	"errors"
	"fmt"
	"iter"
)

// Role is what a user is in a group.
type Role string

const (
	Owner  Role = "owner"  // may all; a group has one as long as it has members
	Admin  Role = "admin"  // adds and removes members, renames, pins, deletes members' messages
	Member Role = "member" // talks; both users of a direct chat are
	// Left is the role of who was in the group once: who left or was removed.
	Left Role = "left"
)

// In tells whether who has the role is in the group.
func (r Role) In() bool { return r == Owner || r == Admin || r == Member }

// Administers tells whether who has the role may do what admins may.
func (r Role) Administers() bool { return r == Owner || r == Admin }

// HistoryMode says what a member may read of a group.
type HistoryMode string

const (
	HistoryJoined HistoryMode = "joined" // what came since it joined, its own join first
	HistoryAll    HistoryMode = "all"    // everything
)

// GroupChange says what a member event or a group event changes.
type GroupChange string

const (
	Created GroupChange = "created"
	Renamed GroupChange = "renamed"

	Added       GroupChange = "added"
	Removed     GroupChange = "removed"
	HasLeft     GroupChange = "left"
	RoleChanged GroupChange = "role"
)

// Roles yields each user whose role the event changes, with the new one: what a
// reader of a group's log applies, in the order of the log. Every event there is
// valid when it is written (workers/chats compares what it decided on with the
// log's end as it publishes), so that readers need not know who may do what.
func (ev *Event) Roles() iter.Seq2[User, Role] {
	return func(yield func(User, Role) bool) {
		all := func(users []User, role Role) bool {
			for _, user := range users {
				if !yield(user, role) {
					return false
				}
			}
			return true
		}
		switch {
		case ev.Type == GroupEvent && ev.Change == Created:
			_ = yield(ev.From, Owner) && all(ev.Members, Member)
		case ev.Type != MemberEvent:
		case ev.Change == Added:
			all(ev.Users, Member)
		case ev.Change == Removed, ev.Change == HasLeft:
			if all(ev.Users, Left) && ev.Owner != nil {
				yield(*ev.Owner, Owner)
			}
		case ev.Change == RoleChanged && ev.Role == Owner: // by the owner, who is an admin from then on
			_ = yield(ev.From, Admin) && all(ev.Users, Owner)
		case ev.Change == RoleChanged:
			all(ev.Users, ev.Role)
		}
	}
}

// ChangesGroup tells whether the event changes a group: who is in it as what, or
// what it is called.
func (ev *Event) ChangesGroup() bool { return ev.Type == MemberEvent || ev.Type == GroupEvent }

// Joins tells whether those to whom [Event.Roles] gives a role come into the group by it.
func (ev *Event) Joins() bool { return ev.Change == Created || ev.Change == Added }

// ReadFrom returns where what a member may read begins that comes in by the event at seq.
func (mode HistoryMode) ReadFrom(seq uint64) uint64 {
	if mode == HistoryAll {
		return 0
	}
	return seq
}

func (ev *Event) checkGroup() error {
	switch ev.Type {
	case MemberEvent:
		switch {
		case len(ev.Users) == 0:
			return errors.New("a member event names its users")
		case ev.Change == RoleChanged && !ev.Role.In():
			return fmt.Errorf("role %q is owner, admin or member", clip(string(ev.Role)))
		}
	case GroupEvent:
		if ev.Name == "" {
			return errors.New("a group event names the group")
		}
	}
	return nil
}

// GroupChat returns the group named id.
func GroupChat(id ID) Chat { return Chat{string(Group) + "." + id.name} }

// Create makes a group, once for an ID: the same user gets the same group again.
type Create struct {
	ID      ID          `json:"id"`
	Name    string      `json:"name" jsonschema:"minLength=1,maxLength=128"`
	Members []User      `json:"members,omitempty" jsonschema:"maxItems=1000"` // with the creator, named or not
	History HistoryMode `json:"history,omitzero" jsonschema:"enum=joined,enum=all"`
}

// ChangeMembers adds users to a group, or removes them.
type ChangeMembers struct {
	Chat  Chat   `json:"chat"`
	Users []User `json:"users" jsonschema:"minItems=1,maxItems=1000"`
}

// Leave takes its sender out of a group.
type Leave struct {
	Chat Chat `json:"chat"`
}

// SetRole gives a member another role; the role owner makes the one before an admin.
type SetRole struct {
	Chat Chat `json:"chat"`
	User User `json:"user"`
	Role Role `json:"role" jsonschema:"enum=owner,enum=admin,enum=member"`
}

// Rename gives a group another name.
type Rename struct {
	Chat Chat   `json:"chat"`
	Name string `json:"name" jsonschema:"minLength=1,maxLength=128"`
}

// GroupCreated answers a create: Seq is that of the group's first event.
type GroupCreated struct {
	T    Type    `json:"t" jsonschema:"enum=created"`
	Ref  *uint64 `json:"ref,omitzero"`
	Chat Chat    `json:"chat"`
	Seq  uint64  `json:"seq"`
}

// Members asks for a page of a chat's members.
type Members struct {
	Chat   Chat    `json:"chat"`
	Cursor string  `json:"cursor,omitzero"`
	Limit  *uint64 `json:"limit,omitzero" jsonschema:"minimum=1"` // over the most that a page holds it is clamped
}

// ChatMember is one of a chat's members.
type ChatMember struct {
	User  User   `json:"user"`
	Role  Role   `json:"role"`
	Since uint64 `json:"since"` // seq of the event by which it came in
}

// MembersPage answers a members request, by rising name.
type MembersPage struct {
	T       Type         `json:"t" jsonschema:"enum=members"`
	Ref     *uint64      `json:"ref,omitzero"`
	Chat    Chat         `json:"chat"`
	Members []ChatMember `json:"members"`
	Cursor  string       `json:"cursor,omitzero"` // asks for what follows; absent at the end
}
