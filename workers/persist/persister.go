// Package persist moves the chats' logs into the permanent store.
//
// Each shard has one durable pull consumer, and of all processes that pull from
// it one at a time is given messages: the pinned one. A pin fences pulls and not
// acks: an owner that was paused can still acknowledge what another has been
// given since. So the truth about how far a shard is stored is the store's table
// shards. Who becomes pinned reads it and resets the consumer to the sequence
// after; before each commit the row is compared with what this process believes;
// and nothing beyond the dense prefix that was committed is ever acknowledged.
//
// The files follow a batch, and so does the reader: shard.go has a shard's round,
// ownership.go the takeover, pull.go the first message and collect.go the others,
// dense.go what may be committed, fold.go and package fold its rows, commit.go the
// commit, ack.go the acknowledgement. rest.go is the round in which nothing came.
package persist

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"parley/workers/worker"
)

// Persister persists all shards of a layout.
type Persister struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	// storeDown is shared by the shards, so that a store that fails is logged once.
	storeDown atomic.Bool
}

// New returns a Persister; [Persister.Run] starts it.
func New(cfg Config) (*Persister, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	return &Persister{cfg: cfg, log: cfg.Logger.With("component", "persist"), metrics: m}, nil
}

// Run persists until ctx ends: then it commits what it holds, within
// Config.StopWithin, acknowledges it and returns nil. It may be called again after.
func (p *Persister) Run(ctx context.Context) error {
	// Intake ends with ctx; work on what was taken in has StopWithin more.
	work, endWork := worker.Linger(ctx, p.cfg.StopWithin)
	defer endWork()

	var shards sync.WaitGroup
	for _, shard := range p.cfg.Log.Layout().All() {
		shards.Go(func() { newShard(p, shard).shardLoop(ctx, work) })
	}
	shards.Wait()
	return nil
}

// storeFailed and storeWorked keep the metric, and log the first failure and the recovery.
func (p *Persister) storeFailed(err error) {
	if p.storeDown.CompareAndSwap(false, true) {
		p.metrics.storeUp.Set(0)
		p.log.Error("store does not serve: persisting waits, the log keeps the events", "err", err)
	}
}

func (p *Persister) storeWorked() {
	if p.storeDown.Load() && p.storeDown.CompareAndSwap(true, false) {
		p.metrics.storeUp.Set(1)
		p.log.Info("store serves again")
	}
}
