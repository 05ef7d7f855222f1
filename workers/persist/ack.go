package persist

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ack acknowledges all up to msg, which was committed. The store has it; an ack
// that does not come through costs a redelivery.
func (s *shard) ack(ctx context.Context, msg jetstream.Msg) error {
	if msg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ackWithin)
	defer cancel()
	if err := msg.DoubleAck(ctx); err != nil {
		return fmt.Errorf("acknowledge up to %d in %s: %w", s.next-1, s.shard.Stream(), err)
	}
	return nil
}

// ackWithin is below PinnedTTL, so that a lost answer does not cost the pin.
const ackWithin = 2 * time.Second
