package persist

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"parley/workers/persist/fold"
	"parley/workers/store"
	"parley/workers/worker"
)

// commit moves the shard on to upto, with events. A batch that the store will
// never take is halved until the event at fault is alone; that one goes to DEAD.
// It returns errTakenOver where another owner has committed meanwhile.
func (s *shard) commit(ctx, work context.Context, events []fold.Event, upto uint64) error {
	if upto < s.next {
		return nil // all of it was redelivered
	}
	err := s.commitOrWait(ctx, work, events, upto)
	switch {
	case !errors.Is(err, store.ErrBatch) || len(events) == 0:
		return err
	case len(events) == 1:
		if err := s.bury(work, events[0].Entry, err); err != nil {
			return err
		}
		return s.commit(ctx, work, nil, upto)
	}
	half := len(events) / 2
	if err := s.commit(ctx, work, events[:half], events[half-1].Seq); err != nil {
		return err
	}
	return s.commit(ctx, work, events[half:], upto)
}

// commitOrWait tries until the store takes the batch, the batch is at fault, or
// another owner was found. Nothing is pulled meanwhile. An attempt may end within
// work; no other is begun once ctx has ended.
func (s *shard) commitOrWait(ctx, work context.Context, events []fold.Event, upto uint64) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := s.commitOnce(work, events, upto)
		switch {
		case err == nil:
			s.storeWorked()
		case errors.Is(err, store.ErrBatch), errors.Is(err, errTakenOver):
			s.storeWorked()
			return struct{}{}, backoff.Permanent(err)
		default:
			s.storeFailed(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(worker.BackOff(s.cfg.RetryMax)), backoff.WithMaxElapsedTime(0))
	return err
}

func (s *shard) commitOnce(ctx context.Context, events []fold.Event, upto uint64) error {
	if err := s.compareRow(ctx); err != nil {
		return err
	}
	batch, err := s.fold(ctx, events, upto)
	if err != nil {
		return err
	}
	started := time.Now()
	if err := s.cfg.Store.Commit(ctx, batch); err != nil {
		return fmt.Errorf("commit shard %s up to %d: %w", s.shard.Token, upto, err)
	}
	took := time.Since(started)
	s.paceBatches(len(events), took)
	s.metrics.commit.Observe(took.Seconds())
	s.metrics.batches.Inc()
	s.metrics.batchRows.Observe(float64(len(events)))
	s.metrics.events.Add(float64(len(events)))
	s.row, s.next = upto, upto+1
	s.heads.apply(&batch)
	s.tellJoined(events)
	return nil
}

// compareRow returns errTakenOver where the shard's row is not this owner's.
func (s *shard) compareRow(ctx context.Context) error {
	row, err := s.cfg.Store.Committed(ctx, s.shard.Token)
	if err != nil {
		return fmt.Errorf("read row of shard %s: %w", s.shard.Token, err)
	}
	if row != s.row {
		return errTakenOver
	}
	return nil
}
