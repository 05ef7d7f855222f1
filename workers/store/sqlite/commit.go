package sqlite

import (
	"context"
	"fmt"
	"time"

	"parley/workers/store"
)

const (
	// changesMax is how many changes wait for the writer; a further one waits for
	// a place until its context ends.
	changesMax = 64
	// groupRowsMax bounds the rows of one transaction, and with it the time for
	// which the next group waits; the group ends with the change that reaches it.
	groupRowsMax = 20_000
)

// change is what somebody writes, on its way to the writer.
type change struct {
	ctx     context.Context
	rows    int               // about; see groupRowsMax
	write   func(*conn) error // in a transaction
	outcome chan error        // one answer; buffered, so that the writer never waits
}

// Commit stores b whole or not at all; with a nil error it is on the disk. It may
// be given again: what is newer stays. It returns store.ErrBatch,
// store.ErrUnavailable, or the error of ctx, after which the batch may be stored
// or not.
func (s *Store) Commit(ctx context.Context, b store.Batch) error {
	if err := b.Validate(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	now := s.cfg.now()
	return s.write(ctx, "commit shard "+b.Shard, b.Rows(), func(c *conn) error { return writeBatch(c, &b, now) })
}

// write has the writer run fn in a transaction, which others may share.
func (s *Store) write(ctx context.Context, what string, rows int, fn func(*conn) error) error {
	c := &change{ctx: ctx, rows: rows, write: fn, outcome: make(chan error, 1)}
	select {
	case s.changes <- c:
	case <-s.closing:
		return classify(what, errClosed)
	case <-ctx.Done():
		return classify(what, ctx.Err())
	}
	select {
	case err := <-c.outcome:
		return classify(what, err)
	case <-ctx.Done():
		return classify(what, ctx.Err())
	case <-s.written: // it was answered before the writer ended, or never will be
	}
	select {
	case err := <-c.outcome:
		return classify(what, err)
	default:
		return classify(what, errClosed)
	}
}

// writeLoop owns the writing connection; it runs until Close.
func (s *Store) writeLoop(w *writer) {
	defer close(s.written)
	defer w.close()
	sweep := time.NewTimer(s.cfg.sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-s.closing:
			return
		case first := <-s.changes:
			w.commitGroup(s.gather(first))
		case <-sweep.C:
			pause := s.cfg.sweepEvery
			if w.sweepOnce(s.cfg.now()) {
				pause = 0 // there is more; what waits has its turn between
			}
			sweep.Reset(pause)
		}
	}
}

// gather returns first with all that waits behind it, up to groupRowsMax.
func (s *Store) gather(first *change) []*change {
	group := []*change{first}
	rows := first.rows
	for rows < groupRowsMax {
		select {
		case c := <-s.changes:
			group = append(group, c)
			rows += c.rows
		default:
			return group
		}
	}
	return group
}

// writer is the writing connection; nil after a failure, until the next commit.
type writer struct {
	conn *conn
	open func() (*conn, error)
}

func (w *writer) close() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
}

// commitGroup stores a group in one transaction. If a row of it is at fault, each
// change is tried alone, so that one cannot hold up the others.
func (w *writer) commitGroup(group []*change) {
	live := group[:0]
	for _, c := range group {
		if err := c.ctx.Err(); err != nil {
			c.outcome <- err // nobody waits for it
			continue
		}
		live = append(live, c)
	}
	if len(live) == 0 {
		return
	}
	err := w.commitOnce(live)
	if len(live) > 1 && isBatchFault(err) {
		for i := range live {
			live[i].outcome <- w.commitOnce(live[i : i+1])
		}
		return
	}
	for _, c := range live {
		c.outcome <- err
	}
}

func (w *writer) commitOnce(group []*change) error {
	return w.transact(func(c *conn) error {
		for _, one := range group {
			if err := one.write(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// transact runs fn in a transaction. After a failure the connection is given up,
// and with it whatever was left of the transaction.
func (w *writer) transact(fn func(*conn) error) (err error) {
	if w.conn == nil {
		if w.conn, err = w.open(); err != nil {
			w.conn = nil
			return err
		}
	}
	if err = w.conn.transact(func() error { return fn(w.conn) }); err != nil {
		w.close()
	}
	return err
}
