package edge

import (
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"parley/schemas"
)

// limitedMax bounds the keys whose rate is remembered. When they are more, those
// that have not used their rate are forgotten, and if that does not help, all: then
// some get more than their rate, and nobody less.
const limitedMax = 1 << 16

// limits gives each key, a user or an address, a rate of its own.
type limits[K comparable] struct {
	perSecond float64 // negative: no limit
	burst     int

	mu       sync.Mutex
	limiters map[K]*rate.Limiter
}

func newLimits[K comparable](perSecond float64, burst int) *limits[K] {
	return &limits[K]{perSecond: perSecond, burst: max(burst, 1), limiters: make(map[K]*rate.Limiter)}
}

// take takes one from the key's rate; where there is none left, wait tells when there is.
func (l *limits[K]) take(key K, now time.Time) (wait time.Duration, ok bool) {
	if l.perSecond < 0 {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, known := l.limiters[key]
	if !known {
		if len(l.limiters) >= limitedMax {
			l.forgetLocked(now)
		}
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), l.burst)
		l.limiters[key] = limiter
	}
	if limiter.AllowN(now, 1) {
		return 0, true
	}
	return time.Duration((1 - limiter.TokensAt(now)) / l.perSecond * float64(time.Second)), false
}

func (l *limits[K]) forgetLocked(now time.Time) {
	for key, limiter := range l.limiters {
		if limiter.TokensAt(now) >= float64(l.burst) {
			delete(l.limiters, key)
		}
	}
	if len(l.limiters) >= limitedMax {
		clear(l.limiters)
	}
}

// rates bound what each user asks of this edge, by WebSocket or HTTP.
type rates struct {
	perSecond float64
	sends     *limits[schemas.User] // messages, and changes of groups and status
	reads     *limits[schemas.User] // HTTP requests that only read, and questions of presence
}

func newRates(perSecond float64, burst int) *rates {
	return &rates{
		perSecond: perSecond,
		sends:     newLimits[schemas.User](perSecond, burst),
		reads:     newLimits[schemas.User](perSecond, burst),
	}
}

// takeSend takes one from the rate of what a user sends, and of how it changes groups.
func (r *rates) takeSend(from schemas.User, now time.Time) *schemas.Error {
	if wait, ok := r.sends.take(from, now); !ok {
		return &schemas.Error{Code: schemas.RateLimited, Message: "too many messages: a user may send " + formatRate(r.perSecond) + " a second", RetryAfter: max(wait.Seconds(), 0.01)}
	}
	return nil
}

// takeRead takes one from the rate of what a user asks, where each costs a worker or
// the log's leader something.
func (r *rates) takeRead(user schemas.User, now time.Time) *schemas.Error {
	if wait, ok := r.reads.take(user, now); !ok {
		return &schemas.Error{Code: schemas.RateLimited, Message: "too many requests: a user may make " + formatRate(r.perSecond) + " a second", RetryAfter: max(wait.Seconds(), 0.01)}
	}
	return nil
}

func formatRate(perSecond float64) string { return strconv.FormatFloat(perSecond, 'g', -1, 64) }
