package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Span returns what a shard's log holds at the sequences from up to to, rising:
// at most limit messages, and at most bytesMax bytes of them and one message more.
// upto is how far they go, at most to: there is nothing else in the log between
// from and upto. What expires meanwhile may be among them or not.
func (l *Log) Span(ctx context.Context, shard Shard, from, to uint64, limit, bytesMax int) (msgs []*jetstream.RawStreamMsg, upto uint64, err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	batch, ended, err := l.batch(ctx, shard, from, limit, bytesMax)
	if err != nil {
		return nil, 0, fmt.Errorf("read log of shard %s from %d: %w", shard.Token, from, err)
	}
	s := span{log: l, shard: shard, limit: limit, next: from}
	for _, msg := range batch {
		if ended = msg.Sequence > to; ended {
			break
		}
		if whole, err := s.fill(ctx, msg.Sequence-1); err != nil || !whole || len(s.msgs) >= limit {
			return s.msgs, s.next - 1, err
		}
		s.add(msg)
		if ended = msg.Header.Get(numPendingHeader) == "0"; s.next > to {
			break
		}
	}
	if ended {
		if _, err := s.fill(ctx, to); err != nil {
			return nil, 0, err
		}
	}
	return s.msgs, s.next - 1, nil
}

// span is what was read so far: all that the log holds below next.
type span struct {
	log   *Log
	shard Shard
	limit int
	msgs  []*jetstream.RawStreamMsg
	next  uint64
}

func (s *span) add(msg *jetstream.RawStreamMsg) {
	s.msgs = append(s.msgs, msg)
	s.next = msg.Sequence + 1
}

// fill reads from the leader what the replica that answered did not hold up to a
// sequence; that of the only replica is the leader's word already. It is not
// whole where there are limit messages before that.
func (s *span) fill(ctx context.Context, to uint64) (whole bool, err error) {
	for s.log.Replicated() && s.next <= to {
		if len(s.msgs) >= s.limit {
			return false, nil
		}
		msg, err := s.log.fromLeader(ctx, s.shard, msgGetRequest{Seq: s.next, NextFor: ">"})
		if errors.Is(err, ErrGone) || err == nil && msg.Sequence > to {
			break
		}
		if err != nil {
			return false, fmt.Errorf("read log of shard %s from %d: %w", s.shard.Token, s.next, err)
		}
		s.add(msg)
	}
	s.next = max(s.next, to+1)
	return true, nil
}

// errShortAnswer says that messages of an answer were lost on their way, or that
// it did not end in time.
var errShortAnswer = errors.New("the answer is not whole")

// batch returns the next messages from a sequence up, whatever their subject;
// ended tells that the answering replica holds no further ones. The library ends
// a batch that comes too slowly as if it were whole: each message tells which was
// before it and how many follow.
func (l *Log) batch(ctx context.Context, shard Shard, from uint64, limit, bytesMax int) (batch []*jetstream.RawStreamMsg, ended bool, err error) {
	msgs, err := jetstreamext.GetBatch(ctx, l.js, shard.Stream(), limit,
		jetstreamext.GetBatchSeq(max(from, 1)), jetstreamext.GetBatchMaxBytes(bytesMax))
	if err != nil {
		return nil, false, err
	}
	before := "0"
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		if msg.Header.Get(jetstream.LastSequenceHeader) != before {
			return nil, false, errShortAnswer
		}
		before = strconv.FormatUint(msg.Sequence, 10)
		batch = append(batch, msg)
	}
	if len(batch) == 0 {
		return nil, false, errShortAnswer
	}
	return batch, false, nil
}
