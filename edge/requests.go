package edge

import (
	"context"
	"strconv"
	"sync"
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

// requests are those that workers answer while the read loop goes on.
type requests struct {
	*base
	services *services
	members  *membership
}

// handleHistory has a history worker answer; the read loop goes on meanwhile.
func (rq *requests) handleHistory(ctx context.Context, s *session, ref schemas.Ref, history *schemas.History) *schemas.Error {
	m, err := rq.members.memberOf(s.user, history.Chat)
	if err != nil {
		return err
	}
	return s.request(&rq.tasks, ref, func() (wireFrame, *schemas.Error) {
		answer, err := rq.services.history(ctx, historyAsk(s.user.name, m, history))
		if err != nil {
			rq.metrics.histories.WithLabelValues(string(err.Code)).Inc()
			return nil, err
		}
		rq.metrics.histories.WithLabelValues("page").Inc()
		return pageFrame(ref, history.Chat, answer), nil
	})
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

// handleAsk hands a request on to the service that answers it.
func (rq *requests) handleAsk(ctx context.Context, s *session, frame schemas.Frame) *schemas.Error {
	if changesGroups(frame.T) || frame.T == schemas.TStatus { // each is told to every member, or to all who watch
		if err := rq.rates.takeSend(s.user.name, rq.now()); err != nil {
			return err
		}
	}
	return s.request(&rq.tasks, frame.Ref, func() (wireFrame, *schemas.Error) {
		answer, err := rq.services.forward(ctx, s.user.name, frame.T, frame.Ask)
		if err != nil {
			return nil, err
		}
		switch {
		case changesGroups(frame.T):
			rq.expectChange(ctx, s.user, frame.T, answer)
		case frame.T == schemas.TStatus, frame.T == schemas.TSetProfile, frame.T == schemas.TBlock:
			rq.members.loadPrivacy(ctx, s.user) // in force here with the answer; other edges have word of it
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
func (rq *requests) expectChange(ctx context.Context, u *user, t schemas.Type, answer []byte) {
	var changed schemas.Done // as in [schemas.GroupCreated], the chat and the seq
	if err := json.Unmarshal(answer, &changed); err != nil {
		rq.log.Error("decode answer", "subject", streams.AskSubject(t), "error", err)
		return // the client is told what came
	}
	if t == schemas.TCreate {
		rq.members.enterCreated(ctx, u, changed.Chat)
	}
	if a := rq.members.audienceIn(u, changed.Chat); a != nil {
		a.expectEcho(changed.Chat, changed.Seq, rq.now())
	}
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

// request runs what asks a worker beside the read loop, and answers with its frame
// or its error; without either it has answered itself. A session has at most
// requestsMax of them in flight.
func (s *session) request(tasks *sync.WaitGroup, ref schemas.Ref, run func() (wireFrame, *schemas.Error)) *schemas.Error {
	if s.requests.Add(1) > requestsMax {
		s.requests.Add(-1)
		return &schemas.Error{Code: schemas.RateLimited, Message: "more than " + strconv.Itoa(requestsMax) + " requests at once", RetryAfter: 0.1}
	}
	tasks.Go(func() {
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
