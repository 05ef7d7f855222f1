package persist

import (
	"context"
	"fmt"
	"time"

	"parley/streams"
)

// atRest is for an owner to whom nothing came. What was delivered all the same
// was lost on its way, with nothing behind it to show the hole, and the server
// would bring it again only after AckWait: it is read from the log. No pull is
// open here, so that nothing is on its way now.
func (s *shard) atRest(ctx, work context.Context) error {
	info, err := s.consumer.Info(work)
	if err != nil {
		return fmt.Errorf("read state of consumer %s of %s: %w", streams.PersistConsumer, s.shard.Stream(), err)
	}
	if info.Delivered.Stream >= s.next {
		return s.unlessTakenOver(s.readLost(ctx, work, info.Delivered.Stream))
	}
	s.metrics.lag.set(s.shard.Token, time.Time{})
	s.metrics.pending.WithLabelValues(s.shard.Token).Set(float64(info.NumPending))
	return nil
}

// readLost commits what was delivered up to a sequence and did not come. There is
// no message to acknowledge it by: the reset does.
func (s *shard) readLost(ctx, work context.Context, delivered uint64) error {
	s.log.Info("what was delivered did not come: it is read from the log", "from", s.next, "delivered", delivered)
	p := prefix{upto: s.next - 1}
	s.fillBelow(work, &p, delivered+1)
	if err := s.commit(ctx, work, p.events, p.upto); err != nil {
		return err
	}
	if err := s.reset(work, s.next); err != nil {
		return err
	}
	return p.cut
}
