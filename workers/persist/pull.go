package persist

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
)

// pinHeader names in each message the pin of the process it was given to.
const pinHeader = "Nats-Pin-Id"

func (s *shard) findConsumer(ctx context.Context) error {
	if s.consumer != nil {
		return nil
	}
	consumer, err := s.cfg.JetStream.Consumer(ctx, s.shard.Stream(), streams.PersistConsumer)
	if err != nil {
		return fmt.Errorf("look up consumer %s of %s: %w", streams.PersistConsumer, s.shard.Stream(), err)
	}
	cfg := consumer.CachedInfo().Config
	if cfg.PriorityPolicy != jetstream.PriorityPolicyPinned || len(cfg.PriorityGroups) == 0 {
		return fmt.Errorf("consumer %s of %s is not pinned: provision it", streams.PersistConsumer, s.shard.Stream())
	}
	s.consumer, s.group = consumer, cfg.PriorityGroups[0]
	return nil
}

// pullFirst waits for one message, at most PollWithin: short, since each pull
// keeps the pin alive. It returns nil where none came.
func (s *shard) pullFirst(ctx context.Context) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PollWithin)
	defer cancel()
	batch, err := s.consumer.Fetch(1, jetstream.FetchContext(ctx), jetstream.FetchPriorityGroup(s.group))
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", s.shard.Stream(), err)
	}
	for msg := range batch.Messages() {
		return msg, nil
	}
	return nil, s.pullError(batch.Error())
}

// pullError returns what of a pull's end is a fault. Losing the pin is none: the
// next message tells its owner by another pin.
func (s *shard) pullError(err error) error {
	switch {
	case err == nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrNoMessages):
		return nil
	case errors.Is(err, jetstream.ErrPinIDMismatch):
		s.drop()
		s.lastPin = ""
		return nil
	}
	return fmt.Errorf("pull from %s: %w", s.shard.Stream(), err)
}
