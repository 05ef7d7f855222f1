package edge

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
)

// base is what the parts of an edge share. Each part embeds it, and declares beside
// it the few other parts that it calls.
type base struct {
	// Fixed by New.
	name      schemas.ID // of this edge among the edges
	log       *slog.Logger
	now       func() time.Time
	metrics   *metrics
	conn      *nats.Conn
	logReader *streams.Log
	flusher   *flusher
	rates     *rates

	// Shared.
	draining      atomic.Bool
	natsAwaySince atomic.Int64 // unix nanoseconds; 0 while NATS is there

	ctx   context.Context    // ends when the last session is gone
	stop  context.CancelFunc // ends ctx
	conns sync.WaitGroup     // goroutines of connections
	tasks sync.WaitGroup     // goroutines that connections and live loops start
}

func newBase(cfg *Config) *base {
	b := &base{
		name: cfg.Node, log: cfg.Log, now: cfg.Now,
		metrics: newMetrics(cfg.Metrics),
		rates:   newRates(cfg.UserRate, cfg.UserBurst),
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// subscribe has NATS deliver what matches pattern to a live loop's channel.
func (b *base) subscribe(pattern string, channel chan *nats.Msg) (*nats.Subscription, error) {
	sub, err := b.conn.ChanSubscribe(pattern, channel)
	if err != nil {
		return nil, fmt.Errorf("subscribe %q: %w", pattern, err)
	}
	return sub, nil
}
