package edge

import (
	"context"

	"github.com/go-json-experiment/json"

	"parley/schemas"
	"parley/streams"
)

// services are the workers' micro services, as an edge asks them over NATS.
type services struct{ *base }

// ask has a service answer a request of the edge's own.
func (sv *services) ask(ctx context.Context, subject string, request, answer any) *schemas.Error {
	data, err := json.Marshal(request)
	if err != nil {
		panic("encode request: " + err.Error()) // the types are ours and hold nothing that JSON cannot say
	}
	reply, refused := streams.Ask(ctx, sv.conn, subject, data)
	if refused != nil {
		return refused
	}
	if err := json.Unmarshal(reply, answer); err != nil {
		sv.log.Error("decode answer", "subject", subject, "error", err)
		return schemas.Errorf(schemas.Internal, "the worker's answer cannot be read")
	}
	return nil
}

// forward asks the service for a user, and returns its answer: the members of the
// frame that the client gets, but for t and ref.
func (sv *services) forward(ctx context.Context, by schemas.User, t schemas.Type, ask *schemas.Ask) ([]byte, *schemas.Error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	request := append(make([]byte, 0, len(ask.JSON)+80), `{"by":"`...)
	request = append(append(request, by.String()...), '"')
	if rest := ask.JSON[1:]; len(rest) > 1 {
		request = append(append(request, ','), rest...)
	} else {
		request = append(request, '}')
	}
	answer, refused := streams.Ask(ctx, sv.conn, streams.AskSubject(t), request)
	result := "ok"
	if refused != nil {
		result = string(refused.Code)
	}
	sv.metrics.asks.WithLabelValues(string(t), result).Inc()
	return answer, refused
}

// history returns a worker's answer as it came: a JSON object of events and more.
func (sv *services) history(ctx context.Context, ask *schemas.HistoryAsk) ([]byte, *schemas.Error) {
	data, err := json.Marshal(ask)
	if err != nil {
		return nil, schemas.Errorf(schemas.Internal, "the request could not be handed on")
	}
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	return streams.Ask(ctx, sv.conn, streams.HistorySubject, data)
}

// page returns a page as a history worker knows it: the store's events, and
// the log's behind them.
func (sv *services) page(ctx context.Context, ask *schemas.HistoryAsk) (items []schemas.Item, more bool, refused *schemas.Error) {
	data, refused := sv.history(ctx, ask)
	if refused != nil {
		return nil, false, refused
	}
	var answer schemas.HistoryAnswer
	if err := json.Unmarshal(data, &answer); err != nil {
		sv.log.Error("decode history", "chat", ask.Chat, "error", err)
		return nil, false, schemas.Errorf(schemas.Internal, "the history worker's answer cannot be read")
	}
	return answer.Events, answer.More, nil
}

// standing asks a worker what a user is in a group, which need not be on this edge.
func (sv *services) standing(ctx context.Context, chat schemas.Chat, user schemas.User) (member, *schemas.Error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	var answer schemas.StandingAnswer
	if err := sv.ask(ctx, streams.StandingSubject, schemas.Standing{Chat: chat, Users: []schemas.User{user}}, &answer); err != nil {
		return member{}, err
	}
	if len(answer.Members) == 0 {
		return member{}, notMember(user, chat)
	}
	is := answer.Members[0]
	return member{role: is.Role, since: is.Since, from: is.From}, nil
}
