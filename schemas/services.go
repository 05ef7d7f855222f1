package schemas

import "iter"

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
}

// JoinedMember is what one user is in the group that was asked for.
type JoinedMember struct {
	User  User   `json:"user"`
	Role  Role   `json:"role"`
	Since uint64 `json:"since"`
	From  uint64 `json:"from"`
}

// Blocks asks the service users for those with whom a user does not talk.
type Blocks struct {
	User User `json:"user"`
}

// BlocksAnswer has whom the user blocks and who blocks it.
type BlocksAnswer struct {
	Users []User `json:"users"`
}

// Notice is a personal event, on user.<user>: something of a chat has changed for the user.
type Notice struct {
	ChatFrame `json:",embed"`
	// Where the change is [ChatAdded]: the member's role, and where what it may read begins.
	Role Role   `json:"role,omitzero"`
	From uint64 `json:"from,omitzero"`
	// Hidden notices are for edges alone: whether two users talk by now.
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
