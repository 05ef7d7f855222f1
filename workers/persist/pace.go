package persist

import (
	"time"

	"parley/streams"
)

// commitWithin is how long a commit should take. Nothing is pulled meanwhile, and
// who does not pull within PinnedTTL loses the shard.
const commitWithin = streams.PinnedTTL / 4

// paceBatches halves the largest batch when a commit took too long, down to what
// still shares its requests, and doubles it when full ones are done soon.
func (s *shard) paceBatches(events int, took time.Duration) {
	switch {
	case took > commitWithin:
		s.batchEventsMax = min(max(s.batchEventsMax/2, batchEventsMin), s.cfg.BatchEventsMax)
	case took < commitWithin/2 && events >= s.batchEventsMax:
		s.batchEventsMax = min(2*s.batchEventsMax, s.cfg.BatchEventsMax)
	}
}

const batchEventsMin = 100
