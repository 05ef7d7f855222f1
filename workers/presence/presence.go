// Package presence is the worker that says who is online: nobody else does.
//
// Edges keep a key for each session in the bucket presence. The worker watches the
// bucket, makes of a user's sessions what others see of the user, tells changes on
// presence.<user>, keeps when a user was last seen, and answers the service presence.
// Any number of these workers may run: each watches all of the bucket and tells the
// same, and what it tells carries how far it has read.
//
// Nobody is said to be offline on one event alone. A session that its edge has ended
// is gone, but the bucket is asked for others of the user. One whose key nobody wrote
// again is gone when the bucket does not have it a moment later, or after an
// interruption when edges have had the time to write it again. And each key's time is
// counted here too, so that an event that never came is made up for.
package presence

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
	"parley/workers/service"
	"parley/workers/worker"
)

// Store is where it is kept when users were last seen. Its methods may be called
// from several goroutines.
type Store interface {
	// Seen returns when those of users were last seen of whom it is known.
	Seen(ctx context.Context, users []schemas.User) (map[schemas.User]time.Time, error)
	// SetSeen stores when users were last seen; of two times the later wins.
	SetSeen(ctx context.Context, seen map[schemas.User]time.Time) error
}

// Log tells how the streams are laid out.
type Log interface {
	Layout() streams.Layout
}

// Config is what a [Worker] needs. Zero means the default.
type Config struct {
	Conn      *nats.Conn          // required
	JetStream jetstream.JetStream // required
	Log       Log                 // required
	Store     Store               // required

	worker.Runtime

	// Grace is how long edges are given to write their keys again after an
	// interruption; it is longer than they wait between two attempts to reconnect.
	Grace time.Duration // default: 6 s
}

const (
	defaultGrace = 6 * time.Second
	// remadeGrace is that where the bucket had to be made anew: edges write each key at
	// least every 12 s, should they not hear that they are to write all of them.
	remadeGrace = 15 * time.Second
	// seenCacheMax bounds the users of whom it is remembered when they were last seen.
	seenCacheMax = 100_000
)

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	faults := worker.FaultsOf("presence")
	faults.If(c.Conn == nil, "no connection")
	faults.If(c.JetStream == nil, "no JetStream")
	faults.If(c.Log == nil, "no log")
	faults.If(c.Store == nil, "no store")
	faults.If(c.Grace < 0, "negative grace")
	return faults.Err()
}

func (c Config) withDefaults() Config {
	c.Runtime = worker.Defaults(c.Runtime)
	c.Grace = cmp.Or(c.Grace, defaultGrace)
	return c
}

// Worker says who is online.
type Worker struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	bucket  *streams.Presence
	service *service.Service
	roster  *roster
	seen    *seen

	loop     worker.Loop   // of watches
	watching chan struct{} // closed when the bucket was read the first time

	// watchLoop's own.
	ended      map[schemas.User]time.Time // whose last known session has ended, and when it was seen last: the bucket is to be asked
	graceUntil time.Time                  // nobody's key is taken for lapsed before
	made       time.Time                  // when the bucket was that was read last; zero: none was
}

// New returns a Worker; Run starts it.
func New(cfg Config) (*Worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	w := &Worker{
		cfg: cfg, log: cfg.Logger.With("component", streams.PresenceService), bucket: streams.NewPresence(cfg.JetStream),
		roster: newRoster(), watching: make(chan struct{}), ended: make(map[schemas.User]time.Time),
	}
	w.loop = worker.Loop{Log: w.log, RetryMax: watchAgainMax, Stopped: "presence is not followed for now", Resumed: "presence is followed again"}
	cache, err := otter.New(&otter.Options[schemas.User, time.Time]{MaximumSize: seenCacheMax})
	if err != nil {
		return nil, fmt.Errorf("presence: make cache: %w", err)
	}
	w.seen = newSeen(cfg.Store, cache, w.log)
	if w.metrics, err = newMetrics(cfg.Registerer, w.roster); err != nil {
		return nil, err
	}
	runtime := cfg.Runtime
	runtime.Started = w.started
	w.service, err = service.New(service.Config{
		Name: streams.PresenceService, Description: "who is online, away or offline",
		Conn: cfg.Conn, Runtime: runtime,
		Endpoints: []service.Endpoint{
			{Name: "query", Subject: streams.PresenceSubject, Description: "who of users is online, away or offline", Answer: w.query},
		},
	})
	return w, err
}

// Run says who is online until ctx ends. Then it writes what it still has to of when
// users were last seen, and returns nil.
func (w *Worker) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { w.seen.writeLoop(ctx); return nil })
	group.Go(func() error { w.watchLoop(ctx); return nil })
	group.Go(func() error {
		select {
		case <-w.watching:
			return w.service.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	return group.Wait()
}

func (w *Worker) started() {
	w.announce()
	w.cfg.Started()
}

// announce tells edges that there may have been changes of which nobody told, and that
// their keys may be missing.
func (w *Worker) announce() {
	if err := w.cfg.Conn.Publish(streams.PresenceAgain, nil); err != nil {
		w.log.Warn("edges are not told that presence is told again", "err", err) // they ask in a while by themselves
	}
}
