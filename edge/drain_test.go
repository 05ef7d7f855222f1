package edge

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.DrainSpread = 3 * time.Second })
	var clients []*client
	for i := range 8 {
		clients = append(clients, r.join(t, r.edge(), fmt.Sprintf("u%d", i)))
	}
	waiting := r.connect(t, r.edge()) // upgraded, and without its hello at the drain
	if _, ok := r.edge().Ready(); !ok {
		t.Error("not ready before the drain")
	}
	sent := make(chan struct{})
	go func() { // a send that was read before the drain is acknowledged before the close
		defer close(sent)
		clients[0].say(sendFrame(1, "m1", "direct.u0.u1", "hi"))
	}()
	if g := clients[0].await("ack"); g.ID != "m1" {
		t.Errorf("got %v", g)
	}
	<-sent
	r.edge().askDrain()
	delays := map[int64]bool{}
	for _, c := range clients {
		var reason schemas.DrainReason
		text := c.closedWith(schemas.CloseDraining)
		if err := json.Unmarshal([]byte(text), &reason); err != nil || reason.Delay < 0 || reason.Delay >= 3000 {
			t.Errorf("the close's reason is %q: %v", text, err)
		}
		delays[reason.Delay] = true
	}
	if len(delays) < 3 {
		t.Errorf("the delays are not spread: %v", delays)
	}
	if reason, ok := r.edge().Ready(); ok || reason != "draining" {
		t.Errorf("ready %v, %q", ok, reason)
	}
	waiting.hello(r.token(t, "late"))
	waiting.closedWith(schemas.CloseDraining)
	r.edge().Stop(t)
	if _, err := net.Dial("tcp", r.edge().addr); err == nil {
		t.Error("the port is still open")
	}
}

func TestDrainingNodeRefusesRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.edge().draining.Store(true)
	wantHTTPError(t, handshake(t, r.edge(), nil), http.StatusServiceUnavailable, schemas.Unavailable)
	r.edge().draining.Store(false)
}
