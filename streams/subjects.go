package streams

import (
	"strings"

	"parley/schemas"
)

// Names of streams and buckets beside the chat streams, which [Shard.Stream] names.
const (
	DeadStream     = "DEAD"
	PresenceBucket = "presence"
)

// Names of durable consumers.
const PersistConsumer = "persist"

// Names of micro services and the subjects of their endpoints; those of clients'
// requests [AskSubject] tells.
const (
	HistoryService = "history"
	HistorySubject = "svc.history"

	ChatsService    = "chats"
	JoinedSubject   = "svc.chats.joined"
	StandingSubject = "svc.chats.standing"

	UsersService   = "users"
	PrivacySubject = "svc.users.privacy"

	PresenceService = "presence"
	PresenceSubject = "svc.presence.query"
)

// AskSubject is where a service answers a client's request of type t.
func AskSubject(t schemas.Type) string {
	switch t {
	case schemas.TBlock, schemas.TProfile, schemas.TSetProfile, schemas.TStatus:
		return "svc." + UsersService + "." + string(t)
	default:
		return "svc." + ChatsService + "." + string(t)
	}
}

const timelineSuffix = ".timeline"

// Timeline is the subject of a chat's log.
func (s Shard) Timeline(chat schemas.Chat) string {
	return "chat." + s.Token + "." + chat.String() + timelineSuffix
}

// TimelineChat returns the chat whose log has subject, the inverse of [Shard.Timeline].
func TimelineChat(subject string) (schemas.Chat, bool) {
	name, ok := timelineName(subject)
	if !ok {
		return schemas.Chat{}, false
	}
	chat, err := schemas.ParseChat(name)
	return chat, err == nil
}

// isTimelineOf tells whether subject is chat's log in any shard, without an allocation.
func isTimelineOf(chat schemas.Chat, subject string) bool {
	name, ok := timelineName(subject)
	return ok && name == chat.String()
}

func timelineName(subject string) (chat string, ok bool) {
	rest, ok := strings.CutPrefix(subject, "chat.")
	if !ok {
		return "", false
	}
	_, rest, _ = strings.Cut(rest, ".")
	return strings.CutSuffix(rest, timelineSuffix)
}

// TimelinePatterns are the subjects that the shard's stream stores.
func (s Shard) TimelinePatterns() []string {
	return []string{
		"chat." + s.Token + ".direct.*.*" + timelineSuffix,
		"chat." + s.Token + ".group.*" + timelineSuffix,
	}
}

// LiveTimeline is where a chat's stored events are republished, and where hints go.
func LiveTimeline(chat schemas.Chat) string { return "live." + chat.String() + timelineSuffix }

// LiveTyping is where a member's typing is told.
func LiveTyping(chat schemas.Chat, user schemas.User) string {
	return "live." + chat.String() + ".typing." + user.String()
}

// LiveOfUser are the two patterns that bring all that happens in a user's direct
// chats. Notes to oneself come on both.
func LiveOfUser(user schemas.User) [2]string {
	return [2]string{"live.direct." + user.String() + ".>", "live.direct.*." + user.String() + ".>"}
}

// LiveOfGroup is the pattern that brings all that happens in a group.
func LiveOfGroup(group schemas.Chat) string { return "live." + group.String() + ".>" }

// PersonalPrefix begins the subjects of what concerns one user alone.
const PersonalPrefix = "user."

// Personal is where the sessions of a user are told what concerns that user alone.
func Personal(user schemas.User) string { return PersonalPrefix + user.String() }

// LiveKind tells what came on a live subject.
type LiveKind string

const (
	LiveIsTimeline LiveKind = "timeline"
	LiveIsTyping   LiveKind = "typing"
)

// ParseLive takes a live subject apart. User is the member that types; it is
// zero for a timeline.
func ParseLive(subject string) (chat schemas.Chat, kind LiveKind, user schemas.User, ok bool) {
	rest, ok := strings.CutPrefix(subject, "live.")
	if !ok {
		return chat, "", user, false
	}
	if name, ok := strings.CutSuffix(rest, timelineSuffix); ok {
		chat, err := schemas.ParseChat(name)
		return chat, LiveIsTimeline, user, err == nil
	}
	name, member, ok := cutLast(rest, ".")
	if !ok {
		return chat, "", user, false
	}
	name, ok = strings.CutSuffix(name, "."+string(LiveIsTyping))
	if !ok {
		return chat, "", user, false
	}
	chat, err := schemas.ParseChat(name)
	if err != nil {
		return chat, "", user, false
	}
	user, err = schemas.ParseUser(member)
	return chat, LiveIsTyping, user, err == nil
}

// Dead is the subject under which a consumer gives up on an event of a chat subject.
func Dead(consumer, subject string) string { return "dead." + consumer + "." + subject }

// DeadPattern is what the stream DEAD stores.
const DeadPattern = "dead.>"

// PresenceKey is a session's key in the bucket presence.
func PresenceKey(user schemas.User, session schemas.ID) string {
	return user.String() + "." + session.String()
}

// NodeService is the name of a node's micro service; its endpoints are [NodeSubject].
func NodeService(node schemas.ID) string { return "edge-" + node.String() }

// NodeSubject is the subject of one of a node's endpoints, like drain or stats.
func NodeSubject(node schemas.ID, endpoint string) string {
	return "edge." + node.String() + "." + endpoint
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
