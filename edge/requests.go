package edge

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"parley/schemas"
	"parley/streams"
)

const (
	// requestsMax bounds a session's requests to workers in flight.
	requestsMax = 8
	// requestWithin bounds one of them.
	requestWithin = 10 * time.Second
	// typingChatsMax bounds the chats per user whose last typing is remembered.
	typingChatsMax = 64
)

// handleHistory has a history worker answer; the read loop goes on meanwhile.
func (e *Edge) handleHistory(ctx context.Context, s *session, ref schemas.Ref, history *schemas.History) *schemas.Error {
	if !history.Chat.HasDirectMember(s.user.name) {
		return notMember(s.user.name, history.Chat)
	}
	if s.requests.Add(1) > requestsMax {
		s.requests.Add(-1)
		return &schemas.Error{Code: schemas.RateLimited, Message: "more than " + strconv.Itoa(requestsMax) + " requests at once", RetryAfter: 0.1}
	}
	e.tasks.Go(func() {
		answer, err := e.requestHistory(ctx, history)
		if err != nil {
			s.requests.Add(-1)
			e.metrics.histories.WithLabelValues(string(err.Code)).Inc()
			s.push(errorFrame(ref, "", err))
			return
		}
		e.metrics.histories.WithLabelValues("page").Inc()
		s.pushPage(pageFrame(ref, history.Chat, answer))
	})
	return nil
}

// requestHistory returns a worker's answer as it came: a JSON object of events and more.
func (e *Edge) requestHistory(ctx context.Context, history *schemas.History) ([]byte, *schemas.Error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	reply, err := e.conn.RequestWithContext(ctx, streams.HistorySubject, historyRequest(history))
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, &schemas.Error{Code: schemas.Unavailable, Message: "no history worker is running", RetryAfter: 2}
	case err != nil:
		return nil, &schemas.Error{Code: schemas.Unavailable, Message: "the history worker does not answer", RetryAfter: 2}
	}
	if code := reply.Header.Get(micro.ErrorCodeHeader); code != "" {
		if code == "400" {
			return nil, schemas.Errorf(schemas.Invalid, "%s", reply.Header.Get(micro.ErrorHeader))
		}
		return nil, &schemas.Error{Code: schemas.Unavailable, Message: reply.Header.Get(micro.ErrorHeader), RetryAfter: 2}
	}
	if len(reply.Data) < 2 {
		return nil, schemas.Errorf(schemas.Internal, "the history worker's answer is empty")
	}
	return reply.Data, nil
}

// historyRequest is the JSON of a request, appended by hand since it is made for each page.
func historyRequest(history *schemas.History) []byte {
	b := append(make([]byte, 0, 256), `{"chat":"`...)
	b = append(append(b, history.Chat.String()...), '"')
	if history.Before != nil {
		b = strconv.AppendUint(append(b, `,"before":`...), *history.Before, 10)
	}
	if history.After != nil {
		b = strconv.AppendUint(append(b, `,"after":`...), *history.After, 10)
	}
	if history.Limit != nil {
		b = strconv.AppendInt(append(b, `,"limit":`...), *history.Limit, 10)
	}
	return append(b, '}')
}

// askHistory returns a chat's events after a seq as a history worker knows
// them: the store's, and the log's behind them.
func (e *Edge) askHistory(ctx context.Context, chat schemas.Chat, after uint64, limit int64) ([]schemas.StoredEvent, bool, error) {
	answer, refused := e.requestHistory(ctx, &schemas.History{Chat: chat, After: &after, Limit: &limit})
	if refused != nil {
		return nil, false, refused
	}
	var page struct {
		Events []schemas.StoredEvent `json:"events"`
		More   bool                  `json:"more"`
	}
	if err := json.Unmarshal(answer, &page); err != nil {
		return nil, false, fmt.Errorf("decode history of %s: %w", chat, err)
	}
	return page.Events, page.More, nil
}

// readAfter returns a chat's events after a seq from where they stand together:
// the log, which ends at last for this chat as far as is known, or the store.
func (e *Edge) readAfter(ctx context.Context, chat schemas.Chat, after, last uint64) (events []schemas.StoredEvent, more bool, err error) {
	if e.logCovers(chat, after, last) {
		return e.logReader.After(ctx, chat, after, schemas.ResumeEventsMax+1, schemas.ResumeBytesMax)
	}
	return e.askHistory(ctx, chat, after, schemas.PageEventsMax)
}

// handleTyping tells the other members, at most once in a while.
func (e *Edge) handleTyping(s *session, ref schemas.Ref, typing *schemas.Typing) *schemas.Error {
	if !typing.Chat.HasDirectMember(s.user.name) {
		return notMember(s.user.name, typing.Chat)
	}
	if s.user.mayType(typing.Chat, e.now()) {
		if err := e.conn.Publish(streams.LiveTyping(typing.Chat, s.user.name), nil); err != nil {
			return &schemas.Error{Code: schemas.Unavailable, Message: "typing cannot be told now", RetryAfter: 2}
		}
	}
	if ref.Present {
		s.push(doneFrame(ref))
	}
	return nil
}

func (u *user) mayType(chat schemas.Chat, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.typingAt[chat]) < schemas.TypingEvery {
		return false
	}
	if u.typingAt == nil || len(u.typingAt) >= typingChatsMax {
		u.typingAt = make(map[schemas.Chat]time.Time)
	}
	u.typingAt[chat] = now
	return true
}

// handleRenew lets the session live as long as a new token does.
func (e *Edge) handleRenew(s *session, ref schemas.Ref, renew *schemas.Renew) *schemas.Error {
	identity, err := e.auth.Verify(renew.Token)
	if err != nil {
		return err
	}
	if identity.User != s.user.name {
		return schemas.Errorf(schemas.Forbidden, "the token is of another user than this session")
	}
	s.expiresAt.Store(identity.Expires.Unix())
	s.push(jsonFrame(schemas.Renewed{T: schemas.TRenewed, Ref: refPointer(ref), Expires: identity.Expires.UTC()}))
	return nil
}

func formatRate(perSecond float64) string { return strconv.FormatFloat(perSecond, 'g', -1, 64) }
