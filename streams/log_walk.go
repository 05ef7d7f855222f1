package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
)

const (
	walkChunkEvents = 1000
	walkChunkBytes  = 1 << 20
	// replicaWait is between two reads where the answering replica lags.
	replicaWait = 50 * time.Millisecond
)

// WalkedLog is what [Walk] reads: a [Log].
type WalkedLog interface {
	Layout() Layout
	After(ctx context.Context, chat schemas.Chat, after uint64, limit, bytesMax int) (events []schemas.StoredEvent, more bool, err error)
	Sequence(ctx context.Context, shard Shard, seq uint64) (*jetstream.RawStreamMsg, error)
}

var _ WalkedLog = (*Log)(nil)

// Walk visits a chat's events above the seq after, rising, until last was passed: a
// seq that the log's leader is known to have had. A replica that does not show it yet
// is asked again until ctx ends; where last has disappeared, the walk ends with what
// is left. Events above last may be visited too. An error of visit ends it.
func Walk(ctx context.Context, log WalkedLog, chat schemas.Chat, after, last uint64, visit func(*schemas.StoredEvent) error) error {
	for after < last {
		events, more, err := log.After(ctx, chat, after, walkChunkEvents, walkChunkBytes)
		if err != nil {
			return err
		}
		for i := range events {
			after = events[i].Seq
			if err := visit(&events[i]); err != nil {
				return err
			}
		}
		if more || after >= last {
			continue
		}
		_, err = log.Sequence(ctx, log.Layout().Shard(chat), last)
		if errors.Is(err, ErrGone) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(replicaWait):
		case <-ctx.Done():
			return fmt.Errorf("read %s up to %d: the log's replica lags: %w", chat, last, ctx.Err())
		}
	}
	return nil
}
