package query

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"

	"parley/schemas"
	"parley/workers/store"
)

// newestStored is the newest page of a chat as the store had it, with the head
// that it was read after. It stays right without being invalidated: the log is
// asked in each answer whether it has more than the head, and what it has is
// folded in, so that the page may be old and the answer is not. Three things bound
// its age all the same. The log forgets at its age limit: an entry older than that
// would have a hole between its head and the log's first event; Config.CacheFor
// is far below it. The log is read from the head on, past all that happened
// in the shard since: where the log has more, an entry older than tailAge is read
// again. And so is one of whose events one has disappeared.
type newestStored struct {
	stored
	limit int // how many were asked for
	at    time.Time
}

const tailAge = time.Second

// covers tells whether e has all that a page of limit events takes from the store.
func (e *newestStored) covers(limit int) bool { return limit <= e.limit || !e.more }

const (
	// entryBytes is what an entry costs beside its text, itemBytes an item of it,
	// reactionBytes an emoji under one, and userBytes a name there.
	entryBytes    = 512
	itemBytes     = 320
	reactionBytes = 96
	userBytes     = 48
)

func (e *newestStored) weight() uint32 {
	weight := entryBytes + cap(e.page.text) + cap(e.page.items)*itemBytes
	for i := range e.page.items {
		for _, r := range e.page.items[i].reactions {
			weight += reactionBytes + len(r.Users)*userBytes
		}
	}
	return uint32(weight)
}

func newCache(bytesMax int) (*otter.Cache[schemas.Chat, *newestStored], error) {
	return otter.New(&otter.Options[schemas.Chat, *newestStored]{
		MaximumWeight: uint64(bytesMax),
		Weigher:       func(_ schemas.Chat, e *newestStored) uint32 { return e.weight() },
		// On the caller's goroutine: the cache has none of its own to stop.
		Executor: func(fn func()) { fn() },
	})
}

// cached returns the entry of chat, nil where there is none to be used while the
// log has last.
func (s *Service) cached(chat schemas.Chat, last uint64) *newestStored {
	e, ok := s.cache.GetIfPresent(chat)
	if !ok {
		return nil
	}
	now := time.Now()
	age := now.Sub(e.at)
	switch {
	case age > s.cfg.CacheFor, last > e.head.LastSeq && age > tailAge:
		return nil
	case !e.page.expires.IsZero() && !now.Before(e.page.expires):
		return nil
	}
	return e
}

// load reads the newest stored page of chat up to head, which is as of at, and
// keeps it: what is stored meanwhile comes from the log.
func (s *Service) load(ctx context.Context, chat schemas.Chat, limit int, head store.Head, at time.Time) (*stored, error) {
	part, err := s.readRange(ctx, &question{chat: chat, limit: limit}, head)
	if err != nil {
		return nil, err
	}
	s.metrics.loads.Inc()
	s.cache.Set(chat, &newestStored{stored: *part, limit: limit, at: at})
	return part, nil
}
