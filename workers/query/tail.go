package query

import (
	"context"
	"errors"
	"fmt"

	"parley/schemas"
	"parley/streams"
)

// walkTail visits the log's events of chat above seq, the stored head, with prev
// and n as persist will assign them, until the event last was passed, which the
// log's leader has. What persist will give up on is not visited. A log that does
// not show last yet is asked again until ctx ends.
func (s *Service) walkTail(ctx context.Context, chat schemas.Chat, seq, n, last uint64, visit func(schemas.StoredEvent, *schemas.Event)) error {
	walked := 0
	defer func() { s.metrics.tail.Observe(float64(walked)) }()
	return streams.Walk(ctx, s.cfg.Log, chat, seq, last, func(ev *schemas.StoredEvent) error {
		if walked++; walked > s.cfg.TailEventsMax {
			return fmt.Errorf("%s up to %d: %w", chat, last, errTailTooLong)
		}
		decoded, err := schemas.DecodeEvent(ev.JSON)
		if err != nil || chat.Kind() == schemas.Direct && !chat.HasDirectMember(decoded.From) {
			return nil
		}
		if decoded.Type == schemas.Message {
			n++
		}
		ev.Prev, ev.N = seq, n
		seq = ev.Seq
		visit(*ev, decoded)
		return nil
	})
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
