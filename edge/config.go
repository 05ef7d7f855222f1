package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/edge/auth"
	"parley/schemas"
	"parley/streams"
)

// Config is what an [Edge] is made of. Zero means the default.
type Config struct {
	Node           schemas.ID            // this edge's name among the edges; has to be set
	Listener       net.Listener          // where clients connect; has to be set, Run closes it
	NATS           streams.ConnectConfig // how to reach NATS; its hooks are the edge's
	Replicas       int                   // that the chat streams must have at least; default: whatever they have
	Auth           auth.Config           // which tokens are taken
	Origins        []string              // allowed beside the server's own, like https://chat.example.com; default: none
	SessionsMax    int                   // default: 5000
	UserRate       float64               // messages, and as many reading HTTP requests and questions of presence, a second and user; negative: no limit; default: 20
	UserBurst      int                   // default: 3 seconds of UserRate
	AddressRate    float64               // handshakes a second and address; negative: no limit; default: 20
	TrustedProxies []netip.Prefix        // whose X-Forwarded-For names the client; default: none
	Heartbeat      time.Duration         // between pings; default: 30 s
	AwayAfter      time.Duration         // without a frame but ping, until a session is away; default: 30 min
	DrainSpread    time.Duration         // over which clients are told to come back elsewhere; default: 5 s
	Page           http.Handler          // serves what is not /v1/ on the public port; default: 404

	Log     *slog.Logger          // default: slog.Default()
	Metrics prometheus.Registerer // default: none are exported
	Now     func() time.Time      // default: time.Now
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Node.IsZero() {
		errs = append(errs, errors.New("node has no name"))
	}
	if c.Listener == nil {
		errs = append(errs, errors.New("listener is not set"))
	}
	if c.SessionsMax < 0 {
		errs = append(errs, fmt.Errorf("sessions max is %d: it is at least 1", c.SessionsMax))
	}
	if c.Heartbeat != 0 && c.Heartbeat < time.Second {
		errs = append(errs, fmt.Errorf("heartbeat is %s: it is at least 1s", c.Heartbeat))
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.SessionsMax == 0 {
		c.SessionsMax = 5000
	}
	if c.UserRate == 0 {
		c.UserRate = 20
	}
	if c.UserBurst == 0 {
		c.UserBurst = max(int(3*c.UserRate), 1)
	}
	if c.AddressRate == 0 {
		c.AddressRate = 20
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 30 * time.Second
	}
	if c.AwayAfter == 0 {
		c.AwayAfter = schemas.AwayAfter
	}
	if c.DrainSpread == 0 {
		c.DrainSpread = 5 * time.Second
	}
	if c.Page == nil {
		c.Page = http.NotFoundHandler()
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}
