package streams

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// followEvery is how often a running process looks for a layout that was made
// anew; until it has found it, what it publishes to a lost stream is not stored.
const followEvery = 5 * time.Second

// ErrLayoutWentBack says that a chat stream of a newer generation is gone while
// an older one of its shard is there: its sequences would go back.
var ErrLayoutWentBack = errors.New("an older generation of a shard is all that is left")

// FollowLoop keeps the layout by which l reads, and its process publishes, as
// what is provisioned says it is, until ctx ends. It logs what keeps it from that once.
func (l *Log) FollowLoop(ctx context.Context, log *slog.Logger) {
	told := ""
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := l.FollowOnce(ctx)
		switch {
		case err != nil && ctx.Err() == nil && err.Error() != told:
			told = err.Error()
			log.Error("layout of the log is not followed", "err", err)
		case err == nil:
			told = ""
		}
		for _, shard := range changed {
			log.Warn("the shard's stream was lost and is made anew", "shard", shard.Token, "stream", shard.Stream())
		}
	}
}

// FollowOnce takes up the layout that is provisioned, and returns the shards that
// are of another generation in it. Where it is not whole, has another number of
// shards, or went back, the layout stays as it was.
func (l *Log) FollowOnce(ctx context.Context) (changed []Shard, err error) {
	layout, err := LoadLayout(ctx, l.js)
	if err != nil {
		return nil, err
	}
	before := l.Layout() // its replicas may change, and are taken up with the rest
	if layout.Shards() != before.Shards() {
		return nil, fmt.Errorf("%d shards are provisioned, this process was started with %d: start it again", layout.Shards(), before.Shards())
	}
	for i, shard := range layout.shards {
		switch had := before.At(i); {
		case shard.Generation < had.Generation:
			return nil, fmt.Errorf("stream %s is gone and %s is there: %w: run `parley migrate`", had.Stream(), shard.Stream(), ErrLayoutWentBack)
		case shard != had:
			changed = append(changed, shard)
		}
	}
	l.layout.Store(&layout)
	return changed, nil
}
