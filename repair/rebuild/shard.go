package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
	"parley/workers/persist/fold"
	"parley/workers/store"
	"parley/workers/worker"
)

// shard is the way of one shard.
type shard struct {
	*Rebuilder
	shard   streams.Shard
	letters map[uint64]struct{}

	from, last uint64 // of the log, when it began
	row        uint64 // the shard's row in the store
	bases      map[schemas.Chat]base
}

func newShard(r *Rebuilder, of streams.Shard, letters map[uint64]struct{}) *shard {
	return &shard{Rebuilder: r, shard: of, letters: letters, bases: make(map[schemas.Chat]base)}
}

// begin waits until nobody owns the shard, and reads where it is.
func (s *shard) begin(ctx context.Context) (err error) {
	if err := s.waitUnowned(ctx); err != nil {
		return err
	}
	if s.row, err = s.cfg.Store.Committed(ctx, s.shard.Token); err != nil {
		return fmt.Errorf("read row of shard %s: %w", s.shard.Token, err)
	}
	if s.from, s.last, err = s.cfg.Log.Bounds(ctx, s.shard); err != nil {
		return err
	}
	if s.row > s.last {
		return fmt.Errorf("store has shard %s up to %d and the log ends at %d: they do not belong together: %w", s.shard.Token, s.row, s.last, ErrBeyondLog)
	}
	s.total.Add(s.last + 1 - min(s.from, s.last+1))
	return nil
}

// waitUnowned looks until nobody is pinned and nobody waits to be: the pin of a
// worker that has ended stays for a while.
func (s *shard) waitUnowned(ctx context.Context) error {
	deadline := time.Now().Add(s.cfg.OwnedWithin)
	for {
		consumer, err := s.cfg.JetStream.Consumer(ctx, s.shard.Stream(), streams.PersistConsumer)
		if err != nil {
			return fmt.Errorf("look up consumer %s of %s: %w", streams.PersistConsumer, s.shard.Stream(), err)
		}
		info := consumer.CachedInfo()
		owned := info.NumWaiting > 0
		for _, group := range info.PriorityGroups {
			owned = owned || group.PinnedClientID != ""
		}
		switch {
		case !owned:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("shard %s is owned by a worker: %w", s.shard.Token, ErrOwned)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// span is a part of the log, whole up to upto.
type span struct {
	msgs []*jetstream.RawStreamMsg
	upto uint64
}

// run applies batch by batch; the next one is read meanwhile.
func (s *shard) run(ctx context.Context) error {
	batches := make(chan span)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(batches)
		for next := s.from; next <= s.last; {
			b, err := worker.Retry(ctx, worker.BackOff(time.Second), s.cfg.RetryWithin, func() (b span, err error) {
				b.msgs, b.upto, err = s.cfg.Log.Span(ctx, s.shard, next, s.last, s.cfg.BatchEventsMax, s.cfg.BatchBytesMax)
				return b, err
			})
			if err != nil {
				return err
			}
			select {
			case batches <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
			next = b.upto + 1
		}
		return nil
	})
	group.Go(func() error {
		done := s.from
		for b := range batches {
			events, err := s.decode(ctx, b.msgs)
			if err != nil {
				return err
			}
			if err := s.apply(ctx, events, b.upto); err != nil {
				return err
			}
			s.done.Add(b.upto + 1 - done)
			done = b.upto + 1
		}
		return nil
	})
	return group.Wait()
}

// decode returns the events of msgs. What is none goes to DEAD, where it is not
// there already.
func (s *shard) decode(ctx context.Context, msgs []*jetstream.RawStreamMsg) ([]fold.Event, error) {
	events := make([]fold.Event, 0, len(msgs))
	for _, msg := range msgs {
		if _, ok := s.letters[msg.Sequence]; ok {
			continue
		}
		e := fold.Entry{Seq: msg.Sequence, Subject: msg.Subject, Time: msg.Time, Data: msg.Data}
		ev, err := fold.Decode(s.cfg.Layout, s.shard, e)
		if err != nil {
			if err := s.bury(ctx, e, err); err != nil {
				return nil, err
			}
			continue
		}
		events = append(events, ev)
	}
	return events, nil
}

func (s *shard) bury(ctx context.Context, e fold.Entry, reason error) error {
	err := dead.Bury(ctx, s.cfg.JetStream, e.Letter(s.shard, reason))
	if err == nil {
		s.buried.Add(1)
	}
	return err
}

// apply commits events up to a sequence. A batch that the store will never take
// is halved until the event at fault is alone; that one goes to DEAD.
func (s *shard) apply(ctx context.Context, events []fold.Event, upto uint64) error {
	_, err := worker.Retry(ctx, worker.BackOff(time.Second), s.cfg.RetryWithin, func() (struct{}, error) {
		err := s.applyOnce(ctx, events, upto)
		if errors.Is(err, store.ErrBatch) || errors.Is(err, ErrOwned) || errors.Is(err, ErrBeyondLog) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	})
	switch {
	case !errors.Is(err, store.ErrBatch) || len(events) == 0:
		return err
	case len(events) == 1:
		if err := s.bury(ctx, events[0].Entry, err); err != nil {
			return err
		}
		return s.apply(ctx, nil, upto)
	}
	half := len(events) / 2
	if err := s.apply(ctx, events[:half], events[half-1].Seq); err != nil {
		return err
	}
	return s.apply(ctx, events[half:], upto)
}

func (s *shard) applyOnce(ctx context.Context, events []fold.Event, upto uint64) error {
	row, err := s.cfg.Store.Committed(ctx, s.shard.Token)
	if err != nil {
		return fmt.Errorf("read row of shard %s: %w", s.shard.Token, err)
	}
	// A commit of which no answer came may have raised it already.
	if row != s.row && row != max(s.row, upto) {
		return fmt.Errorf("a worker went on with shard %s meanwhile, up to %d: %w", s.shard.Token, row, ErrOwned)
	}
	if err := s.loadBases(ctx, events); err != nil {
		return err
	}
	rows, err := s.loadRows(ctx, events)
	if err != nil {
		return err
	}
	heads := func(chat schemas.Chat) store.Head { return s.bases[chat].head }
	targets, err := fold.LoadTargets(ctx, s.cfg.Store, heads, events)
	if err != nil {
		return err
	}
	batch := fold.CorrectedBatch(s.shard.Token, heads, targets, events, upto, func(head *store.Head, e *fold.Event) {
		correct(head, e, rows[e.Seq])
	})
	if err := s.compareBuckets(ctx, &batch); err != nil {
		return err
	}
	if err := s.cfg.Store.Commit(ctx, batch); err != nil {
		return fmt.Errorf("commit shard %s up to %d: %w", s.shard.Token, upto, err)
	}
	s.row = max(s.row, upto)
	for i := range batch.Chats {
		b := s.bases[batch.Chats[i].Chat]
		b.head = batch.Chats[i].Head
		s.bases[batch.Chats[i].Chat] = b
	}
	s.events.Add(uint64(len(events)))
	return nil
}
