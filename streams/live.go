package streams

import (
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
)

// Stored is what a republished message says of its place in the log.
type Stored struct {
	Seq  uint64
	Prev uint64
	Time string // RFC 3339, as the log wrote it
	Hint bool   // no event: only word that Seq exists
}

// HintHeader marks a message on a live timeline that carries no event.
const HintHeader = "Parley-Hint"

// ParseStored reads the headers of a message on chat's live timeline. It refuses
// what was republished from another subject than that chat's log: the server
// puts its answers on whatever subject a request names for them.
func ParseStored(chat schemas.Chat, header nats.Header) (Stored, bool) {
	seq, err := strconv.ParseUint(header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return Stored{}, false
	}
	if header.Get(HintHeader) != "" {
		return Stored{Seq: seq, Hint: true}, true
	}
	prev, err := strconv.ParseUint(header.Get(jetstream.LastSequenceHeader), 10, 64)
	if err != nil || !isTimelineOf(chat, header.Get(jetstream.SubjectHeader)) {
		return Stored{}, false
	}
	return Stored{Seq: seq, Prev: prev, Time: header.Get(jetstream.TimeStampHeaer)}, true
}

// Hint returns the message that tells a chat's receivers that seq exists.
func Hint(chat schemas.Chat, seq uint64) *nats.Msg {
	return &nats.Msg{Subject: LiveTimeline(chat), Header: nats.Header{
		jetstream.SequenceHeader: {strconv.FormatUint(seq, 10)},
		HintHeader:               {"1"},
	}}
}
