package sqlite

import (
	"context"
	"fmt"

	"parley/workers/store"
)

const (
	// commitsMax is how many commits wait for the writer; a further one waits
	// for a place until its context ends.
	commitsMax = 64
	// groupEventsMax bounds the events of one transaction, and with it the time
	// for which the next group waits; the group ends with the commit that reaches it.
	groupEventsMax = 20_000
)

// commit is a batch on its way to the writer.
type commit struct {
	ctx     context.Context
	batch   *store.Batch
	outcome chan error // one answer; buffered, so that the writer never waits
}

// Commit stores b whole or not at all; with a nil error it is on the disk. It may
// be given again, and in any order with others: what is newer stays. It returns
// store.ErrBatch, store.ErrUnavailable, or the error of ctx, after which the
// batch may be stored or not.
func (s *Store) Commit(ctx context.Context, b store.Batch) error {
	what := "commit shard " + b.Shard
	if err := b.Validate(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	c := &commit{ctx: ctx, batch: &b, outcome: make(chan error, 1)}
	select {
	case s.commits <- c:
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
	for {
		select {
		case <-s.closing:
			return
		case first := <-s.commits:
			w.commitGroup(s.gather(first))
		}
	}
}

// gather returns first with all that waits behind it, up to groupEventsMax.
func (s *Store) gather(first *commit) []*commit {
	group := []*commit{first}
	events := first.batch.Events()
	for events < groupEventsMax {
		select {
		case c := <-s.commits:
			group = append(group, c)
			events += c.batch.Events()
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

// commitGroup stores a group in one transaction. If a batch of it is at fault,
// each is tried alone, so that one cannot hold up the others.
func (w *writer) commitGroup(group []*commit) {
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

// commitOnce is one transaction. After a failure the connection is given up, and
// with it whatever was left of the transaction.
func (w *writer) commitOnce(group []*commit) (err error) {
	if w.conn == nil {
		if w.conn, err = w.open(); err != nil {
			w.conn = nil
			return err
		}
	}
	err = w.conn.transact(func() error { return writeBatches(w.conn, group) })
	if err != nil {
		w.close()
	}
	return err
}
