package edge

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"parley/schemas"
)

func TestAddressesAreLimitedByHost(t *testing.T) {
	t.Parallel()
	a := newAddresses(1, 2)
	take := func(want bool, client string) {
		t.Helper()
		if have := a.take(netip.MustParseAddr(client), testNow); have != want {
			t.Errorf("%s: %t, want %t", client, have, want)
		}
	}
	take(true, "192.0.2.1")
	take(true, "192.0.2.1")
	take(false, "192.0.2.1")
	take(true, "192.0.2.2")
	take(true, "2001:db8:1:2::1")
	take(true, "2001:db8:1:2:ffff::9") // the same /64
	take(false, "2001:db8:1:2::3")
	take(true, "2001:db8:1:3::1")
	if a.take(netip.Addr{}, testNow) {
		t.Error("an address that is not known has no limit")
	}
	if !a.take(netip.MustParseAddr("192.0.2.1"), testNow.Add(time.Second)) {
		t.Error("a second later there is none more")
	}
	for i := range 2 * limitedMax {
		a.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), testNow)
		if len(a.limits.limiters) > limitedMax {
			t.Fatalf("%d addresses are remembered", len(a.limits.limiters))
		}
	}
	if !newAddresses(-1, 1).take(netip.Addr{}, testNow) {
		t.Error("without a limit one is refused")
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	var proxies []netip.Prefix
	for _, text := range []string{"10.0.0.0/8", "192.0.2.80", "2001:db8:f::/48", "fe80::1"} {
		proxy, err := ParseProxy(text)
		if err != nil {
			t.Fatal(err)
		}
		proxies = append(proxies, proxy)
	}
	for name, test := range map[string]struct {
		peer      string
		forwarded []string // one header each
		want      string
	}{
		"no proxy":                        {"203.0.113.7:5000", nil, "203.0.113.7"},
		"IPv4 as IPv6 writes it":          {"[::ffff:203.0.113.7]:5000", nil, "203.0.113.7"},
		"an interface's name":             {"[2001:db8::7%eth0]:5000", nil, "2001:db8::7"},
		"a peer that is no address":       {"@", []string{"203.0.113.7"}, "invalid IP"},
		"a header of an untrusted peer":   {"203.0.113.7:5000", []string{"198.51.100.1"}, "203.0.113.7"},
		"an untrusted peer as a proxy":    {"203.0.113.7:5000", []string{"198.51.100.1, 10.0.0.1"}, "203.0.113.7"},
		"one proxy":                       {"10.0.0.1:80", []string{"203.0.113.7"}, "203.0.113.7"},
		"one proxy, by its address":       {"192.0.2.80:80", []string{"203.0.113.7"}, "203.0.113.7"},
		"its neighbour":                   {"192.0.2.81:80", []string{"203.0.113.7"}, "192.0.2.81"},
		"a proxy as IPv6 writes it":       {"[::ffff:10.0.0.1]:80", []string{"203.0.113.7"}, "203.0.113.7"},
		"a proxy with an interface":       {"[fe80::1%eth0]:80", []string{"203.0.113.7"}, "203.0.113.7"},
		"two proxies":                     {"10.0.0.1:80", []string{"203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"two proxies, a header each":      {"10.0.0.1:80", []string{"203.0.113.7", "10.0.0.2"}, "203.0.113.7"},
		"what the client made up":         {"10.0.0.1:80", []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		"made up, in a header of its own": {"10.0.0.1:80", []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		"made up to look like a proxy":    {"10.0.0.1:80", []string{"198.51.100.1, 10.0.0.9, 203.0.113.7"}, "203.0.113.7"},
		"IPv6":                            {"[2001:db8:f:1::1]:80", []string{"2001:db8:1::7"}, "2001:db8:1::7"},
		"IPv6 in brackets":                {"10.0.0.1:80", []string{"[2001:db8:1::7]"}, "2001:db8:1::7"},
		"IPv4 as a proxy writes IPv6":     {"10.0.0.1:80", []string{"::ffff:203.0.113.7, ::ffff:10.0.0.2"}, "203.0.113.7"},
		"with a port":                     {"10.0.0.1:80", []string{"203.0.113.7:5000"}, "203.0.113.7"},
		"IPv6 with a port":                {"10.0.0.1:80", []string{"[2001:db8:1::7]:5000"}, "2001:db8:1::7"},
		"no spaces":                       {"10.0.0.1:80", []string{"203.0.113.7,10.0.0.2"}, "203.0.113.7"},
		"a proxy without a header":        {"10.0.0.1:80", nil, "10.0.0.1"},
		"a client among the proxies":      {"10.0.0.1:80", []string{"10.0.0.7"}, "10.0.0.7"},
		"nothing":                         {"10.0.0.1:80", []string{""}, "10.0.0.1"},
		"only commas":                     {"10.0.0.1:80", []string{",,,"}, "10.0.0.1"},
		"a word":                          {"10.0.0.1:80", []string{"203.0.113.7, unknown"}, "10.0.0.1"},
		"a word before a proxy":           {"10.0.0.1:80", []string{"203.0.113.7, _hidden, 10.0.0.2"}, "10.0.0.2"},
		"half an address":                 {"10.0.0.1:80", []string{"203.0.113"}, "10.0.0.1"},
	} {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{"X-Forwarded-For": test.forwarded}}
		if have := clientAddress(r, proxies).String(); have != test.want {
			t.Errorf("%s: %s, want %s", name, have, test.want)
		}
	}
}

func TestParseProxyRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "proxy", "10.0.0.0/33", "10.0.0.1:80", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "10.0.0.1,10.0.0.2"} {
		if proxy, err := ParseProxy(text); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("%q: read as %s, error %v", text, proxy, err)
		}
	}
}

// Behind a proxy each client has a rate of its own, and can claim none more.
func TestHandshakesBehindAProxy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		proxies    string
		forwarded  []string
		wantStatus int // of the last
	}{
		"two clients":              {"127.0.0.1", []string{"203.0.113.7", "203.0.113.8"}, http.StatusSwitchingProtocols},
		"one client":               {"127.0.0.1", []string{"203.0.113.7", "203.0.113.7"}, http.StatusTooManyRequests},
		"one client with many":     {"127.0.0.1", []string{"1.1.1.1, 203.0.113.7", "1.1.1.2, 203.0.113.7"}, http.StatusTooManyRequests},
		"who is not a proxy":       {"192.0.2.80", []string{"203.0.113.7", "203.0.113.8"}, http.StatusTooManyRequests},
		"a proxy that tells words": {"127.0.0.1", []string{"unknown", "none"}, http.StatusTooManyRequests},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, err := ParseProxy(test.proxies)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, func(c *Config) {
				c.TrustedProxies = []netip.Prefix{proxy}
				c.AddressRate, c.Now = 0.2, func() time.Time { return testNow } // a burst of one
			})
			var last *http.Response
			for _, forwarded := range test.forwarded {
				last = handshake(t, r.edge(), http.Header{"X-Forwarded-For": {forwarded}})
			}
			if last.StatusCode != test.wantStatus {
				t.Errorf("the last got %s, want %d", last.Status, test.wantStatus)
			}
			if test.wantStatus == http.StatusTooManyRequests {
				wantHTTPError(t, last, test.wantStatus, schemas.RateLimited)
			}
		})
	}
}
