package edge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

const (
	watchLogEvery  = 5 * time.Second
	watchLogWithin = 4 * time.Second
	// lagAlarm is the persist lag from which the edge complains in its log.
	lagAlarm = time.Hour
)

// shardState is what an edge last saw of a shard's stream.
type shardState struct {
	shard  streams.Shard
	first  uint64 // lowest sequence that the log still holds
	behind bool   // the oldest unpersisted event is near the log's age limit
}

// logWatch knows how far back each chat stream reaches, and how far behind it
// persist is.
type logWatch struct {
	*base
	js     jetstream.JetStream
	shards []atomic.Pointer[shardState] // by index
}

// open gives the watch its connection; nothing may use the watch before.
func (lw *logWatch) open(js jetstream.JetStream, shards int) {
	lw.js, lw.shards = js, make([]atomic.Pointer[shardState], shards)
}

// watchLoop looks at the chat streams now and then. The log forgets by age,
// whether or not its events were persisted: so before it would forget what was
// not, edges refuse sends.
func (lw *logWatch) watchLoop(ctx context.Context) {
	for sleep(ctx, watchLogEvery) {
		lw.watchOnce(ctx)
	}
}

// watchOnce looks at each chat stream once.
func (lw *logWatch) watchOnce(ctx context.Context) {
	for _, shard := range lw.logReader.Layout().All() {
		if err := lw.watchShard(ctx, shard); err != nil && ctx.Err() == nil {
			lw.log.Warn("watch log", "stream", shard.Stream(), "error", err)
		}
	}
}

// watchShard looks at a shard's stream. Where the lag of persist cannot be
// read, what was seen of it before stands.
func (lw *logWatch) watchShard(ctx context.Context, shard streams.Shard) error {
	ctx, cancel := context.WithTimeout(ctx, watchLogWithin)
	defer cancel()
	stream, err := lw.js.Stream(ctx, shard.Stream())
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	info := stream.CachedInfo()
	state := shardState{shard: shard, first: info.State.FirstSeq}
	if before := lw.shards[shard.Index].Load(); before != nil && before.shard != shard {
		lw.metrics.persistLag.DeleteLabelValues(before.shard.Token)
	} else if before != nil {
		state.behind = before.behind
	}
	lag, err := lw.persistLag(ctx, shard, info.State.FirstSeq, info.State.LastSeq)
	if err == nil {
		lw.metrics.persistLag.WithLabelValues(shard.Token).Set(lag.Seconds())
		if lag > lagAlarm {
			lw.log.Error("persist is far behind the log", "stream", shard.Stream(), "lag", lag.Round(time.Second))
		}
		state.behind = info.Config.MaxAge > 0 && lag > info.Config.MaxAge*5/7
	}
	lw.shards[shard.Index].Store(&state)
	return err
}

// persistLag is the age of a shard's oldest event that persist has not acknowledged.
func (lw *logWatch) persistLag(ctx context.Context, shard streams.Shard, first, last uint64) (time.Duration, error) {
	consumer, err := lw.js.Consumer(ctx, shard.Stream(), streams.PersistConsumer)
	if err != nil {
		return 0, fmt.Errorf("read consumer %s: %w", streams.PersistConsumer, err)
	}
	next := max(consumer.CachedInfo().AckFloor.Stream+1, first)
	if next > last {
		return 0, nil
	}
	msg, err := lw.logReader.Sequence(ctx, shard, next)
	switch {
	case errors.Is(err, streams.ErrGone): // deleted or just expired: a later look finds another
		return 0, nil
	case err != nil:
		return 0, err
	}
	return max(lw.now().Sub(msg.Time), 0), nil
}

// state is what was seen last of shard, nil where that was nothing yet.
func (lw *logWatch) state(shard streams.Shard) *shardState {
	state := lw.shards[shard.Index].Load()
	if state == nil || state.shard != shard {
		return nil
	}
	return state
}

// reaches tells whether the log still holds everything of a chat after a seq.
func (lw *logWatch) reaches(chat schemas.Chat, after uint64) bool {
	_, ok := lw.from(chat, after)
	return ok
}

// from returns the first sequence after a seq from which the log holds
// everything of a chat; ok is false where something lies before it. A stream that
// is not its shard's first does not tell what was in those before.
func (lw *logWatch) from(chat schemas.Chat, after uint64) (from uint64, ok bool) {
	shard := lw.logReader.Layout().Shard(chat)
	state := lw.state(shard)
	if state == nil {
		return 0, false
	}
	whole := state.first <= shard.FirstSeq() && shard.Generation == streams.FirstGeneration
	return max(after+1, state.first), whole || state.first <= after+1
}

// covers tells whether a chat's events after a seq, up to last, are to be
// read from the log: it holds them all, within at most [logReach] sequences.
func (lw *logWatch) covers(chat schemas.Chat, after, last uint64) bool {
	from, ok := lw.from(chat, after)
	return ok && (last <= from || last-from <= logReach)
}
