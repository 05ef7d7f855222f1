package persist

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/store"
)

// claim is for who is no owner, or gave up as one after an error. Messages that
// were delivered and never committed would come again only after AckWait: until
// then no message tells who is pinned. So where this process still holds the pin
// it begins anew; and where nobody does, the consumer is set back to what the
// store has, so that the server has something to pin somebody for.
func (s *shard) claim(ctx context.Context) error {
	info, pinned, err := s.pinned(ctx)
	if err != nil {
		return err
	}
	if pinned != "" {
		if pinned != s.lastPin {
			return nil // another's
		}
		return s.takeOver(ctx, pinned)
	}
	row, next, err := s.position(ctx)
	if err != nil || info.Delivered.Stream < next {
		return err
	}
	s.log.Info("nobody owns the shard, and not all that was delivered is stored", "delivered", info.Delivered.Stream, "committed", row)
	return s.reset(ctx, next)
}

// pinned returns the consumer's state and the pin of who owns the shard, "" where nobody does.
func (s *shard) pinned(ctx context.Context) (info *jetstream.ConsumerInfo, pin string, err error) {
	info, err = s.consumer.Info(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read state of consumer %s of %s: %w", streams.PersistConsumer, s.shard.Stream(), err)
	}
	for _, group := range info.PriorityGroups {
		if group.Group == s.group {
			pin = group.PinnedClientID
		}
	}
	return info, pin, nil
}

// takeOver begins a time of ownership where the store says that the shard is.
// The message that told of the pin is dropped: the reset brings it again.
func (s *shard) takeOver(ctx context.Context, pin string) error {
	if pin == "" {
		return fmt.Errorf("a message of %s came without a pin", s.shard.Stream())
	}
	row, next, err := s.position(ctx)
	if err != nil {
		return err
	}
	if err := s.fenceOlder(ctx); err != nil {
		return err
	}
	if err := s.reset(ctx, next); err != nil {
		return err
	}
	if begin := max(row+1, s.shard.FirstSeq()); begin < next {
		s.countLost(begin, next)
	}
	if row != s.row { // else nobody has committed since, and the same events fold to the same rows
		s.heads.clear()
	}
	s.pin, s.lastPin = pin, pin
	s.row, s.next = row, next
	s.metrics.takeovers.Inc()
	s.log.Info("owns the shard", "next", next, "pin", pin)
	return nil
}

// position returns the shard's row in the store, and the sequence that is to be
// committed next: that after it, or the log's first where that is higher.
func (s *shard) position(ctx context.Context) (row, next uint64, err error) {
	row, err = s.cfg.Store.Committed(ctx, s.shard.Token)
	if err != nil {
		s.storeFailed(err)
		return 0, 0, fmt.Errorf("read row of shard %s: %w", s.shard.Token, err)
	}
	first, last, err := s.cfg.Log.Bounds(ctx, s.shard)
	if err != nil {
		return 0, 0, err
	}
	if row > last {
		return 0, 0, fmt.Errorf("store has shard %s up to %d and the log ends at %d: %w", s.shard.Token, row, last, streams.ErrLost)
	}
	return row, max(row+1, s.shard.FirstSeq(), first), nil
}

// fenceOlder raises the rows of the shard's older generations to their end: an owner
// that still holds events of a lost stream finds that it was taken over, and does
// not number them beside those that the chats go on with.
func (s *shard) fenceOlder(ctx context.Context) error {
	for generation := streams.FirstGeneration; generation < s.shard.Generation; generation++ {
		older := streams.NewShard(generation, s.shard.Index)
		end := streams.NewShard(generation+1, s.shard.Index).FirstSeq() - 1
		row, err := s.cfg.Store.Committed(ctx, older.Token)
		if err == nil && 0 < row && row < end {
			err = s.cfg.Store.Commit(ctx, store.Batch{Shard: older.Token, Committed: end})
		}
		if err != nil {
			s.storeFailed(err)
			return fmt.Errorf("end the row of shard %s: %w", older.Token, err)
		}
	}
	return nil
}

func (s *shard) countLost(from, to uint64) {
	s.metrics.lost.Add(float64(to - from))
	s.log.Error("events are lost: they expired or were purged before they were persisted", "from", from, "below", to, "count", to-from)
}

func (s *shard) reset(ctx context.Context, next uint64) error {
	if _, err := s.cfg.JetStream.ResetConsumerToSequence(ctx, s.shard.Stream(), streams.PersistConsumer, next); err != nil {
		return fmt.Errorf("reset consumer of %s to %d: %w", s.shard.Stream(), next, err)
	}
	return nil
}

// drop forgets what was known: the next message is a takeover, also where the pin stays.
func (s *shard) drop() {
	s.pin = ""
	s.metrics.lag.forget(s.shard.Token)
	s.metrics.pending.DeleteLabelValues(s.shard.Token)
}

// unpin gives up a pin that this process may still hold when it ends, so that
// another need not wait until it is over. Should the pin become another's between
// the look and the request, that one is unpinned for nothing: its next pull tells
// it so, and it takes over again.
func (s *shard) unpin(ctx context.Context) {
	if s.lastPin == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, unpinWithin)
	defer cancel()
	_, pin, err := s.pinned(ctx)
	if err == nil && pin == s.lastPin {
		var stream jetstream.Stream
		if stream, err = s.cfg.JetStream.Stream(ctx, s.shard.Stream()); err == nil {
			err = stream.UnpinConsumer(ctx, streams.PersistConsumer, s.group)
		}
	}
	if err != nil {
		s.log.Info("the shard is not given up: another owns it within "+streams.PinnedTTL.String(), "err", err)
	}
}

// unpinWithin bounds what an ending process waits for to give up one pin.
const unpinWithin = time.Second
