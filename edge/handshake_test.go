package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"

	"parley/schemas"
)

func TestPublicPort(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	defer http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]int{
		"/v1/nothing": http.StatusNotFound, "/healthz": http.StatusNotFound, "/readyz": http.StatusNotFound,
		"/metrics": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound, "/v1/ws": http.StatusBadRequest,
	} {
		resp, err := http.Get("http://" + r.edge().addr + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s gets %s, want %d", path, resp.Status, want)
		}
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Origins = []string{"https://chat.example.com/"} })
	for origin, want := range map[string]int{
		"":                                 http.StatusSwitchingProtocols,
		"http://" + r.edge().addr:          http.StatusSwitchingProtocols,
		"https://" + r.edge().addr:         http.StatusSwitchingProtocols,
		"https://chat.example.com":         http.StatusSwitchingProtocols,
		"https://CHAT.example.com":         http.StatusSwitchingProtocols,
		"http://chat.example.com":          http.StatusForbidden,
		"https://chat.example.com:444":     http.StatusForbidden,
		"https://chat.example.com.evil.eu": http.StatusForbidden,
		"https://evil.eu":                  http.StatusForbidden,
		"null":                             http.StatusForbidden,
		"http://127.0.0.1":                 http.StatusForbidden,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		resp := handshake(t, r.edge(), header)
		if resp.StatusCode != want {
			t.Errorf("origin %q gets %s, want %d", origin, resp.Status, want)
		}
		if want == http.StatusForbidden {
			wantHTTPError(t, resp, want, schemas.Forbidden)
		}
	}
}

func TestHandshakesOverTheAddressRate(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.AddressRate = 0.5; c.Now = func() time.Time { return testNow } })
	for range 2 { // the burst of 5 s at 0.5 a second
		if resp := handshake(t, r.edge(), nil); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("got %s", resp.Status)
		}
	}
	wantHTTPError(t, handshake(t, r.edge(), nil), http.StatusTooManyRequests, schemas.RateLimited)
}

func wantHTTPError(t *testing.T, resp *http.Response, status int, code schemas.Code) {
	t.Helper()
	var e schemas.Error
	if err := json.UnmarshalRead(resp.Body, &e); err != nil {
		t.Fatalf("status %s: its body is no error: %v", resp.Status, err)
	}
	if resp.StatusCode != status || e.Code != code || e.Message == "" {
		t.Errorf("got %s with %+v, want %d with %s", resp.Status, e, status, code)
	}
	if later := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable; later != (resp.Header.Get("Retry-After") != "") {
		t.Errorf("%s has Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
}

func TestBadHello(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	chats := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"direct.ann.u%d":0`, i))
		}
		return `,"resume":{` + strings.Join(list, ",") + `}`
	}
	token := r.token(t, "ann")
	for _, tt := range []struct {
		name, frame string
		code        schemas.Code
		close       schemas.CloseCode
	}{
		{"another frame", `{"t":"ping"}`, schemas.BadFrame, schemas.CloseProtocol},
		{"a send", sendFrame(1, "m1", "direct.ann.bea", "hi"), schemas.BadFrame, schemas.CloseProtocol},
		{"no JSON", `hello`, schemas.BadFrame, schemas.CloseProtocol},
		{"token is a number", `{"t":"hello","token":1}`, schemas.BadFrame, schemas.CloseProtocol},
		{"malformed device", `{"t":"hello","token":"` + token + `","device":"a b"}`, schemas.BadFrame, schemas.CloseProtocol},
		{"resume is a list", `{"t":"hello","token":"` + token + `","resume":[]}`, schemas.BadFrame, schemas.CloseProtocol},
		{"malformed chat in resume", `{"t":"hello","token":"` + token + `","resume":{"direct.bea.ann":1}}`, schemas.BadFrame, schemas.CloseProtocol},
		{"seq of resume is a string", `{"t":"hello","token":"` + token + `","resume":{"direct.ann.bea":"1"}}`, schemas.BadFrame, schemas.CloseProtocol},
		{"resume of 201 chats", `{"t":"hello","token":"` + token + `"` + chats(201) + `}`, schemas.BadFrame, schemas.CloseProtocol},
		{"no token", `{"t":"hello"}`, schemas.Unauthenticated, schemas.CloseUnauthenticated},
		{"empty token", `{"t":"hello","token":""}`, schemas.Unauthenticated, schemas.CloseUnauthenticated},
		{"bad token", `{"t":"hello","token":"x.y.z"}`, schemas.Unauthenticated, schemas.CloseUnauthenticated},
		{"token over its bound", `{"t":"hello","token":"` + strings.Repeat("x", schemas.JWTBytesMax+1) + `"}`, schemas.Unauthenticated, schemas.CloseUnauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := r.connect(t, r.edge())
			c.say(tt.frame)
			if g := c.next(); g.T != "error" || g.Code != tt.code {
				t.Errorf("got %v, want %s", g, tt.code)
			}
			c.closedWith(tt.close)
		})
	}
	t.Run("binary", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		if err := c.write(websocket.BinaryMessage, `{"t":"hello","token":"`+token+`"}`); err != nil {
			t.Fatal(err)
		}
		if g := c.next(); g.Code != schemas.BadFrame {
			t.Errorf("got %v", g)
		}
		c.closedWith(schemas.CloseProtocol)
	})
	t.Run("none within its time", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		if g := c.next(); g.Code != schemas.Unauthenticated {
			t.Errorf("got %v", g)
		}
		c.closedWith(schemas.CloseUnauthenticated)
	})
	t.Run("a close instead", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		if err := c.write(websocket.CloseMessage, string(websocket.FormatCloseMessage(1000, ""))); err != nil {
			t.Fatal(err)
		}
		c.awaitEnd()
	})
	t.Run("200 chats", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		c.hello(token, chats(200))
		c.await("welcome")
		if g := c.next(); g.T != "resumed" || g.Chats != 0 || len(g.Reset) != 0 {
			t.Errorf("got %v", g)
		}
	})
	t.Run("the hello's ref comes back", func(t *testing.T) {
		t.Parallel()
		c := r.connect(t, r.edge())
		c.say(`{"t":"hello","ref":77,"token":"x.y.z"}`)
		if g := c.next(); g.Ref == nil || *g.Ref != 77 {
			t.Errorf("got %v, want ref 77", g)
		}
	})
}
