package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/schemas"
	"parley/streams"
)

const (
	tailChunkEvents = 500
	tailChunkBytes  = 1 << 20
	// replicaWait is between two reads where the answering replica lags.
	replicaWait = 50 * time.Millisecond
)

// walkTail visits the log's events of chat above seq, the stored head, with prev
// and n as persist will assign them, until the event last was passed, which the
// log's leader has. What persist will give up on is not visited. A log that does
// not show last yet is asked again until ctx ends.
func (s *Service) walkTail(ctx context.Context, chat schemas.Chat, seq, n, last uint64, visit func(schemas.StoredEvent, *schemas.Event)) error {
	at, walked := seq, 0
	defer func() { s.metrics.tail.Observe(float64(walked)) }()
	for at < last {
		events, more, err := s.cfg.Log.After(ctx, chat, at, tailChunkEvents, tailChunkBytes)
		if err != nil {
			return err
		}
		for _, ev := range events {
			if walked++; walked > s.cfg.TailEventsMax {
				return fmt.Errorf("%s after %d: %w", chat, seq, errTailTooLong)
			}
			at = ev.Seq
			decoded, err := schemas.DecodeEvent(ev.JSON)
			if err != nil || chat.Kind() == schemas.Direct && !chat.HasDirectMember(decoded.From) {
				continue
			}
			if decoded.Type == schemas.Message {
				n++
			}
			ev.Prev, ev.N = seq, n
			seq = ev.Seq
			visit(ev, decoded)
		}
		if more || at >= last {
			continue
		}
		if gone, err := s.isGone(ctx, chat, last); gone || err != nil {
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

// isGone tells whether the log's leader does not hold seq any more.
func (s *Service) isGone(ctx context.Context, chat schemas.Chat, seq uint64) (bool, error) {
	_, err := s.cfg.Log.Sequence(ctx, s.cfg.Log.Layout().Shard(chat), seq)
	if errors.Is(err, streams.ErrGone) {
		return true, nil
	}
	return false, err
}

// classify makes a refusal of what went wrong, and logs it: a query that fails
// is the store's or the log's fault, never the asker's.
func (s *Service) classify(q question, err error) (*schemas.Error, outcome) {
	s.log.Warn("history was not read", "chat", q.chat.String(), "err", err)
	if errors.Is(err, errTailTooLong) {
		return refusal(schemas.Overloaded, "the store is too far behind the log: try again later"), behind
	}
	return refusal(schemas.Unavailable, "the store or the log does not answer: try again"), unavailable
}
