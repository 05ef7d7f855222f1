package presence

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

const (
	pullMessages  = 1024
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 3 * time.Second // without one for twice that, the watch begins anew
	checkEvery    = 500 * time.Millisecond
	watchAgainMax = 2 * time.Second
)

// watchLoop watches the bucket until ctx ends. What is known stays known while it
// cannot.
func (w *Worker) watchLoop(ctx context.Context) {
	w.loop.Run(ctx, func() error {
		err := w.watchOnce(ctx)
		if ctx.Err() == nil {
			w.graceUntil = time.Time{} // set when the watch is back
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				w.provision(ctx)
			}
		}
		return err
	})
}

// provision makes the bucket anew, which a NATS server has lost that came back.
func (w *Worker) provision(ctx context.Context) {
	if err := streams.ProvisionMemory(ctx, w.cfg.JetStream, w.cfg.Log.Layout()); err != nil {
		w.log.Warn("make the bucket anew", "err", err)
		return
	}
	w.log.Info("the bucket was lost and is made anew")
}

// watchOnce reads the bucket as it is, and follows it until something fails.
func (w *Worker) watchOnce(ctx context.Context) error {
	consumer, keys, err := w.bucket.Watch(ctx)
	if err != nil {
		return err
	}
	read, stop, err := follow(consumer)
	if err != nil {
		return err
	}
	defer stop()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	w.roster.reached(consumer.CachedInfo().TimeStamp)
	if err := w.compareBucket(ctx); err != nil {
		return err
	}
	caughtUp, taken := false, uint64(0)
	catchUp := func(isRead bool) {
		if isRead && !caughtUp {
			caughtUp = true
			w.begun()
		}
	}
	catchUp(keys == 0)
	for {
		select {
		case next := <-read:
			if next.err != nil {
				return fmt.Errorf("follow %s: %w", streams.PresenceStream, next.err)
			}
			taken++
			catchUp(w.take(next.msg) == 0)
		case <-check.C:
			catchUp(!caughtUp && w.isRead(ctx, consumer, taken))
			if caughtUp {
				w.lookForDue(ctx)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if caughtUp && len(read) == 0 {
			w.confirmEnded(ctx)
		}
	}
}

// followed is a message of the bucket, or the error that ends its stream.
type followed struct {
	msg jetstream.Msg
	err error
}

// follow returns the messages of a consumer, and last an error. stop ends them, and
// waits for their goroutine.
func follow(consumer jetstream.Consumer) (read <-chan followed, stop func(), err error) {
	msgs, err := consumer.Messages(jetstream.PullMaxMessages(pullMessages), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return nil, nil, fmt.Errorf("follow %s: %w", streams.PresenceStream, err)
	}
	all := make(chan followed, pullMessages)
	go func() {
		defer close(all)
		for {
			msg, err := msgs.Next()
			all <- followed{msg, err}
			if err != nil {
				return
			}
		}
	}()
	return all, func() {
		msgs.Stop()
		for range all { // until its goroutine has ended
		}
	}, nil
}

// compareBucket finds out whether the bucket is another than before: who makes the
// marks' stream anew makes the bucket too. Then edges have to write all of it again.
func (w *Worker) compareBucket(ctx context.Context) error {
	made, err := w.bucket.Made(ctx)
	if err != nil {
		return err
	}
	if !w.made.IsZero() && !made.Equal(w.made) {
		w.graceUntil = w.cfg.Now().Add(remadeGrace)
		w.announce()
	}
	w.made = made
	return nil
}

// isRead tells whether all was taken that the consumer has: the last of the keys may
// have ended before it was delivered.
func (w *Worker) isRead(ctx context.Context, consumer jetstream.Consumer, taken uint64) bool {
	info, err := consumer.Info(ctx)
	return err == nil && info.NumPending == 0 && info.Delivered.Consumer == taken
}

// begun follows when the bucket was read as it is: after an interruption, edges are
// given the time to write what has lapsed meanwhile.
func (w *Worker) begun() {
	w.loop.Recovered()
	select {
	case <-w.watching:
		if grace := w.cfg.Now().Add(w.cfg.Grace); grace.After(w.graceUntil) {
			w.graceUntil = grace
		}
	default:
		close(w.watching)
	}
}

// take applies one message of the bucket, and returns how many are left to read.
func (w *Worker) take(msg jetstream.Msg) (left uint64) {
	meta, err := msg.Metadata()
	if err != nil {
		w.log.Warn("message of the bucket has no place there", "subject", msg.Subject(), "err", err)
		return 0
	}
	key, ok := streams.ParseSession(msg.Subject(), msg.Headers(), msg.Data(), meta.Timestamp)
	w.roster.reached(meta.Timestamp)
	switch {
	case !ok:
		w.log.Warn("key of the bucket is not a session's", "subject", msg.Subject())
	case !key.Ended:
		w.put(key)
	case key.Expired:
		w.roster.lapse(key.User, key.Session, w.cfg.Now())
	default:
		w.end(key)
	}
	return meta.NumPending
}

// end takes a session away that was there until key was stored. Whether its user has
// others of which nothing was heard, confirmEnded asks.
func (w *Worker) end(key streams.SessionKey) {
	c, changed, last := w.roster.end(key.User, key.Session, key.Stored)
	if changed {
		w.tell(c)
	}
	if last {
		w.ended[key.User] = key.Stored
	}
}

// put takes a key that lives. Of one that was written before now its time has begun.
func (w *Worker) put(key streams.SessionKey) {
	now := w.cfg.Now()
	until := key.Stored.Add(key.TTL)
	if most := now.Add(key.TTL); until.After(most) { // the clocks differ
		until = most
	}
	if c, changed := w.roster.put(key, until); changed {
		w.tell(c)
	}
}

// confirmEnded asks the bucket for other sessions of those whose last known one has
// ended, and tells who has none.
func (w *Worker) confirmEnded(ctx context.Context) {
	if len(w.ended) == 0 {
		return
	}
	users := slices.Collect(maps.Keys(w.ended))
	if err := w.bucket.Sessions(ctx, users, w.putDoubtful); err != nil {
		if ctx.Err() == nil {
			w.log.Warn("look for other sessions", "users", len(users), "err", err)
		}
		return // at the next check again
	}
	for user, seen := range w.ended {
		if c, changed := w.roster.settle(user, seen); changed {
			w.tell(c)
		}
	}
	clear(w.ended)
}

// putDoubtful takes a key that a replica has and the watch has not brought: it is put
// where the watch has missed it, and looked for again soon, since the replica may be behind.
func (w *Worker) putDoubtful(key streams.SessionKey) {
	if key.Ended || w.roster.has(key.User, key.Session) {
		return
	}
	w.metrics.repairs.Inc()
	if c, changed := w.roster.put(key, w.cfg.Now().Add(doubtFor-lapseAfter)); changed {
		w.tell(c)
	}
}

// lookForDue ends the sessions whose time is over and whose keys the bucket has not.
func (w *Worker) lookForDue(ctx context.Context) {
	now := w.cfg.Now()
	if now.Before(w.graceUntil) {
		return
	}
	due := w.roster.due(now)
	if len(due) == 0 {
		return
	}
	live := make(map[streams.SessionKey]struct{})
	err := w.bucket.Keys(ctx, due, func(key streams.SessionKey) {
		if !key.Ended {
			live[streams.SessionKey{User: key.User, Session: key.Session}] = struct{}{}
			w.put(key)
		}
	})
	if err != nil {
		if ctx.Err() == nil {
			w.log.Warn("look for sessions whose time is over", "sessions", len(due), "err", err)
		}
		return
	}
	for _, key := range due {
		if _, ok := live[streams.SessionKey{User: key.User, Session: key.Session}]; !ok {
			w.end(key) // it was written last when its edge knew of it
		}
	}
}

// tell publishes a change, and has it kept when the user was seen: when it goes, and
// when it comes, so that something is known where nobody sees it go.
func (w *Worker) tell(c change) {
	select {
	case <-w.watching:
	default:
		return // edges ask for all of it when this worker has begun
	}
	asOf := w.roster.readUpTo()
	if c.Status == schemas.Offline {
		w.seen.went(c.user, c.LastSeen)
	} else {
		w.seen.came(c.user, asOf.UTC().Truncate(time.Microsecond))
	}
	w.metrics.changes.WithLabelValues(string(c.Status)).Inc()
	data, err := json.Marshal(schemas.PresenceChange{Presence: c.Presence, AsOf: asOf})
	if err == nil {
		err = w.cfg.Conn.Publish(streams.PresenceOf(c.user), data)
	}
	if err != nil {
		w.log.Warn("a change of presence was not told", "user", c.user, "err", err) // edges ask in a while
	}
}
