// Package dead keeps what a consumer gave up on: the stream DEAD holds each such
// message with the reason and the original payload, until somebody has it
// replayed or removes it.
package dead

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
)

// Headers of a dead letter.
const (
	ConsumerHeader  = "Parley-Dead-Consumer"
	StreamHeader    = "Parley-Dead-Stream"
	SequenceHeader  = "Parley-Dead-Sequence"
	TimeHeader      = "Parley-Dead-Time"
	ReasonHeader    = "Parley-Dead-Reason"
	TruncatedHeader = "Parley-Dead-Truncated" // the bytes that the payload had, where it did not fit
)

const (
	reasonBytesMax  = 400
	buryWithin      = 5 * time.Second
	headersBytesMax = 2 << 10 // room for a letter's headers beside the payload
)

// Letter is a message that a consumer gave up on.
type Letter struct {
	ID       uint64 // its sequence in the stream DEAD; 0 before it is there
	Consumer string
	Stream   string    // the stream it was in
	Subject  string    // its subject there
	Seq      uint64    // its sequence there
	Time     time.Time // when that stream stored it
	Reason   string
	// Truncated is the size of the original where Data is only its beginning.
	Truncated int
	Data      []byte
}

// Bury writes l to the stream DEAD. With a nil error it is stored. The same
// letter twice within the stream's dedup window is stored once.
func Bury(ctx context.Context, js jetstream.JetStream, l Letter) error {
	ctx, cancel := context.WithTimeout(ctx, buryWithin)
	defer cancel()
	msg := &nats.Msg{
		Subject: streams.Dead(l.Consumer, l.Subject),
		Data:    l.Data,
		Header: nats.Header{
			ConsumerHeader: {l.Consumer},
			StreamHeader:   {l.Stream},
			SequenceHeader: {strconv.FormatUint(l.Seq, 10)},
			TimeHeader:     {l.Time.UTC().Format(time.RFC3339Nano)},
			ReasonHeader:   {oneLine(l.Reason)},
		},
	}
	if room := int(js.Conn().MaxPayload()) - headersBytesMax; room > 0 && len(msg.Data) > room {
		msg.Header.Set(TruncatedHeader, strconv.Itoa(len(msg.Data)))
		msg.Data = msg.Data[:room]
	}
	id := fmt.Sprintf("%s/%s/%d", l.Consumer, l.Stream, l.Seq)
	if _, err := js.PublishMsg(ctx, msg, jetstream.WithMsgID(id), jetstream.WithExpectStream(streams.DeadStream)); err != nil {
		return fmt.Errorf("write dead letter %s: %w", id, err)
	}
	return nil
}

// oneLine makes s fit for a header.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > reasonBytesMax {
		s = strings.ToValidUTF8(s[:reasonBytesMax], "") + "…"
	}
	return s
}

// List yields the letters of consumer, or of all where it is "", from the letter
// with the lowest id up. A malformed letter comes with an error and its id; an
// error without an id ends the list. On a replicated stream the newest letters may
// be missing for as long as the answering replica lags.
func List(ctx context.Context, js jetstream.JetStream, consumer string) func(yield func(Letter, error) bool) {
	subject := streams.DeadPattern
	if consumer != "" {
		subject = streams.Dead(consumer, ">")
	}
	return func(yield func(Letter, error) bool) {
		stream, err := js.Stream(ctx, streams.DeadStream)
		if err != nil {
			yield(Letter{}, fmt.Errorf("look up stream %s: %w", streams.DeadStream, err))
			return
		}
		for next := uint64(1); ; {
			msg, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return
			}
			if err != nil {
				yield(Letter{}, fmt.Errorf("read dead letter from %d: %w", next, err))
				return
			}
			next = msg.Sequence + 1
			letter, err := parse(msg)
			if !yield(letter, err) {
				return
			}
		}
	}
}

// parse returns the letter in msg. One that is malformed keeps its id, subject
// and payload, and the error tells the rest.
func parse(msg *jetstream.RawStreamMsg) (Letter, error) {
	l := Letter{
		ID:       msg.Sequence,
		Consumer: msg.Header.Get(ConsumerHeader),
		Stream:   msg.Header.Get(StreamHeader),
		Reason:   msg.Header.Get(ReasonHeader),
		Data:     msg.Data,
	}
	var errSeq, errTime, errSize error
	l.Seq, errSeq = strconv.ParseUint(msg.Header.Get(SequenceHeader), 10, 64)
	l.Time, errTime = time.Parse(time.RFC3339Nano, msg.Header.Get(TimeHeader))
	if size := msg.Header.Get(TruncatedHeader); size != "" {
		l.Truncated, errSize = strconv.Atoi(size)
	}
	subject, ok := strings.CutPrefix(msg.Subject, streams.Dead(l.Consumer, ""))
	l.Subject = subject
	if err := errors.Join(errSeq, errTime, errSize); err != nil || !ok || l.Consumer == "" || l.Stream == "" {
		return l, fmt.Errorf("letter %d on %q is malformed: its headers are not those of a dead letter", msg.Sequence, msg.Subject)
	}
	return l, nil
}
