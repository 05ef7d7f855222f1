package persist

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/worker"
)

// errTakenOver says that the shard's row is not what this process last knew:
// another owner has committed, or an own commit whose outcome was unknown.
var errTakenOver = errors.New("the shard was committed by another owner")

// shard is one shard's way into the store. shardLoop owns all of it.
type shard struct {
	// fixed
	*Persister

	// of the shard's generation
	shard streams.Shard
	log   *slog.Logger
	loop  worker.Loop

	// found at its first round
	consumer jetstream.Consumer
	group    string // the consumer's priority group

	// what is known since the last takeover
	pin   string    // "" while this is no owner: the next message is a takeover
	row   uint64    // the shard's row in the store
	next  uint64    // the lowest sequence not committed; all below are, or are gone
	heads headCache // as of row

	batchEventsMax int // of the next batch: see paceBatches

	lastPin string // the last that this process had; the server may still hold it
}

func newShard(p *Persister, of streams.Shard) *shard {
	log := p.log.With("shard", of.Token)
	return &shard{
		Persister: p,
		shard:     of,
		log:       log,
		loop:      worker.Loop{Log: log, RetryMax: p.cfg.RetryMax, Stopped: "persisting stops for now", Resumed: "persisting goes on"},
		heads:     newHeadCache(p.cfg.HeadsMax),

		batchEventsMax: p.cfg.BatchEventsMax,
	}
}

// shardLoop runs rounds until ctx ends. After an error the shard begins like a new owner.
func (s *shard) shardLoop(ctx, work context.Context) {
	defer s.unpin(work)
	defer s.drop()
	s.loop.Run(ctx, func() error {
		err := s.roundOnce(ctx, work)
		if err != nil {
			s.drop()
		}
		return err
	})
}

// roundOnce waits for a message, collects what comes with it, and commits.
func (s *shard) roundOnce(ctx, work context.Context) error {
	s.follow()
	if err := s.findConsumer(ctx); err != nil {
		return err
	}
	if s.pin == "" {
		if err := s.claim(work); err != nil {
			return err
		}
	}
	first, err := s.pullFirst(ctx)
	if err != nil {
		return err
	}
	if first == nil {
		if s.pin == "" {
			return nil
		}
		return s.atRest(ctx, work)
	}
	if pin := first.Headers().Get(pinHeader); s.pin == "" || pin != s.pin {
		return s.takeOver(work, pin)
	}
	delivered, err := s.collect(first)
	if err != nil {
		return err
	}
	return s.unlessTakenOver(s.persist(ctx, work, delivered))
}

// follow goes over to the stream that serves the shard now. What the lost one had
// is stored or lost; the chats go on from their heads.
func (s *shard) follow() {
	now := s.cfg.Log.Layout().At(s.shard.Index)
	if now == s.shard {
		return
	}
	s.log.Warn("the shard's stream was lost: persisting goes over to the one that was made anew", "stream", now.Stream())
	s.drop()
	s.lastPin, s.consumer = "", nil
	s.shard, s.log = now, s.Persister.log.With("shard", now.Token)
	s.loop.Log = s.log
}

// persist commits what of delivered is dense, and acknowledges that and no more.
func (s *shard) persist(ctx, work context.Context, delivered []entry) error {
	prefix := s.densePrefix(work, delivered)
	if err := s.commit(ctx, work, prefix.events, prefix.upto); err != nil {
		return err
	}
	if err := s.ack(work, prefix.ack); err != nil {
		return err
	}
	s.metrics.lag.set(s.shard.Token, time.Time{}) // the next round tells of what waits
	return prefix.cut
}

// unlessTakenOver makes of errTakenOver that this is no owner any more, which is no fault.
func (s *shard) unlessTakenOver(err error) error {
	if !errors.Is(err, errTakenOver) {
		return err
	}
	s.log.Info("another owner went on with the shard", "committed", s.row)
	s.drop()
	return nil
}
