package persist

import (
	"context"

	"parley/workers/persist/fold"
	"parley/workers/store"
)

// fold returns the batch that commits events up to a sequence. It reads the chats' heads
// that are not in memory, and the messages that events change.
func (s *shard) fold(ctx context.Context, events []fold.Event, upto uint64) (store.Batch, error) {
	if err := s.heads.load(ctx, s.cfg.Store, events); err != nil {
		return store.Batch{}, err
	}
	targets, err := fold.LoadTargets(ctx, s.cfg.Store, s.heads.get, events)
	if err != nil {
		return store.Batch{}, err
	}
	return fold.Batch(s.shard.Token, s.heads.get, targets, events, upto), nil
}
