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

// sends publishes messages to the log, from WebSockets and from HTTP.
type sends struct {
	*base
	services *services
	logWatch *logWatch
	members  *membership
	reader   *reader

	publisher *streams.Publisher // set by Edge.connect
}

// attempt is one try of a user to send.
type attempt struct {
	*schemas.Send
	from   schemas.User
	member member // as which the user sends
	readAt time.Time
	// done is called once with the log's answer. It must not block.
	done func(streams.PubAck, *schemas.Error)
}

// handleSend publishes a send to its chat's log; [sends.acked] answers it.
func (sn *sends) handleSend(ctx context.Context, s *session, ref schemas.Ref, send *schemas.Send, readAt time.Time) *schemas.Error {
	m, err := sn.members.memberOf(s.user, send.Chat)
	if err != nil {
		return err
	}
	if s.user.blocksIn(send.Chat) {
		return blocked(send.Chat)
	}
	if err := sn.rates.takeSend(s.user.name, readAt); err != nil {
		return err
	}
	a := attempt{Send: send, from: s.user.name, member: m, readAt: readAt}
	a.done = func(ack streams.PubAck, err *schemas.Error) {
		if err != nil {
			s.refuse(schemas.Frame{T: schemas.TSend, Ref: ref, Send: send}, err)
			return
		}
		sn.acked(s, ref, send, ack)
	}
	found, err := sn.publish(ctx, &a)
	if found.Duplicate {
		sn.acked(s, ref, send, found)
	}
	return err
}

// publish appends what an attempt sends to its chat's log. Where it refuses, or found is
// the ack of an earlier try, the log gets nothing and done is not called.
func (sn *sends) publish(ctx context.Context, a *attempt) (found streams.PubAck, refused *schemas.Error) {
	shard := sn.logReader.Layout().Shard(a.Chat)
	if err := sn.admit(shard); err != nil {
		return found, err
	}
	if found, err := sn.findTry(ctx, a); err != nil || found.Duplicate {
		return found, err
	}
	event := a.Event(a.from)
	if err := sn.checkTarget(ctx, a, event); err != nil {
		return found, err
	}
	data, err := sn.encode(a, event)
	if err != nil {
		return found, err
	}
	sn.append(ctx, shard, a, event.TTL, data)
	return found, nil
}

// admit refuses what could not be kept: see [logWatch.watchLoop].
func (sn *sends) admit(shard streams.Shard) *schemas.Error {
	if since := sn.natsAwaySince.Load(); since != 0 && sn.now().Sub(time.Unix(0, since)) > natsGrace {
		return &schemas.Error{Code: schemas.Unavailable, Message: "the log cannot be reached: send again with retry", RetryAfter: 2}
	}
	if sn.draining.Load() {
		return &schemas.Error{Code: schemas.Unavailable, Message: "this node is draining: resume elsewhere", RetryAfter: 1}
	}
	if state := sn.logWatch.state(shard); state != nil && state.behind {
		return &schemas.Error{Code: schemas.Overloaded, Message: "the permanent store is too far behind the log", RetryAfter: 30}
	}
	return nil
}

// findTry returns the ack of an earlier try, where an attempt is a retry and the log has one.
func (sn *sends) findTry(ctx context.Context, a *attempt) (found streams.PubAck, refused *schemas.Error) {
	if !a.Retry {
		return found, nil
	}
	seq, err := sn.findSent(ctx, a.from, a.Send)
	return streams.PubAck{Seq: seq, Duplicate: seq > 0}, err
}

// findSent looks in a chat's log after the seq that the client knew for an
// earlier try of its send, and returns that one's seq, or 0. What is younger
// than the dedup window the log itself recognizes, so a replica that lags does no harm.
func (sn *sends) findSent(ctx context.Context, user schemas.User, send *schemas.Send) (uint64, *schemas.Error) {
	unread := func(err error) *schemas.Error {
		sn.log.Warn("look for an earlier try", "chat", send.Chat, "error", err)
		return &schemas.Error{Code: schemas.Unavailable, Message: "the log could not be read: send again with retry", RetryAfter: 1}
	}
	lasts, err := sn.logReader.Lasts(ctx, []schemas.Chat{send.Chat})
	if err != nil {
		return 0, unread(err)
	}
	last, inLog := lasts[send.Chat]
	if inLog && last <= send.After || !inLog && sn.logWatch.reaches(send.Chat, send.After) {
		return 0, nil // nothing has come since
	}
	after := send.After
	for looked := 0; looked < retryEventsMax; {
		events, more, err := sn.reader.after(ctx, send.Chat, after, last)
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

// encode returns an event as the log stores it.
func (sn *sends) encode(a *attempt, event *schemas.Event) ([]byte, *schemas.Error) {
	data, err := schemas.EncodeEvent(event)
	if err != nil {
		sn.log.Error("encode send", "user", a.from, "chat", a.Chat, "error", err)
		return nil, schemas.Errorf(schemas.Internal, "the message could not be encoded")
	}
	return data, nil
}

// append publishes an encoded event to its chat's timeline. The log's answer goes to
// the attempt's done.
func (sn *sends) append(ctx context.Context, shard streams.Shard, a *attempt, ttl uint64, data []byte) {
	done := a.done
	send := a.Send
	sn.publisher.Publish(ctx, streams.Publication{
		Subject: shard.Timeline(send.Chat),
		MsgID:   messageID(a.from, send),
		Data:    data,
		TTL:     ttl,
		ReadAt:  a.readAt,
		Done: func(ack streams.PubAck, err error) {
			if err != nil {
				done(ack, sn.publishError(send, err))
				return
			}
			done(ack, nil)
		},
	})
}

// messageID makes the same send the same message to the log, whatever edge it comes through.
func messageID(user schemas.User, send *schemas.Send) string {
	sum := sha256.Sum256([]byte(send.Chat.String() + "/" + user.String() + "/" + send.ID.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func (sn *sends) publishError(send *schemas.Send, err error) *schemas.Error {
	switch {
	case errors.Is(err, streams.ErrLogFull):
		sn.log.Error("log takes no more", "chat", send.Chat, "error", err)
		return &schemas.Error{Code: schemas.Overloaded, Message: "the log takes no more messages now", RetryAfter: 5}
	case errors.Is(err, streams.ErrNotStored):
		return &schemas.Error{Code: schemas.Unavailable, Message: "the log did not acknowledge in time: send again with retry", RetryAfter: 1}
	default:
		sn.log.Error("publish", "chat", send.Chat, "error", err)
		return schemas.Errorf(schemas.Internal, "the log refused the message")
	}
}

// acked answers a send that the log has, and awaits its echo.
func (sn *sends) acked(s *session, ref schemas.Ref, send *schemas.Send, ack streams.PubAck) {
	now := sn.now()
	result := "ack"
	if ack.Duplicate {
		result = "duplicate"
	} else if a := sn.members.audienceIn(s.user, send.Chat); a != nil {
		a.expectEcho(send.Chat, ack.Seq, now)
	}
	sn.metrics.sends.WithLabelValues(result).Inc()
	s.push(ackFrame(ref, send.ID, send.Chat, ack, now))
}

// blocked answers a send between two of whom one blocks the other; it does not tell which.
func blocked(chat schemas.Chat) *schemas.Error {
	return schemas.Errorf(schemas.Forbidden, "one of the two in %s has blocked the other", chat)
}
