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
	// TypingEvery is the least time between two typing frames that are told on, per chat and user.
	TypingEvery = 3 * time.Second
)

// Subprotocol is the WebSocket subprotocol that a client asks for.
const Subprotocol = "parley.v1"
