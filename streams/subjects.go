package streams

import (
	"strings"

	"parley/schemas"
)

// Names of streams and buckets beside the chat streams, which [Shard.Stream] names.
const (
	DeadStream     = "DEAD"
	ReceiptsStream = "RECEIPTS"
	PresenceBucket = "presence"
	PresenceStream = "KV_" + PresenceBucket
)

// Names of durable consumers.
const (
	PersistConsumer  = "persist"
	ReceiptsConsumer = "receipts"
)

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

// Mark is the subject of a watermark of which the others in a chat are told.
func (s Shard) Mark(chat schemas.Chat, kind MarkKind, user schemas.User) string {
	return "chat." + s.Token + "." + chat.String() + "." + string(kind) + "." + user.String()
}

// MarkKind tells what a watermark is of.
type MarkKind string

const (
	MarkRead      MarkKind = "read"
	MarkDelivered MarkKind = "delivered"
)

// PrivateRead is the subject of a read mark of which nobody else is told.
func PrivateRead(user schemas.User, chat schemas.Chat) string {
	return PersonalPrefix + user.String() + privateRead + chat.String()
}

const privateRead = "." + string(MarkRead) + "."

// MarkPatterns are the subjects that the stream RECEIPTS stores.
func MarkPatterns() []string {
	patterns := []string{PersonalPrefix + "*" + privateRead + ">"}
	for _, kind := range []MarkKind{MarkRead, MarkDelivered} {
		patterns = append(patterns, "chat.*.direct.*.*."+string(kind)+".*", "chat.*.group.*."+string(kind)+".*")
	}
	return patterns
}

// ParseMark takes the subject of a mark apart, whatever the shard. Told says
// whether it is one of [Shard.Mark].
func ParseMark(subject string) (chat schemas.Chat, kind MarkKind, user schemas.User, told, ok bool) {
	if rest, private := strings.CutPrefix(subject, PersonalPrefix); private {
		name, of, found := strings.Cut(rest, privateRead)
		if !found {
			return chat, "", user, false, false
		}
		user, userErr := schemas.ParseUser(name)
		chat, chatErr := schemas.ParseChat(of)
		return chat, MarkRead, user, false, userErr == nil && chatErr == nil
	}
	rest, ok := strings.CutPrefix(subject, "chat.")
	if !ok {
		return chat, "", user, false, false
	}
	_, rest, _ = strings.Cut(rest, ".")
	chat, last, user, ok := parseMember(rest)
	kind = MarkKind(last)
	return chat, kind, user, true, ok && (kind == MarkRead || kind == MarkDelivered)
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
	LiveIsTimeline  LiveKind = "timeline"
	LiveIsTyping    LiveKind = "typing"
	LiveIsRead               = LiveKind(MarkRead)
	LiveIsDelivered          = LiveKind(MarkDelivered)
)

// ParseLive takes a live subject apart. User is the member that types or has got so
// far; it is zero for a timeline.
func ParseLive(subject string) (chat schemas.Chat, kind LiveKind, user schemas.User, ok bool) {
	rest, ok := strings.CutPrefix(subject, "live.")
	if !ok {
		return chat, "", user, false
	}
	if name, ok := strings.CutSuffix(rest, timelineSuffix); ok {
		chat, err := schemas.ParseChat(name)
		return chat, LiveIsTimeline, user, err == nil
	}
	chat, last, user, ok := parseMember(rest)
	kind = LiveKind(last)
	switch kind {
	case LiveIsTyping, LiveIsRead, LiveIsDelivered:
		return chat, kind, user, ok
	}
	return chat, "", user, false
}

// parseMember takes apart what begins with a chat and ends with a kind and a member.
func parseMember(rest string) (chat schemas.Chat, kind string, user schemas.User, ok bool) {
	rest, member, ok := cutLast(rest, ".")
	if !ok {
		return chat, "", user, false
	}
	name, kind, ok := cutLast(rest, ".")
	if !ok {
		return chat, "", user, false
	}
	chat, chatErr := schemas.ParseChat(name)
	user, userErr := schemas.ParseUser(member)
	return chat, kind, user, chatErr == nil && userErr == nil
}

// Dead is the subject under which a consumer gives up on an event of a chat subject.
func Dead(consumer, subject string) string { return "dead." + consumer + "." + subject }

// DeadPattern is what the stream DEAD stores.
const DeadPattern = "dead.>"

// PresenceKey is a session's key in the bucket presence.
func PresenceKey(user schemas.User, session schemas.ID) string {
	return user.String() + "." + session.String()
}

// SessionSubject is the subject of a session's key in the bucket's stream.
func SessionSubject(user schemas.User, session schemas.ID) string {
	return presencePrefix + PresenceKey(user, session)
}

// SessionsPattern is the pattern of the keys of all sessions of a user.
func SessionsPattern(user schemas.User) string { return presencePrefix + user.String() + ".*" }

// ParseSessionSubject takes the subject of a session's key apart.
func ParseSessionSubject(subject string) (user schemas.User, session schemas.ID, ok bool) {
	key, ok := strings.CutPrefix(subject, presencePrefix)
	if !ok {
		return user, session, false
	}
	name, id, ok := strings.Cut(key, ".")
	if !ok {
		return user, session, false
	}
	user, userErr := schemas.ParseUser(name)
	session, idErr := schemas.ParseID(id)
	return user, session, userErr == nil && idErr == nil
}

const presencePrefix = "$KV." + PresenceBucket + "."

// PresenceOf is where changes of a user's presence are told.
func PresenceOf(user schemas.User) string { return PresencePrefix + user.String() }

const (
	PresencePrefix = "presence."
	// PresenceAgain is where a worker tells edges to write all keys again and to ask who
	// is there: it has begun, or the bucket is new, and what changed before it may not
	// have told.
	PresenceAgain = "presence"
)

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
