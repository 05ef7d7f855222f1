package persist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/dead"
	"parley/workers/persist/fold"
)

// holesMax bounds the sequences that one round reads one by one from the log;
// past it the round commits what it has and the consumer is reset to what follows.
const holesMax = 1000

// prefix is what may be committed: every sequence from the shard's next up to
// upto is in events, is gone from the log, or is in DEAD.
type prefix struct {
	events []fold.Event
	upto   uint64
	ack    jetstream.Msg // the highest delivered message that is not above upto
	holes  int           // sequences that did not come
	cut    error         // why it ends before all that was delivered; nil where it does not
}

// densePrefix returns what of delivered may be committed. A hole before a
// message is read from the log; what is below the shard's next was committed.
func (s *shard) densePrefix(ctx context.Context, delivered []entry) prefix {
	slices.SortFunc(delivered, func(a, b entry) int { return cmp.Compare(a.Seq, b.Seq) })
	p := prefix{upto: s.next - 1, events: make([]fold.Event, 0, len(delivered))}
	for _, e := range delivered {
		s.fillBelow(ctx, &p, e.Seq)
		if p.cut == nil && e.Seq > p.upto {
			p.cut = s.take(ctx, &p, e.Entry)
		}
		if p.cut != nil {
			return p
		}
		p.ack = e.msg
	}
	return p
}

// fillBelow moves p on to the sequence before end, or cuts it where that cannot be.
func (s *shard) fillBelow(ctx context.Context, p *prefix, end uint64) {
	if p.upto+1 < end && p.holes == 0 {
		// Often another owner has acknowledged what is missing: then it has committed it.
		p.cut = s.compareRow(ctx)
	}
	for p.cut == nil && p.upto+1 < end {
		if p.holes++; p.holes > holesMax {
			p.cut = fmt.Errorf("hole in front of %d in %s is longer than %d", end, s.shard.Stream(), holesMax)
			return
		}
		p.cut = s.fillHole(ctx, p, end)
	}
}

// fillHole moves p on by the sequence after upto, which the consumer skipped, or
// to the log's first sequence where that is higher. It stays below end.
func (s *shard) fillHole(ctx context.Context, p *prefix, end uint64) error {
	seq := p.upto + 1
	raw, err := s.cfg.Log.Sequence(ctx, s.shard, seq)
	if err == nil {
		s.metrics.holes.Inc()
		return s.take(ctx, p, fold.Entry{Seq: raw.Sequence, Subject: raw.Subject, Time: raw.Time, Data: raw.Data})
	}
	if !errors.Is(err, streams.ErrGone) {
		return err
	}
	first, _, err := s.cfg.Log.Bounds(ctx, s.shard)
	if err != nil {
		return err
	}
	if first > seq {
		p.upto = min(first, end) - 1
		s.countLost(seq, p.upto+1)
		return nil
	}
	s.metrics.gone.Inc()
	s.log.Warn("sequence is gone from the log: skipped", "seq", seq)
	p.upto = seq
	return nil
}

// take adds e to p. What is no event of the shard goes to DEAD first; where that
// cannot be written, p ends before it.
func (s *shard) take(ctx context.Context, p *prefix, e fold.Entry) error {
	ev, err := fold.Decode(s.cfg.Log.Layout(), s.shard, e)
	if err != nil {
		if err := s.bury(ctx, e, err); err != nil {
			return err
		}
	} else {
		p.events = append(p.events, ev)
	}
	p.upto = e.Seq
	return nil
}

// bury writes e to DEAD, for reason.
func (s *shard) bury(ctx context.Context, e fold.Entry, reason error) error {
	err := dead.Bury(ctx, s.cfg.JetStream, e.Letter(s.shard, reason))
	if err != nil {
		return err
	}
	s.metrics.deadLetters.Inc()
	s.log.Error("event given up: it is in the stream DEAD", "seq", e.Seq, "subject", e.Subject, "reason", reason)
	return nil
}
