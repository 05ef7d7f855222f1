package edge

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// addressesMax bounds the addresses whose rate is remembered. When they are
// more, those that have not used their rate are forgotten, and if that does not
// help, all: then some get more than their rate, and nobody less.
const addressesMax = 1 << 16

// addresses limits handshakes per client address: an IPv4 address, or the /64
// that an IPv6 address is in.
type addresses struct {
	perSecond float64 // negative: no limit
	burst     int

	mu       sync.Mutex
	limiters map[netip.Prefix]*rate.Limiter
}

func newAddresses(perSecond float64, burst int) *addresses {
	return &addresses{perSecond: perSecond, burst: burst, limiters: make(map[netip.Prefix]*rate.Limiter)}
}

func (a *addresses) take(remote string, now time.Time) bool {
	if a.perSecond < 0 {
		return true
	}
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	ip := address.Addr().Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	limiter, ok := a.limiters[prefix]
	if !ok {
		if len(a.limiters) >= addressesMax {
			a.forgetLocked(now)
		}
		limiter = rate.NewLimiter(rate.Limit(a.perSecond), a.burst)
		a.limiters[prefix] = limiter
	}
	return limiter.AllowN(now, 1)
}

func (a *addresses) forgetLocked(now time.Time) {
	for prefix, limiter := range a.limiters {
		if limiter.TokensAt(now) >= float64(a.burst) {
			delete(a.limiters, prefix)
		}
	}
	if len(a.limiters) >= addressesMax {
		clear(a.limiters)
	}
}
