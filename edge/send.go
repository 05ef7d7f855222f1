package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	// natsGrace is how long NATS may be away before sends are refused at once.
	natsGrace = 2 * time.Second
	// retryEventsMax bounds how many events of a chat a retried send is searched in.
	retryEventsMax = 100_000
)

// handleSend publishes a send to its chat's log; [session.acked] answers it.
func (e *Edge) handleSend(ctx context.Context, s *session, ref schemas.Ref, send *schemas.Send, readAt time.Time) *schemas.Error {
	m, err := e.memberOf(s.user, send.Chat)
	if err != nil {
		return err
	}
	if s.user.blocksIn(send.Chat) {
		return blocked(send.Chat)
	}
	if err := e.takeSend(s.user.name, readAt); err != nil {
		return err
	}
	found, err := e.publish(ctx, s.user.name, m, send, readAt, func(ack streams.PubAck, err *schemas.Error) {
		if err != nil {
			e.refuse(s, schemas.Frame{T: schemas.TSend, Ref: ref, Send: send}, err)
			return
		}
		s.acked(ref, send, ack)
	})
	if found.Duplicate {
		s.acked(ref, send, found)
	}
	return err
}

// takeSend takes one from the rate of what a user sends, and of how it changes groups.
func (e *Edge) takeSend(from schemas.User, now time.Time) *schemas.Error {
	if wait, ok := e.sends.take(from, now); !ok {
		return &schemas.Error{Code: schemas.RateLimited, Message: "too many messages: a user may send " + formatRate(e.cfg.UserRate) + " a second", RetryAfter: max(wait.Seconds(), 0.01)}
	}
	return nil
}

// takeRead takes one from the rate of what a user asks, where each costs a worker or
// the log's leader something.
func (e *Edge) takeRead(user schemas.User, now time.Time) *schemas.Error {
	if wait, ok := e.reads.take(user, now); !ok {
		return &schemas.Error{Code: schemas.RateLimited, Message: "too many requests: a user may make " + formatRate(e.cfg.UserRate) + " a second", RetryAfter: max(wait.Seconds(), 0.01)}
	}
	return nil
}

// publish hands what a member sends to its chat's log, and calls done with the
// outcome. It does not where it refuses, or where found is the ack of an earlier try.
func (e *Edge) publish(ctx context.Context, from schemas.User, m member, send *schemas.Send, readAt time.Time, done func(streams.PubAck, *schemas.Error)) (found streams.PubAck, refused *schemas.Error) {
	shard := e.logReader.Layout().Shard(send.Chat)
	if err := e.takesSends(shard); err != nil {
		return found, err
	}
	if send.Retry {
		seq, err := e.findSent(ctx, from, send)
		if err != nil || seq > 0 {
			return streams.PubAck{Seq: seq, Duplicate: seq > 0}, err
		}
	}
	event := send.Event(from)
	if event.HasTarget() {
		if err := e.checkTarget(ctx, m, send.Chat, event, readAt); err != nil {
			return found, err
		}
	}
	data, err := schemas.EncodeEvent(event)
	if err != nil {
		e.log.Error("encode send", "user", from, "chat", send.Chat, "error", err)
		return found, schemas.Errorf(schemas.Internal, "the message could not be encoded")
	}
	e.publisher.Publish(ctx, streams.Publication{
		Subject: shard.Timeline(send.Chat),
		MsgID:   messageID(from, send),
		Data:    data,
		TTL:     event.TTL,
		ReadAt:  readAt,
		Done: func(ack streams.PubAck, err error) {
			if err != nil {
				done(ack, e.publishError(send, err))
				return
			}
			done(ack, nil)
		},
	})
	return found, nil
}

// acked answers a send that the log has, and awaits its echo.
func (s *session) acked(ref schemas.Ref, send *schemas.Send, ack streams.PubAck) {
	e := s.user.live.edge
	now := e.now()
	result := "ack"
	if ack.Duplicate {
		result = "duplicate"
	} else if a := e.audienceIn(s.user, send.Chat); a != nil {
		a.expectEcho(send.Chat, ack.Seq, now)
	}
	e.metrics.sends.WithLabelValues(result).Inc()
	s.push(ackFrame(ref, send.ID, send.Chat, ack, now))
}

// messageID makes the same send the same message to the log, whatever edge it comes through.
func messageID(user schemas.User, send *schemas.Send) string {
	sum := sha256.Sum256([]byte(send.Chat.String() + "/" + user.String() + "/" + send.ID.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func (e *Edge) publishError(send *schemas.Send, err error) *schemas.Error {
	switch {
	case errors.Is(err, streams.ErrLogFull):
		e.log.Error("log takes no more", "chat", send.Chat, "error", err)
		return &schemas.Error{Code: schemas.Overloaded, Message: "the log takes no more messages now", RetryAfter: 5}
	case errors.Is(err, streams.ErrNotStored):
		return &schemas.Error{Code: schemas.Unavailable, Message: "the log did not acknowledge in time: send again with retry", RetryAfter: 1}
	default:
		e.log.Error("publish", "chat", send.Chat, "error", err)
		return schemas.Errorf(schemas.Internal, "the log refused the message")
	}
}

// takesSends refuses what could not be kept: see [Edge.watchLogLoop].
func (e *Edge) takesSends(shard streams.Shard) *schemas.Error {
	if since := e.natsAwaySince.Load(); since != 0 && e.now().Sub(time.Unix(0, since)) > natsGrace {
		return &schemas.Error{Code: schemas.Unavailable, Message: "the log cannot be reached: send again with retry", RetryAfter: 2}
	}
	if e.draining.Load() {
		return &schemas.Error{Code: schemas.Unavailable, Message: "this node is draining: resume elsewhere", RetryAfter: 1}
	}
	if state := e.shardState(shard); state != nil && state.behind {
		return &schemas.Error{Code: schemas.Overloaded, Message: "the permanent store is too far behind the log", RetryAfter: 30}
	}
	return nil
}

// findSent looks in a chat's log after the seq that the client knew for an
// earlier try of its send, and returns that one's seq, or 0. What is younger
// than the dedup window the log itself recognizes, so a replica that lags does no harm.
func (e *Edge) findSent(ctx context.Context, user schemas.User, send *schemas.Send) (uint64, *schemas.Error) {
	unread := func(err error) *schemas.Error {
		e.log.Warn("look for an earlier try", "chat", send.Chat, "error", err)
		return &schemas.Error{Code: schemas.Unavailable, Message: "the log could not be read: send again with retry", RetryAfter: 1}
	}
	lasts, err := e.logReader.Lasts(ctx, []schemas.Chat{send.Chat})
	if err != nil {
		return 0, unread(err)
	}
	last, inLog := lasts[send.Chat]
	if inLog && last <= send.After || !inLog && e.logReaches(send.Chat, send.After) {
		return 0, nil // nothing has come since
	}
	after := send.After
	for looked := 0; looked < retryEventsMax; {
		events, more, err := e.readAfter(ctx, send.Chat, after, last)
		if err != nil {
			return 0, unread(err)
		}
		for i := range events {
			if isTry(events[i].JSON, user, send.ID) {
				return events[i].Seq, nil
			}
		}
		if !more || len(events) == 0 {
			return 0, nil
		}
		looked += len(events)
		after = events[len(events)-1].Seq
	}
	return 0, schemas.Errorf(schemas.Conflict, "more than %d events came after seq %d: read the history and decide", retryEventsMax, send.After)
}

func isTry(event []byte, user schemas.User, id schemas.ID) bool {
	if !bytes.Contains(event, []byte(id.String())) {
		return false
	}
	ev, err := schemas.DecodeEvent(event)
	return err == nil && ev.From == user && ev.ID == id
}

// blocked answers a send between two of whom one blocks the other; it does not tell which.
func blocked(chat schemas.Chat) *schemas.Error {
	return schemas.Errorf(schemas.Forbidden, "one of the two in %s has blocked the other", chat)
}

// notMember answers alike for a chat of others and one that does not exist.
func notMember(user schemas.User, chat schemas.Chat) *schemas.Error {
	return schemas.Errorf(schemas.NotMember, "%s is not a member of %s", user, chat)
}
