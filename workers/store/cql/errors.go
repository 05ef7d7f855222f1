package cql

import (
	"context"
	"errors"
	"fmt"

	"github.com/gocql/gocql"

	"parley/workers/store"
)

var (
	errClosed       = errors.New("it was closed")
	errNoKeyspace   = errors.New("its keyspace is not there")
	errNotConnected = errors.New("no node answers")
)

// classify puts an error of the driver under one of the sentinels of package
// store. Nothing that the database says is a batch's own fault: Validate and
// fits have seen to that before, and a table that somebody dropped must not make
// dead letters of a whole log.
func classify(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrBatch),
		errors.Is(err, store.ErrSchemaNewer), errors.Is(err, store.ErrSchemaOlder),
		errors.Is(err, store.ErrSchemaChanged):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, gocql.ErrNoConnections), errors.Is(err, gocql.ErrHostDown):
		return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, errNotConnected)
	}
	return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, err)
}

// code is that of an answer of the database, 0 for any other error. The driver's
// own type for it is internal, and its RequestError is not what it implements.
func code(err error) int {
	var answer interface{ GetCode() int }
	if errors.As(err, &answer) {
		return answer.GetCode()
	}
	return 0
}
