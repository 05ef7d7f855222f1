package edge

import (
	"fmt"
	"math/rand/v2"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/micro"

	"parley/schemas"
	"parley/streams"
)

// Version is told by the micro services of this program.
const Version = "0.1.0"

// NodeStats answers edge.<node>.stats.
type NodeStats struct {
	Node        schemas.ID `json:"node"`
	Connections int64      `json:"connections"`
	Users       int        `json:"users"`
	Draining    bool       `json:"draining"`
}

// startNodeService answers operators: `nats micro ls` shows the node, and
// `parley drain` asks it to leave.
func (e *Edge) startNodeService() (micro.Service, error) {
	service, err := micro.AddService(e.conn, micro.Config{
		Name:               streams.NodeService(e.cfg.Node),
		Version:            Version,
		Description:        "edge node: stats, drain",
		QueueGroupDisabled: true,
	})
	if err != nil {
		return nil, fmt.Errorf("start node service: %w", err)
	}
	endpoints := map[string]micro.HandlerFunc{
		"stats": func(r micro.Request) { respond(r, e.stats()) },
		"drain": func(r micro.Request) {
			respond(r, e.stats())
			e.askDrain()
		},
	}
	for name, handler := range endpoints {
		if err := service.AddEndpoint(name, handler, micro.WithEndpointSubject(streams.NodeSubject(e.cfg.Node, name))); err != nil {
			_ = service.Stop()
			return nil, fmt.Errorf("start node endpoint %s: %w", name, err)
		}
	}
	return service, nil
}

func respond(r micro.Request, stats NodeStats) {
	body, err := json.Marshal(stats)
	if err != nil {
		panic("encode stats: " + err.Error()) // plain fields
	}
	_ = r.Respond(body) // the operator may be gone
}

func (e *Edge) stats() NodeStats {
	users := 0
	for _, v := range e.lives {
		v.mu.Lock()
		users += len(v.users)
		v.mu.Unlock()
	}
	return NodeStats{Node: e.cfg.Node, Connections: e.connections.Load(), Users: users, Draining: e.draining.Load()}
}

// Ready tells whether clients may be sent here; the reason says why not.
func (e *Edge) Ready() (reason string, ok bool) {
	switch {
	case e.draining.Load():
		return "draining", false
	case !e.conn.IsConnected():
		return "NATS is away", false
	}
	return "", true
}

// drainSessions closes every session with 4012 and a delay of its own, so that
// the clients come back elsewhere one after the other.
func (e *Edge) drainSessions() {
	for _, v := range e.lives {
		v.mu.Lock()
		for _, u := range v.users {
			for _, s := range u.sessions {
				delay := rand.N(e.cfg.DrainSpread)
				reason, err := json.Marshal(schemas.DrainReason{Delay: delay.Milliseconds()})
				if err != nil {
					panic("encode drain reason: " + err.Error()) // a number
				}
				s.close(schemas.CloseDraining, string(reason))
			}
		}
		v.mu.Unlock()
	}
}
