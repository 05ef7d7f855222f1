package streams

import (
	"context"
	"errors"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"parley/schemas"
)

// retryAfterHeader tells in a service's refusal after how many seconds trying
// again can help.
const retryAfterHeader = "Parley-Retry-After"

// Ask sends a request to a service and returns its answer, or what it refused
// with. A service that does not answer before ctx ends is unavailable.
func Ask(ctx context.Context, conn *nats.Conn, subject string, request []byte) ([]byte, *schemas.Error) {
	reply, err := conn.RequestWithContext(ctx, subject, request)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, &schemas.Error{Code: schemas.Unavailable, Message: "no worker is running that answers this", RetryAfter: 2}
	case err != nil:
		return nil, &schemas.Error{Code: schemas.Unavailable, Message: "no worker answers in time", RetryAfter: 2}
	}
	if code := reply.Header.Get(micro.ErrorCodeHeader); code != "" {
		refused := schemas.Errorf(schemas.Code(code), "%s", reply.Header.Get(micro.ErrorHeader))
		refused.RetryAfter, _ = strconv.ParseFloat(reply.Header.Get(retryAfterHeader), 64) // 0 where there is none
		return nil, refused
	}
	if len(reply.Data) < len("{}") {
		return nil, schemas.Errorf(schemas.Internal, "the worker's answer is empty")
	}
	return reply.Data, nil
}

// Refusal is the answer of a service that [Ask] returns as err.
func Refusal(reply string, err *schemas.Error) *nats.Msg {
	m := &nats.Msg{Subject: reply, Header: nats.Header{
		micro.ErrorCodeHeader: {string(err.Code)},
		micro.ErrorHeader:     {err.Message},
	}}
	if err.RetryAfter > 0 {
		m.Header.Set(retryAfterHeader, strconv.FormatFloat(err.RetryAfter, 'g', -1, 64))
	}
	return m
}
