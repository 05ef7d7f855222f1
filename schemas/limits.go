package schemas

import "time"

// Bounds of the protocol. A client may rely on them; docs/protocol.md tells the same.
const (
	// FrameBytesMax is the largest frame a client may send; a larger one closes with [CloseTooLarge].
	FrameBytesMax = 128 << 10
	// BodyBytesMax is the largest body of a message, in bytes of compact JSON.
	BodyBytesMax = 102_400
	// BodyDepthMax is how deep a body's objects and arrays may nest, itself included:
	// every reader of the log has to parse it, and many parsers stop at 64.
	BodyDepthMax = 32
	// TokenBytesMax is the longest name of a user, chat part, message id or device.
	TokenBytesMax = 64
	// JWTBytesMax is the longest token that hello and renew take.
	JWTBytesMax = 8 << 10
	// NameCharsMax and NameBytesMax bound the name of a group or a user.
	NameCharsMax = 128
	NameBytesMax = 512
	// EmojiBytesMax bounds a reaction's emoji, which may be a word like :shipit:.
	EmojiBytesMax = 64
	// EmojisMax is how many different emojis one message may have under it.
	EmojisMax = 50
	// ReactionUsersMax is how many users a page names under one emoji.
	ReactionUsersMax = 50
	// FormerMax is how many former bodies a page shows of one message, the newest ones.
	FormerMax = 50
	// TTLMax is the longest time that a disappearing message stays, in seconds: a year.
	TTLMax = 365 * 24 * 60 * 60

	// UsersMax is how many users one create, add or remove may name.
	UsersMax = 1000
	// GroupMembersMax is how many members a group may have.
	GroupMembersMax = 100_000
	// ProfilesMax is how many users one profile request may name.
	ProfilesMax = 200
	// ChatsMax and ChatsDefault bound one page of a list of chats, MembersMax and
	// MembersDefault one of members.
	ChatsMax       = 200
	ChatsDefault   = 50
	MembersMax     = 1000
	MembersDefault = 200
	// CutTextBytesMax is where a list of chats cuts the text of a last event.
	CutTextBytesMax = 1 << 10
	// CursorBytesMax bounds a cursor; CursorFor is how long one is good.
	CursorBytesMax = 256
	CursorFor      = 10 * time.Minute

	// MentionsMax is how many users one message may mention.
	MentionsMax = 100
	// SeqMax bounds every number of the protocol: beyond it JavaScript is no longer exact.
	SeqMax = 1<<53 - 1

	// SentenceBytesMax bounds the sentence of an error.
	SentenceBytesMax = 400

	// ResumeChatsMax is how many chats one hello may resume.
	ResumeChatsMax = 200
	// ResumeEventsMax and ResumeBytesMax bound what one chat's resume sends; past it the chat is reset.
	ResumeEventsMax = 1000
	ResumeBytesMax  = 1 << 20
	// ResumeTotalBytesMax bounds one hello's resume over all its chats.
	ResumeTotalBytesMax = 8 << 20

	// PageEventsMax and PageEventsDefault bound the events of one history page.
	PageEventsMax     = 200
	PageEventsDefault = 50
	// PageBytesMax bounds the events of one page in bytes; a page holds at least one event.
	PageBytesMax = 512 << 10

	// BadFramesMax within a minute close the connection with [CloseProtocol].
	BadFramesMax = 10
	// HelloWithin is how long a connection may stay without its hello.
	HelloWithin = 5 * time.Second
	// TypingEvery is the least time between two typing frames that are told on, per
	// chat and user; TypingFor is how long a receiver shows one.
	TypingEvery = 3 * time.Second
	TypingFor   = 6 * time.Second

	// MarksEvery is the least time between two marks of a user in a chat that are told
	// on: the highest is. ReceiptsEvery is that between two receipt frames of a chat
	// to one session.
	MarksEvery    = 200 * time.Millisecond
	ReceiptsEvery = time.Second
	// DeliveredMembersMax and ReadMembersMax are how many members a group may have in
	// which others are told what was delivered, and what was read.
	DeliveredMembersMax = 32
	ReadMembersMax      = 256
	// ReceiptsMax and ReceiptsDefault bound one page of receipts.
	ReceiptsMax     = 1000
	ReceiptsDefault = 256

	// PresenceUsersMax is how many users one presence, watch or unwatch may name, and
	// how many a session may watch.
	PresenceUsersMax = 500
	// AwayAfter is how long nothing but pings may come from a session until it is away.
	AwayAfter = 30 * time.Minute
)

// Subprotocol is the WebSocket subprotocol that a client asks for.
const Subprotocol = "parley.v1"
