package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"parley/edge"
	"parley/schemas"
	"parley/streams"
	"sync/atomic"
)

// limitFlags bound what an edge takes from clients; 0 is no limit for the rates.
type limitFlags struct {
	MaxSessions int      `help:"Connections that an edge admits; the next is told to go elsewhere." default:"5000"`
	UserRate    float64  `help:"Messages a second and user, with a burst of three seconds; 0: no limit." default:"20"`
	AddressRate float64  `help:"Handshakes a second and client address, with a burst of five seconds; 0: no limit." default:"20"`
	Origins     []string `name:"origin" help:"Origins of web pages that may connect, beside the server's own, like https://chat.example.com."`
}

func (f limitFlags) apply(c *edge.Config) {
	c.SessionsMax, c.UserRate, c.AddressRate, c.Origins = f.MaxSessions, noLimit(f.UserRate), noLimit(f.AddressRate), f.Origins
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
	Replicas   int    `help:"Replicas of the chat streams: with more than one, absence is asked of the leader." default:"1"`
	AuthSecret string `help:"Key of HS256 tokens."`
	JWKSURL    string `name:"jwks-url" help:"Where the keys of RS256, ES256 and EdDSA tokens are."`
	Audience   string `help:"Audience that tokens have to name."`
	Issuer     string `help:"Issuer that tokens have to name."`
	UserClaim  string `help:"Claim that names the user." default:"sub"`
	limitFlags
}

func (c *edgeCommand) Run(p *process) error {
	if c.AuthSecret == "" && c.JWKSURL == "" {
		return errors.New("no way to check tokens: set PARLEY_AUTH_SECRET, or --jwks-url")
	}
	node, err := schemas.ParseID(c.Node)
	if err != nil {
		return fmt.Errorf("--node: %w", err)
	}
	nats, err := c.config(streams.EdgeComponent, "")
	if err != nil {
		return err
	}
	var running atomic.Pointer[edge.Edge] // nil until it has started
	a, err := startAdmin(c.Admin, func(context.Context) error { return edgeReady(running.Load()) })
	if err != nil {
		return err
	}
	defer a.Close()
	listener, err := listen("listen", c.Listen)
	if err != nil {
		return err
	}
	config := edge.Config{
		Node: node, Listener: listener, NATS: nats, Replicas: c.Replicas,
		Auth: edge.AuthConfig{Secret: []byte(c.AuthSecret), JWKSURL: c.JWKSURL, Audience: c.Audience, Issuer: c.Issuer, UserClaim: c.UserClaim, Log: p.log},
		Log:  p.log, Metrics: a.metrics,
	}
	c.apply(&config)
	e, err := edge.New(p.ctx, config)
	if err != nil {
		listener.Close()
		return err
	}
	running.Store(e)
	fmt.Fprintf(p.stdout, "ready %s\n", publicURL(listener))
	return e.Run(p.ctx)
}

func edgeReady(e *edge.Edge) error {
	if e == nil {
		return errors.New("starting")
	}
	if reason, ok := e.Ready(); !ok {
		return errors.New(reason)
	}
	return nil
}

func publicURL(l net.Listener) string { return "http://" + l.Addr().String() }
