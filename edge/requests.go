package edge

import (
	"context"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
	"parley/streams"
)

const (
	// requestsMax bounds a session's requests to workers in flight.
	requestsMax = 8
	// requestWithin bounds one of them.
	requestWithin = 10 * time.Second
)

// handleHistory has a history worker answer; the read loop goes on meanwhile.
func (e *Edge) handleHistory(ctx context.Context, s *session, ref schemas.Ref, history *schemas.History) *schemas.Error {
	m, err := e.memberOf(s.user, history.Chat)
	if err != nil {
		return err
	}
	return e.request(s, ref, func() (wireFrame, *schemas.Error) {
		answer, err := e.requestHistory(ctx, historyAsk(s.user.name, m, history))
		if err != nil {
			e.metrics.histories.WithLabelValues(string(err.Code)).Inc()
			return nil, err
		}
		e.metrics.histories.WithLabelValues("page").Inc()
		return pageFrame(ref, history.Chat, answer), nil
	})
}

// request runs what asks a worker beside the read loop, and answers with its frame
// or its error; without either it has answered itself. A session has at most
// requestsMax of them in flight.
func (e *Edge) request(s *session, ref schemas.Ref, run func() (wireFrame, *schemas.Error)) *schemas.Error {
	if s.requests.Add(1) > requestsMax {
		s.requests.Add(-1)
		return &schemas.Error{Code: schemas.RateLimited, Message: "more than " + strconv.Itoa(requestsMax) + " requests at once", RetryAfter: 0.1}
	}
	e.tasks.Go(func() {
		frame, err := run()
		if err != nil {
			s.requests.Add(-1)
			s.push(errorFrame(ref, "", err))
			return
		}
		if frame == nil {
			s.requests.Add(-1)
			return
		}
		s.pushPage(frame)
	})
	return nil
}

// historyAsk is what a member asks a history worker: no more than it may read.
// Former bodies it sees of its own messages, and an admin of everybody's.
func historyAsk(name schemas.User, m member, history *schemas.History) *schemas.HistoryAsk {
	ask := &schemas.HistoryAsk{History: *history, From: m.from}
	if ask.Raw && !m.role.Administers() {
		ask.Author = name
	}
	return ask
}

// requestHistory returns a worker's answer as it came: a JSON object of events and more.
func (e *Edge) requestHistory(ctx context.Context, ask *schemas.HistoryAsk) ([]byte, *schemas.Error) {
	data, err := json.Marshal(ask)
	if err != nil {
		return nil, schemas.Errorf(schemas.Internal, "the request could not be handed on")
	}
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	return streams.Ask(ctx, e.conn, streams.HistorySubject, data)
}

// askHistory returns a page as a history worker knows it: the store's events, and
// the log's behind them.
func (e *Edge) askHistory(ctx context.Context, ask *schemas.HistoryAsk) (items []schemas.Item, more bool, refused *schemas.Error) {
	data, refused := e.requestHistory(ctx, ask)
	if refused != nil {
		return nil, false, refused
	}
	var answer schemas.HistoryAnswer
	if err := json.Unmarshal(data, &answer); err != nil {
		e.log.Error("decode history", "chat", ask.Chat, "error", err)
		return nil, false, schemas.Errorf(schemas.Internal, "the history worker's answer cannot be read")
	}
	return answer.Events, answer.More, nil
}

// readAfter returns a chat's events after a seq from where they stand together:
// the log, which ends at last for this chat as far as is known, or the store.
func (e *Edge) readAfter(ctx context.Context, chat schemas.Chat, after, last uint64) (events []schemas.StoredEvent, more bool, err error) {
	if e.logCovers(chat, after, last) {
		return e.logReader.After(ctx, chat, after, schemas.ResumeEventsMax+1, schemas.ResumeBytesMax)
	}
	limit := int64(schemas.PageEventsMax)
	items, more, refused := e.askHistory(ctx, &schemas.HistoryAsk{History: schemas.History{Chat: chat, After: &after, Limit: &limit}})
	if refused != nil {
		return nil, false, refused
	}
	events = make([]schemas.StoredEvent, len(items))
	for i := range items {
		events[i] = items[i].StoredEvent
	}
	return events, more, nil
}

// handleAsk hands a request on to the service that answers it.
func (e *Edge) handleAsk(ctx context.Context, s *session, frame schemas.Frame) *schemas.Error {
	if changesGroups(frame.T) || frame.T == schemas.TStatus { // each is told to every member, or to all who watch
		if err := e.takeSend(s.user.name, e.now()); err != nil {
			return err
		}
	}
	return e.request(s, frame.Ref, func() (wireFrame, *schemas.Error) {
		answer, err := e.forward(ctx, s.user.name, frame.T, frame.Ask)
		if err != nil {
			return nil, err
		}
		switch {
		case changesGroups(frame.T):
			e.expectChange(ctx, s.user, frame.T, answer)
		case frame.T == schemas.TStatus, frame.T == schemas.TSetProfile, frame.T == schemas.TBlock:
			e.loadPrivacy(ctx, s.user) // in force here with the answer; other edges have word of it
		}
		return answerFrame(answerType(frame.T), frame.Ref, answer), nil
	})
}

// changesGroups tells whether a request is answered by an event in a group's timeline.
func changesGroups(t schemas.Type) bool {
	switch t {
	case schemas.TCreate, schemas.TAdd, schemas.TRemove, schemas.TLeave, schemas.TRole, schemas.TRename:
		return true
	}
	return false
}

// expectChange has a change of a group, which u has asked for, take effect on this
// edge: who made a group may talk there with the answer in its hands, and the echo
// is awaited as of a send, since a leader that dies before it tells of the change
// would leave everybody as they were.
func (e *Edge) expectChange(ctx context.Context, u *user, t schemas.Type, answer []byte) {
	var changed schemas.Done // as in [schemas.GroupCreated], the chat and the seq
	if err := json.Unmarshal(answer, &changed); err != nil {
		e.log.Error("decode answer", "subject", streams.AskSubject(t), "error", err)
		return // the client is told what came
	}
	if t == schemas.TCreate {
		e.enterCreated(ctx, u, changed.Chat)
	}
	if a := e.audienceIn(u, changed.Chat); a != nil {
		a.expectEcho(changed.Chat, changed.Seq, e.now())
	}
}

// enterCreated lets a user into the group that it has made. The personal event that
// tells of it may come later.
func (e *Edge) enterCreated(ctx context.Context, u *user, chat schemas.Chat) {
	if _, refused := e.memberOf(u, chat); refused == nil {
		return
	}
	m, refused := e.standing(ctx, chat, u.name)
	if refused != nil {
		return // it has left since, or no worker answers any more
	}
	frame := schemas.ChatFrame{T: schemas.TChat, Chat: chat, Change: schemas.ChatAdded, Seq: m.since}
	if err := e.added(ctx, u, &schemas.Notice{ChatFrame: frame, Role: m.role, From: m.from}); err != nil && ctx.Err() == nil {
		e.log.Warn("enter group", "user", u.name, "chat", chat, "error", err)
	}
}

// forward asks the service for a user, and returns its answer: the members of the
// frame that the client gets, but for t and ref.
func (e *Edge) forward(ctx context.Context, by schemas.User, t schemas.Type, ask *schemas.Ask) ([]byte, *schemas.Error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	request := append(make([]byte, 0, len(ask.JSON)+80), `{"by":"`...)
	request = append(append(request, by.String()...), '"')
	if rest := ask.JSON[1:]; len(rest) > 1 {
		request = append(append(request, ','), rest...)
	} else {
		request = append(request, '}')
	}
	answer, refused := streams.Ask(ctx, e.conn, streams.AskSubject(t), request)
	result := "ok"
	if refused != nil {
		result = string(refused.Code)
	}
	e.metrics.asks.WithLabelValues(string(t), result).Inc()
	return answer, refused
}

// answerType is the frame that answers a request.
func answerType(request schemas.Type) schemas.Type {
	switch request {
	case schemas.TCreate:
		return schemas.TCreated
	case schemas.TMembers, schemas.TChats, schemas.TReceipts:
		return request
	case schemas.TProfile:
		return schemas.TProfiles
	default:
		return schemas.TDone
	}
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
