package persist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/store"
)

// pinHeader names in each message the pin of the process it was given to.
const pinHeader = "Nats-Pin-Id"

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

func newShard(p *Persister, s streams.Shard) *shard {
	return &shard{
		Persister: p,
		shard:     s,
		log:       p.log.With("shard", s.Token),
		heads:     newHeadCache(p.cfg.HeadsMax),

		batchEventsMax: p.cfg.BatchEventsMax,
	}
}

// shardLoop runs rounds until ctx ends. After an error it waits, longer each
// time, and begins like a new owner.
func (s *shard) shardLoop(ctx, work context.Context) {
	defer s.unpin(work)
	defer s.drop()
	wait := newBackOff(s.cfg.RetryMax)
	failing := false
	for ctx.Err() == nil {
		err := s.roundOnce(ctx, work)
		if err == nil {
			if failing {
				s.log.Info("persisting goes on")
			}
			failing = false
			wait.Reset()
			continue
		}
		s.drop()
		if ctx.Err() != nil {
			return
		}
		if !failing {
			s.log.Warn("persisting stops for now", "err", err)
		}
		failing = true
		select {
		case <-time.After(wait.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

func newBackOff(longest time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = min(50*time.Millisecond, longest)
	b.MaxInterval = longest
	return b
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

func (s *shard) findConsumer(ctx context.Context) error {
	if s.consumer != nil {
		return nil
	}
	consumer, err := s.cfg.JetStream.Consumer(ctx, s.shard.Stream(), streams.PersistConsumer)
	if err != nil {
		return fmt.Errorf("look up consumer %s of %s: %w", streams.PersistConsumer, s.shard.Stream(), err)
	}
	cfg := consumer.CachedInfo().Config
	if cfg.PriorityPolicy != jetstream.PriorityPolicyPinned || len(cfg.PriorityGroups) == 0 {
		return fmt.Errorf("consumer %s of %s is not pinned: provision it", streams.PersistConsumer, s.shard.Stream())
	}
	s.consumer, s.group = consumer, cfg.PriorityGroups[0]
	return nil
}

// claim is for who is no owner, or gave up as one after an error. Messages that
// were delivered and never committed would come again only after AckWait: until
// then no message tells who is pinned. So where this process still holds the pin
// it begins anew; and where nobody does, the consumer is set back to what the
// store has, so that the server has something to pin somebody for.
func (s *shard) claim(ctx context.Context) error {
	info, pinned, err := s.pinned(ctx)
	if err != nil {
		return err
	}
	if pinned != "" {
		if pinned != s.lastPin {
			return nil // another's
		}
		return s.takeOver(ctx, pinned)
	}
	row, next, err := s.position(ctx)
	if err != nil || info.Delivered.Stream < next {
		return err
	}
	s.log.Info("nobody owns the shard, and not all that was delivered is stored", "delivered", info.Delivered.Stream, "committed", row)
	return s.reset(ctx, next)
}

// pinned returns the consumer's state and the pin of who owns the shard, "" where nobody does.
func (s *shard) pinned(ctx context.Context) (info *jetstream.ConsumerInfo, pin string, err error) {
	info, err = s.consumer.Info(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read state of consumer %s of %s: %w", streams.PersistConsumer, s.shard.Stream(), err)
	}
	for _, group := range info.PriorityGroups {
		if group.Group == s.group {
			pin = group.PinnedClientID
		}
	}
	return info, pin, nil
}

// unpin gives up a pin that this process may still hold when it ends, so that
// another need not wait until it is over. Should the pin become another's between
// the look and the request, that one is unpinned for nothing: its next pull tells
// it so, and it takes over again.
func (s *shard) unpin(ctx context.Context) {
	if s.lastPin == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, unpinWithin)
	defer cancel()
	_, pin, err := s.pinned(ctx)
	if err == nil && pin == s.lastPin {
		var stream jetstream.Stream
		if stream, err = s.cfg.JetStream.Stream(ctx, s.shard.Stream()); err == nil {
			err = stream.UnpinConsumer(ctx, streams.PersistConsumer, s.group)
		}
	}
	if err != nil {
		s.log.Info("the shard is not given up: another owns it within "+streams.PinnedTTL.String(), "err", err)
	}
}

// unpinWithin bounds what an ending process waits for to give up one pin.
const unpinWithin = time.Second

// position returns the shard's row in the store, and the sequence that is to be
// committed next: that after it, or the log's first where that is higher.
func (s *shard) position(ctx context.Context) (row, next uint64, err error) {
	row, err = s.cfg.Store.Committed(ctx, s.shard.Token)
	if err != nil {
		s.storeFailed(err)
		return 0, 0, fmt.Errorf("read row of shard %s: %w", s.shard.Token, err)
	}
	first, last, err := s.cfg.Log.Bounds(ctx, s.shard)
	if err != nil {
		return 0, 0, err
	}
	if row > last {
		return 0, 0, fmt.Errorf("store has shard %s up to %d and the log ends at %d: %w", s.shard.Token, row, last, streams.ErrLost)
	}
	return row, max(row+1, s.shard.FirstSeq(), first), nil
}

func (s *shard) reset(ctx context.Context, next uint64) error {
	if _, err := s.cfg.JetStream.ResetConsumerToSequence(ctx, s.shard.Stream(), streams.PersistConsumer, next); err != nil {
		return fmt.Errorf("reset consumer of %s to %d: %w", s.shard.Stream(), next, err)
	}
	return nil
}

// takeOver begins a time of ownership where the store says that the shard is.
// The message that told of the pin is dropped: the reset brings it again.
func (s *shard) takeOver(ctx context.Context, pin string) error {
	if pin == "" {
		return fmt.Errorf("a message of %s came without a pin", s.shard.Stream())
	}
	row, next, err := s.position(ctx)
	if err != nil {
		return err
	}
	if err := s.fenceOlder(ctx); err != nil {
		return err
	}
	if err := s.reset(ctx, next); err != nil {
		return err
	}
	if begin := max(row+1, s.shard.FirstSeq()); begin < next {
		s.countLost(begin, next)
	}
	if row != s.row { // else nobody has committed since, and the same events fold to the same rows
		s.heads.clear()
	}
	s.pin, s.lastPin = pin, pin
	s.row, s.next = row, next
	s.metrics.takeovers.Inc()
	s.log.Info("owns the shard", "next", next, "pin", pin)
	return nil
}

// fenceOlder raises the rows of the shard's older generations to their end: an owner
// that still holds events of a lost stream finds that it was taken over, and does
// not number them beside those that the chats go on with.
func (s *shard) fenceOlder(ctx context.Context) error {
	for generation := streams.FirstGeneration; generation < s.shard.Generation; generation++ {
		older := streams.NewShard(generation, s.shard.Index)
		end := streams.NewShard(generation+1, s.shard.Index).FirstSeq() - 1
		row, err := s.cfg.Store.Committed(ctx, older.Token)
		if err == nil && 0 < row && row < end {
			err = s.cfg.Store.Commit(ctx, store.Batch{Shard: older.Token, Committed: end})
		}
		if err != nil {
			s.storeFailed(err)
			return fmt.Errorf("end the row of shard %s: %w", older.Token, err)
		}
	}
	return nil
}

func (s *shard) countLost(from, to uint64) {
	s.metrics.lost.Add(float64(to - from))
	s.log.Error("events are lost: they expired or were purged before they were persisted", "from", from, "below", to, "count", to-from)
}

// ack acknowledges all up to msg, which was committed. The store has it; an ack
// that does not come through costs a redelivery.
func (s *shard) ack(ctx context.Context, msg jetstream.Msg) error {
	if msg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ackWithin)
	defer cancel()
	if err := msg.DoubleAck(ctx); err != nil {
		return fmt.Errorf("acknowledge up to %d in %s: %w", s.next-1, s.shard.Stream(), err)
	}
	return nil
}

// ackWithin is below PinnedTTL, so that a lost answer does not cost the pin.
const ackWithin = 2 * time.Second

// drop forgets what was known: the next message is a takeover, also where the pin stays.
func (s *shard) drop() {
	s.pin = ""
	s.metrics.lag.forget(s.shard.Token)
	s.metrics.pending.DeleteLabelValues(s.shard.Token)
}

// atRest is for an owner to whom nothing came. What was delivered all the same
// was lost on its way, with nothing behind it to show the hole, and the server
// would bring it again only after AckWait: it is read from the log. No pull is
// open here, so that nothing is on its way now.
func (s *shard) atRest(ctx, work context.Context) error {
	info, err := s.consumer.Info(work)
	if err != nil {
		return fmt.Errorf("read state of consumer %s of %s: %w", streams.PersistConsumer, s.shard.Stream(), err)
	}
	if info.Delivered.Stream >= s.next {
		return s.unlessTakenOver(s.readLost(ctx, work, info.Delivered.Stream))
	}
	s.metrics.lag.set(s.shard.Token, time.Time{})
	s.metrics.pending.WithLabelValues(s.shard.Token).Set(float64(info.NumPending))
	return nil
}

// readLost commits what was delivered up to a sequence and did not come. There is
// no message to acknowledge it by: the reset does.
func (s *shard) readLost(ctx, work context.Context, delivered uint64) error {
	s.log.Info("what was delivered did not come: it is read from the log", "from", s.next, "delivered", delivered)
	p := prefix{upto: s.next - 1}
	s.fillBelow(work, &p, delivered+1)
	if err := s.commit(ctx, work, p.events, p.upto); err != nil {
		return err
	}
	if err := s.reset(work, s.next); err != nil {
		return err
	}
	return p.cut
}
