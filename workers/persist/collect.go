package persist

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/workers/persist/fold"
)

// entry is one message of the shard's stream.
type entry struct {
	fold.Entry
	msg jetstream.Msg // nil where it was read from the log
}

// collect takes what comes after first until the batch is full or its window is
// over: until the oldest event is WindowMax old, but WindowMin at least. A shard
// that lags has full batches at once. This pull runs to its end even where Run is
// to stop: a pull that is given up can swallow a message on its way.
func (s *shard) collect(first jetstream.Msg) ([]entry, error) {
	meta, err := first.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata of a message of %s: %w", s.shard.Stream(), err)
	}
	s.metrics.lag.set(s.shard.Token, meta.Timestamp)
	entries := append(make([]entry, 0, 64), newEntry(first, meta))
	window := min(max(s.cfg.WindowMax-time.Since(meta.Timestamp), s.cfg.WindowMin), s.cfg.WindowMax)
	batch, err := s.consumer.Fetch(s.batchEventsMax-1, jetstream.FetchMaxWait(window), jetstream.FetchPriorityGroup(s.group))
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", s.shard.Stream(), err)
	}
	for msg := range batch.Messages() {
		if meta, err = msg.Metadata(); err != nil {
			return nil, fmt.Errorf("read metadata of a message of %s: %w", s.shard.Stream(), err)
		}
		entries = append(entries, newEntry(msg, meta))
	}
	s.metrics.pending.WithLabelValues(s.shard.Token).Set(float64(meta.NumPending))
	return entries, s.pullError(batch.Error())
}

func newEntry(msg jetstream.Msg, meta *jetstream.MsgMetadata) entry {
	e := fold.Entry{Seq: meta.Sequence.Stream, Subject: msg.Subject(), Time: meta.Timestamp, Data: msg.Data()}
	return entry{Entry: e, msg: msg}
}
