package query

import (
	"context"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"parley/schemas"
	"parley/workers/store"
)

// newestStored is the newest page of a chat as the store had it, with the head
// that it was read after. It stays right without being invalidated: the log is
// asked in each answer whether it has more than the head, and what it has is
// merged, so that the page may be old and the answer is not. Two things bound its
// age all the same. The log forgets at its age limit: an entry older than that
// would have a hole between its head and the log's first event; Config.CacheFor
// is far below it. And the log is read from the head on, past all that happened
// in the shard since: where the log has more, an entry older than tailAge is read again.
type newestStored struct {
	page  page
	more  bool       // the store has older events
	limit int        // how many were asked for
	head  store.Head // of a moment before the page was read
	at    time.Time
}

const tailAge = time.Second

// covers tells whether e has all that a page of limit events takes from the store.
func (e *newestStored) covers(limit int) bool { return limit <= e.limit || !e.more }

// entryBytes is what an entry costs beside its text.
const entryBytes = 512

func newCache(bytesMax int) (*otter.Cache[schemas.Chat, *newestStored], error) {
	return otter.New(&otter.Options[schemas.Chat, *newestStored]{
		MaximumWeight: uint64(bytesMax),
		Weigher: func(_ schemas.Chat, e *newestStored) uint32 {
			return uint32(entryBytes + cap(e.page.text) + cap(e.page.items)*40)
		},
		// On the caller's goroutine: the cache has none of its own to stop.
		Executor: func(fn func()) { fn() },
	})
}

// cached returns the entry of chat, nil where there is none to be used.
func (s *Service) cached(chat schemas.Chat) *newestStored {
	e, ok := s.cache.GetIfPresent(chat)
	if !ok || time.Since(e.at) > s.cfg.CacheFor {
		return nil
	}
	return e
}

// load reads the newest stored page of chat, and keeps it.
func (s *Service) load(ctx context.Context, chat schemas.Chat, limit int) (*newestStored, error) {
	e := &newestStored{limit: limit, at: time.Now()}
	head, begun, err := s.cfg.Store.Head(ctx, chat)
	if err != nil {
		return nil, fmt.Errorf("read head of %s: %w", chat, err)
	}
	if e.head = head; begun {
		// Below the head's seq: what is stored meanwhile comes from the log.
		events, more, err := s.cfg.Store.Page(ctx, chat, store.Range{Before: e.head.LastSeq + 1, Limit: limit})
		if err != nil {
			return nil, fmt.Errorf("read newest page of %s: %w", chat, err)
		}
		e.page, e.more = storedPage(events), more
	}
	s.metrics.loads.Inc()
	s.cache.Set(chat, e)
	return e, nil
}

func storedPage(events []store.Event) page {
	bytes := 0
	for i := range events {
		bytes += len(events[i].JSON) + 128
	}
	p := page{text: make([]byte, 0, bytes), items: make([]item, 0, len(events))}
	for i := range events {
		e := &events[i]
		p.add(schemas.StoredEvent{Seq: e.Seq, Prev: e.Prev, Time: e.Time, N: e.N, JSON: e.JSON})
	}
	return p
}
