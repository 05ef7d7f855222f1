package presence

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"parley/schemas"
)

const (
	// seenMax bounds the users of whom it waits to be written when they were seen. Past
	// it some are left out: the store then has an earlier time.
	seenMax        = 100_000
	seenWriteEvery = 500 * time.Millisecond
	seenWriteMax   = 1000 // users, of one write
	seenWithin     = 5 * time.Second
)

// seen keeps when users were last seen. What is remembered of those who are offline
// goes with what the watch sees, since that sees every change, whoever writes it.
type seen struct {
	store Store
	cache *otter.Cache[schemas.User, time.Time] // the zero time: never
	log   *slog.Logger

	mu      sync.Mutex
	waiting map[schemas.User]time.Time
}

func newSeen(store Store, cache *otter.Cache[schemas.User, time.Time], log *slog.Logger) *seen {
	return &seen{store: store, cache: cache, log: log, waiting: make(map[schemas.User]time.Time)}
}

// went remembers that a user was last seen, and has it written.
func (s *seen) went(user schemas.User, at time.Time) {
	s.cache.Set(user, at)
	s.write(user, at)
}

// came has it written that a user was seen: it may go when no worker looks. When it was
// seen is not told while it is there, and not remembered.
func (s *seen) came(user schemas.User, at time.Time) {
	s.cache.Invalidate(user)
	s.write(user, at)
}

func (s *seen) write(user schemas.User, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.waiting[user]; !ok && len(s.waiting) >= seenMax {
		return
	}
	s.waiting[user] = at
}

// writeLoop writes until ctx ends, and what is left then.
func (s *seen) writeLoop(ctx context.Context) {
	tick := time.NewTicker(seenWriteEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.writeOnce(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenWithin)
			defer cancel()
			s.writeOnce(last)
			return
		}
	}
}

// writeOnce writes what waits. What could not be written waits on, unless it was seen
// again meanwhile.
func (s *seen) writeOnce(ctx context.Context) {
	for {
		some := s.takeSome()
		if len(some) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, seenWithin)
		err := s.store.SetSeen(ctx, some)
		cancel()
		if err != nil {
			s.log.Warn("write when users were last seen", "users", len(some), "err", err)
			s.putBack(some)
			return
		}
	}
}

func (s *seen) takeSome() map[schemas.User]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	some := make(map[schemas.User]time.Time, min(len(s.waiting), seenWriteMax))
	for user, at := range s.waiting {
		if len(some) == seenWriteMax {
			break
		}
		some[user] = at
		delete(s.waiting, user)
	}
	return some
}

func (s *seen) putBack(some map[schemas.User]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for user, at := range some {
		if _, again := s.waiting[user]; !again {
			s.waiting[user] = at
		}
	}
}

// last returns when users were last seen, of those of whom it is known.
func (s *seen) last(ctx context.Context, users []schemas.User) (map[schemas.User]time.Time, error) {
	last := make(map[schemas.User]time.Time, len(users))
	var unknown []schemas.User
	for _, user := range users {
		at, ok := s.cache.GetIfPresent(user)
		switch {
		case !ok:
			unknown = append(unknown, user)
		case !at.IsZero():
			last[user] = at
		}
	}
	if len(unknown) == 0 {
		return last, nil
	}
	stored, err := s.store.Seen(ctx, unknown)
	if err != nil {
		return last, err
	}
	for _, user := range unknown {
		at := stored[user]
		s.cache.SetIfAbsent(user, at) // unless the user has gone meanwhile
		if !at.IsZero() {
			last[user] = at
		}
	}
	return last, nil
}
