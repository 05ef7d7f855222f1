package schemas

import (
	"iter"
	"time"
)

// Requests of one part of Parley to another: the payloads of svc.>, as JSON. Those
// of clients have the members of their frames, and by: see [DecodeBy].

// HistoryAsk asks the service history for a page. The edge has checked that the
// asker may read what is from From on.
type HistoryAsk struct {
	History `json:",embed"`
	From    uint64 `json:"from,omitzero"` // nothing below it is shown; 0: everything
	// With Raw: whose former bodies are shown, where not everybody's are.
	Author User `json:"author,omitzero"`
}

// HistoryAnswer is the page.
type HistoryAnswer struct {
	Events []Item `json:"events"`
	More   bool   `json:"more"`
}

// Joined asks the service chats for the groups that a user is in.
type Joined struct {
	User User `json:"user"`
}

// JoinedAnswer has every group that a user is in. Of each shard, by token, all
// events up to Stored are in it; what came after may be.
type JoinedAnswer struct {
	Groups []JoinedGroup     `json:"groups"`
	Stored map[string]uint64 `json:"stored"`
	More   bool              `json:"more,omitzero"` // the user is in others too
}

// JoinedGroup is what a user is in a group.
type JoinedGroup struct {
	Chat  Chat   `json:"chat"`
	Role  Role   `json:"role"`
	Since uint64 `json:"since"` // seq of the event by which it came in
	From  uint64 `json:"from"`  // what it may read begins here
}

// Standing asks the service chats what users are in a group, as of all that was
// acknowledged before the request.
type Standing struct {
	Chat  Chat   `json:"chat"`
	Users []User `json:"users"`
}

// StandingAnswer has those of the users who are in the group.
type StandingAnswer struct {
	Members []JoinedMember `json:"members"`
	Count   uint64         `json:"count"` // members that the group has; 0: there is no such group
}

// JoinedMember is what one user is in the group that was asked for.
type JoinedMember struct {
	User  User   `json:"user"`
	Role  Role   `json:"role"`
	Since uint64 `json:"since"`
	From  uint64 `json:"from"`
}

// Privacy asks the service users with whom a user does not talk, and what it lets
// others see.
type Privacy struct {
	User User `json:"user"`
}

// PrivacyAnswer has it.
type PrivacyAnswer struct {
	Blocks     []User `json:"blocks"`              // whom the user blocks and who blocks it
	HidesReads bool   `json:"hidesReads,omitzero"` // others are not told what it has read, nor it what they have
	Status     Status `json:"status,omitzero"`     // that it has chosen: online, away or invisible
}

// StoredMark is the payload of chat.<shard>.<chat>.read.<user>, of the same with
// delivered, and of user.<user>.read.<chat>.
type StoredMark struct {
	Seq     uint64 `json:"seq"`
	Session ID     `json:"session,omitzero"` // in which the user has got so far
	// Of a read mark: others are told what is delivered in this chat, and so that this is.
	Delivered bool `json:"delivered,omitzero"`
}

// SessionPresence is the value of a session's key in the bucket presence.
type SessionPresence struct {
	Node   ID     `json:"node"`
	Device ID     `json:"device,omitzero"`
	Status Status `json:"status,omitzero"` // away or invisible; else online
}

// PresenceAnswer answers the service presence's query about [Users].
type PresenceAnswer struct {
	Users map[User]Presence `json:"users"`
	AsOf  time.Time         `json:"asOf"` // as in [PresenceChange]
}

// PresenceChange is the payload of presence.<user>.
type PresenceChange struct {
	Presence `json:",embed"`
	// When the last change of the bucket was stored that is in it. Of two that differ
	// the later is true: workers may be behind each other.
	AsOf time.Time `json:"asOf"`
}

// Notice is a personal event, on user.<user>: something of a chat has changed for the user.
type Notice struct {
	ChatFrame `json:",embed"`
	// Where the change is [ChatAdded]: the member's role, and where what it may read begins.
	Role Role   `json:"role,omitzero"`
	From uint64 `json:"from,omitzero"`
	// Hidden notices are for edges alone: whether two users talk by now, what a user
	// lets others see, and what it has read where that is told to nobody else.
	Hidden bool `json:"hidden,omitzero"`
}

// Notices yields what each user is told who comes into a group by an event that
// the log has at seq; mode is the group's.
func Notices(group Chat, seq uint64, ev *Event, mode HistoryMode) iter.Seq2[User, Notice] {
	return func(yield func(User, Notice) bool) {
		if !ev.Joins() {
			return
		}
		for user, role := range ev.Roles() {
			notice := Notice{
				ChatFrame: ChatFrame{T: TChat, Chat: group, Change: ChatAdded, Seq: seq},
				Role:      role,
				From:      mode.ReadFrom(seq),
			}
			if !yield(user, notice) {
				return
			}
		}
	}
}
