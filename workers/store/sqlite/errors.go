package sqlite

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"parley/workers/store"
)

var errClosed = errors.New("it was closed")

// classify puts an error of SQLite under one of the sentinels of package store.
// Only what a row itself can cause is the batch's fault; all else may pass, be
// it by an operator's hand.
func classify(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrBatch),
		errors.Is(err, store.ErrSchemaNewer), errors.Is(err, store.ErrSchemaOlder),
		errors.Is(err, store.ErrSchemaChanged):
		return fmt.Errorf("%s: %w", what, err)
	case isBatchFault(err):
		return fmt.Errorf("%s: %w: %w", what, store.ErrBatch, err)
	case primaryCode(err) == sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s: %w: it is no SQLite file, move it away or name another: %w", what, store.ErrUnavailable, err)
	case primaryCode(err) == sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s: %w: its directory has to be there and writable, or name another file: %w", what, store.ErrUnavailable, err)
	default:
		return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, err)
	}
}

// isBatchFault tells whether a row of the batch caused err.
func isBatchFault(err error) bool {
	switch primaryCode(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	default:
		return false
	}
}

func isBusy(err error) bool {
	code := primaryCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

func isMissingTable(err error) bool { return primaryCode(err) == sqlite3.SQLITE_ERROR }

// primaryCode is SQLite's result code without its extension, 0 for another error.
func primaryCode(err error) int {
	var failure *sqlite.Error
	if errors.As(err, &failure) {
		return failure.Code() & 0xff
	}
	return 0
}
