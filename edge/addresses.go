package edge

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// addresses limits handshakes per client address: an IPv4 address, or the /64
// that an IPv6 address is in.
type addresses struct{ limits *limits[netip.Prefix] }

func newAddresses(perSecond float64, burst int) *addresses {
	return &addresses{newLimits[netip.Prefix](perSecond, burst)}
}

// take tells whether the address may begin another handshake. One that is not
// known may not, or a proxy that is set up wrong would lift the limit.
func (a *addresses) take(client netip.Addr, now time.Time) bool {
	if a.limits.perSecond < 0 {
		return true
	}
	bits := 64
	if client.Is4() {
		bits = 32
	}
	prefix, err := client.Prefix(bits)
	if err != nil || !prefix.IsValid() {
		return false
	}
	_, ok := a.limits.take(prefix, now)
	return ok
}

// ParseProxy reads an address, or a range of them like 10.0.0.0/8, whose
// X-Forwarded-For is believed.
func ParseProxy(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		address = plain(address)
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("read proxy %q: it is an address or a range, like 10.0.0.5 or 10.0.0.0/8", text)
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("read proxy %q: write it as a range of IPv4", text)
	case prefix.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("read proxy %q: everybody could then claim any address: name the proxies", text)
	}
	return prefix.Masked(), nil
}

// clientAddress is whom a request comes from: the peer, or where the peer is a
// proxy that we trust, whom it names in X-Forwarded-For. Each proxy appends the
// address that it saw, so the last one that is no trusted proxy's is what such a
// proxy saw; all before it is what the client made up. The zero Addr: unknown.
func clientAddress(r *http.Request, proxies []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := plain(peer.Addr())
	for _, header := range slices.Backward(r.Header.Values("X-Forwarded-For")) {
		for part := range backwards(header) {
			if !trusted(proxies, client) {
				return client
			}
			named, ok := parseForwarded(part)
			if !ok { // nothing before it can be believed either
				return client
			}
			client = named
		}
	}
	return client
}

// backwards yields what stands between the commas of list, the last first.
func backwards(list string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for at := 0; at >= 0; {
			at = strings.LastIndexByte(list, ',')
			if !yield(strings.TrimSpace(list[at+1:])) {
				return
			}
			list = list[:max(at, 0)]
		}
	}
}

func trusted(proxies []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// parseForwarded reads an address, with a port where a proxy writes one.
func parseForwarded(text string) (netip.Addr, bool) {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return plain(with.Addr()), true
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inner, "]")
	}
	address, err := netip.ParseAddr(text)
	return plain(address), err == nil
}

// plain is the address in the one form that is compared: IPv4 as itself, and
// without the name of a network interface.
func plain(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }
