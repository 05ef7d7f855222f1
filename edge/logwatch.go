package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// watchLogLoop looks at the chat streams now and then. The log forgets by age,
// whether or not its events were persisted: so before it would forget what was
// not, edges refuse sends.
func (e *Edge) watchLogLoop(ctx context.Context) {
	for sleep(ctx, watchLogEvery) {
		e.watchLogs(ctx)
	}
}

// watchLogs looks at each chat stream once.
func (e *Edge) watchLogs(ctx context.Context) {
	for _, shard := range e.logReader.Layout().All() {
		if err := e.watchLogOnce(ctx, shard); err != nil && ctx.Err() == nil {
			e.log.Warn("watch log", "stream", shard.Stream(), "error", err)
		}
	}
}

// watchLogOnce looks at a shard's stream. Where the lag of persist cannot be
// read, what was seen of it before stands.
func (e *Edge) watchLogOnce(ctx context.Context, shard streams.Shard) error {
	ctx, cancel := context.WithTimeout(ctx, watchLogWithin)
	defer cancel()
	stream, err := e.js.Stream(ctx, shard.Stream())
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	info := stream.CachedInfo()
	state := shardState{shard: shard, first: info.State.FirstSeq}
	if before := e.shards[shard.Index].Load(); before != nil && before.shard != shard {
		e.metrics.persistLag.DeleteLabelValues(before.shard.Token)
	} else if before != nil {
		state.behind = before.behind
	}
	lag, err := e.persistLag(ctx, shard, info.State.FirstSeq, info.State.LastSeq)
	if err == nil {
		e.metrics.persistLag.WithLabelValues(shard.Token).Set(lag.Seconds())
		if lag > lagAlarm {
			e.log.Error("persist is far behind the log", "stream", shard.Stream(), "lag", lag.Round(time.Second))
		}
		state.behind = info.Config.MaxAge > 0 && lag > info.Config.MaxAge*5/7
	}
	e.shards[shard.Index].Store(&state)
	return err
}

// persistLag is the age of a shard's oldest event that persist has not acknowledged.
func (e *Edge) persistLag(ctx context.Context, shard streams.Shard, first, last uint64) (time.Duration, error) {
	consumer, err := e.js.Consumer(ctx, shard.Stream(), streams.PersistConsumer)
	if err != nil {
		return 0, fmt.Errorf("read consumer %s: %w", streams.PersistConsumer, err)
	}
	next := max(consumer.CachedInfo().AckFloor.Stream+1, first)
	if next > last {
		return 0, nil
	}
	msg, err := e.logReader.Sequence(ctx, shard, next)
	switch {
	case errors.Is(err, streams.ErrGone): // deleted or just expired: a later look finds another
		return 0, nil
	case err != nil:
		return 0, err
	}
	return max(e.now().Sub(msg.Time), 0), nil
}

// shardState is what was seen last of shard, nil where that was nothing yet.
func (e *Edge) shardState(shard streams.Shard) *shardState {
	state := e.shards[shard.Index].Load()
	if state == nil || state.shard != shard {
		return nil
	}
	return state
}

// logReaches tells whether the log still holds everything of a chat after a seq.
func (e *Edge) logReaches(chat schemas.Chat, after uint64) bool {
	_, ok := e.logFrom(chat, after)
	return ok
}

// logFrom returns the first sequence after a seq from which the log holds
// everything of a chat; ok is false where something lies before it. A stream that
// is not its shard's first does not tell what was in those before.
func (e *Edge) logFrom(chat schemas.Chat, after uint64) (from uint64, ok bool) {
	shard := e.logReader.Layout().Shard(chat)
	state := e.shardState(shard)
	if state == nil {
		return 0, false
	}
	whole := state.first <= shard.FirstSeq() && shard.Generation == streams.FirstGeneration
	return max(after+1, state.first), whole || state.first <= after+1
}

// logCovers tells whether a chat's events after a seq, up to last, are to be
// read from the log: it holds them all, within at most [logReach] sequences.
func (e *Edge) logCovers(chat schemas.Chat, after, last uint64) bool {
	from, ok := e.logFrom(chat, after)
	return ok && (last <= from || last-from <= logReach)
}
