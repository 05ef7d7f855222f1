package schemas

import (
	"fmt"
	"strings"
	"unicode"
)

// Code classes an [Error] for the program that reads it.
type Code string

const (
	BadFrame        Code = "bad_frame"       // not a frame of the protocol
	Unauthenticated Code = "unauthenticated" // no token, or a bad one
	Forbidden       Code = "forbidden"       // known, and not allowed
	NotMember       Code = "not_member"      // the chat is somebody else's, or does not exist
	NotFound        Code = "not_found"       // no such thing
	Invalid         Code = "invalid"         // a field is malformed or out of its bounds
	TooLarge        Code = "too_large"       // over a bound in bytes
	RateLimited     Code = "rate_limited"    // more than the rate allows; retryAfter tells
	Overloaded      Code = "overloaded"      // the log is full, or the store is too far behind it
	Unavailable     Code = "unavailable"     // a part behind the edge does not answer
	Conflict        Code = "conflict"        // somebody else was first
	Internal        Code = "internal"        // a defect; the log has it
)

// Codes returns every code there is.
func Codes() []Code {
	return []Code{BadFrame, Unauthenticated, Forbidden, NotMember, NotFound, Invalid,
		TooLarge, RateLimited, Overloaded, Unavailable, Conflict, Internal}
}

// Error is what a client is told: a code for the program and a sentence for the person.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// In seconds; 0 where trying again cannot help.
	RetryAfter float64 `json:"retryAfter,omitzero"`
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf returns an [Error] with a formatted sentence: one printable line of at
// most [SentenceBytesMax] bytes, whatever a client sent that it quotes.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: oneLine(fmt.Sprintf(format, args...))}
}

func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	return cut(s, SentenceBytesMax)
}

// CloseCode is the status of a WebSocket close frame.
type CloseCode uint16

const (
	CloseNormal          CloseCode = 1000 // the client said goodbye
	CloseTooLarge        CloseCode = 1009 // a frame over FrameBytesMax
	CloseUnauthenticated CloseCode = 4001 // get a new token
	CloseExpired         CloseCode = 4002 // the token's time is over
	CloseRevoked         CloseCode = 4003 // the session was revoked
	CloseProtocol        CloseCode = 4004 // protocol error
	CloseSilent          CloseCode = 4005 // nothing heard for 2.5 heartbeats
	CloseSlow            CloseCode = 4008 // too slow to take what it was sent: resume at once
	CloseDraining        CloseCode = 4012 // node draining: resume elsewhere after the delay in the reason
	CloseFull            CloseCode = 4013 // node full: resume elsewhere
)
