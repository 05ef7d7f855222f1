package cmd

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"parley/clients/web"
	"parley/edge"
	"parley/edge/auth"
	"parley/schemas"
	"parley/streams"
)

// limitFlags bound what an edge takes from clients; 0 is no limit for the rates.
type limitFlags struct {
	MaxSessions int           `help:"Connections that an edge admits; the next is told to go elsewhere." default:"5000"`
	UserRate    float64       `help:"Sends and changes of groups a second and user, with a burst of three seconds; 0: no limit." default:"20"`
	AddressRate float64       `help:"Handshakes a second and client address, with a burst of five seconds; 0: no limit." default:"20"`
	Heartbeat   time.Duration `help:"Between two pings. Who is silent for 2.5 of them is closed, and whoever was on an edge that died is shown as online for as long." default:"30s"`
	Origins     []string      `name:"origin" help:"Origins of web pages that may connect, beside the server's own, like https://chat.example.com."`
}

func (f limitFlags) apply(c *edge.Config) {
	c.SessionsMax, c.UserRate, c.AddressRate = f.MaxSessions, noLimit(f.UserRate), noLimit(f.AddressRate)
	c.Heartbeat, c.Origins = f.Heartbeat, f.Origins
}

func noLimit(rate float64) float64 {
	if rate == 0 {
		return -1
	}
	return rate
}

// edgeCommand runs one edge.
type edgeCommand struct {
	Listen string `help:"Address for clients." default:"127.0.0.1:8080"`
	Admin  string `help:"Address for operators: health, metrics, profiles. Never public." default:"127.0.0.1:8081"`
	Node   string `help:"Name of this edge among the edges." default:"${hostname}"`
	natsFlags
	Replicas   int    `help:"Replicas that the chat streams must have, or it does not start; 0: whatever they have." default:"0"`
	AuthSecret string `help:"Key of HS256 tokens."`
	JWKSURL    string `name:"jwks-url" help:"Where the keys of RS256, ES256 and EdDSA tokens are."`
	Audience   string `help:"Audience that tokens have to name."`
	Issuer     string `help:"Issuer that tokens have to name."`
	UserClaim  string `help:"Claim that names the user." default:"sub"`
	limitFlags
	TrustedProxies []string `name:"trusted-proxy" help:"Addresses or ranges of proxies, like 10.0.0.0/8, whose X-Forwarded-For tells the client's address; nobody else's is believed."`
	DemoPage       bool     `help:"Serve the web page, which gives anybody a token for any name. For demonstrations, never in production."`
}

func (c *edgeCommand) Run(p *process) error {
	if c.AuthSecret == "" && c.JWKSURL == "" {
		return errors.New("no way to check tokens: set PARLEY_AUTH_SECRET, or --jwks-url")
	}
	if c.DemoPage && c.AuthSecret == "" {
		return errors.New("--demo-page makes tokens with the secret: set PARLEY_AUTH_SECRET")
	}
	node, err := schemas.ParseID(c.Node)
	if err != nil {
		return fmt.Errorf("--node: %w", err)
	}
	proxies, err := c.proxies()
	if err != nil {
		return err
	}
	nats, err := c.config(streams.EdgeComponent, "")
	if err != nil {
		return err
	}
	doors, err := openDoors(c.Admin, c.Listen)
	if err != nil {
		return err
	}
	defer doors.Close()
	config := edge.Config{
		Node: node, Listener: doors.clients, NATS: nats, Replicas: c.Replicas,
		Auth:           auth.Config{Secret: []byte(c.AuthSecret), JWKSURL: c.JWKSURL, Audience: c.Audience, Issuer: c.Issuer, UserClaim: c.UserClaim, Log: p.log},
		TrustedProxies: proxies, Log: p.log, Metrics: doors.admin.metrics,
	}
	c.apply(&config)
	if c.DemoPage {
		p.log.Warn("--demo-page: anybody gets a token for any name, and with it reads everybody's chats: never in production")
		config.Page = demoPage([]byte(c.AuthSecret))
	}
	e, err := edge.New(p.ctx, config)
	if err != nil {
		return err
	}
	doors.edge.Store(e)
	fmt.Fprintf(p.stdout, "ready %s\n", doors.url())
	return e.Run(p.ctx)
}

func (c *edgeCommand) proxies() ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	var errs []error
	for _, text := range c.TrustedProxies {
		proxy, err := edge.ParseProxy(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--trusted-proxy: %w", err))
		}
		proxies = append(proxies, proxy)
	}
	return proxies, errors.Join(errs...)
}

// demoPage is the web page, which gives everybody a token.
func demoPage(secret []byte) http.Handler {
	return web.Handler(func(user schemas.User) (string, time.Time, error) {
		now := time.Now()
		token, err := auth.Mint(secret, user, now, devTokenTTL)
		return token, now.Add(devTokenTTL).Truncate(time.Second), err
	})
}
