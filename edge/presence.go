package edge

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

// presenceQueueMax bounds the changes that wait to be written. What does not
// fit is left out: the next heartbeat writes a session's key again, and a key
// that was not purged ends with its TTL.
const presenceQueueMax = 1 << 14

// presence keeps a key <user>.<session> in the bucket presence for as long as a
// session lives: written at its welcome and at each heartbeat with a TTL of 2.5
// heartbeats, purged at its end. A killed edge's keys end by themselves.
type presence struct {
	conn  *nats.Conn
	ttl   time.Duration
	queue chan presenceChange
	node  schemas.ID
}

type presenceChange struct {
	session *session
	gone    bool
}

func newPresence(conn *nats.Conn, node schemas.ID, heartbeat time.Duration) *presence {
	return &presence{conn: conn, node: node, ttl: heartbeat * 5 / 2, queue: make(chan presenceChange, presenceQueueMax)}
}

// enter is called at a session's welcome and at each of its heartbeats.
func (p *presence) enter(s *session) { p.put(s, false) }
func (p *presence) leave(s *session) { p.put(s, true) }

func (p *presence) put(s *session, gone bool) {
	select {
	case p.queue <- presenceChange{s, gone}:
	default:
	}
}

// run writes changes until ctx ends, and then what is left of them.
func (p *presence) run(ctx context.Context) {
	for {
		select {
		case change := <-p.queue:
			p.write(change)
		case <-ctx.Done():
			for {
				select {
				case change := <-p.queue:
					p.write(change)
				default:
					return
				}
			}
		}
	}
}

// write publishes to the bucket's stream without waiting for its ack: a put
// through the KV API could not carry a TTL past its first write.
func (p *presence) write(change presenceChange) {
	s := change.session
	m := &nats.Msg{
		Subject: "$KV." + streams.PresenceBucket + "." + streams.PresenceKey(s.user.name, s.id),
		Header:  nats.Header{jetstream.MsgTTLHeader: {p.ttl.String()}},
	}
	if change.gone {
		m.Header["KV-Operation"] = []string{"PURGE"}
		m.Header["Nats-Rollup"] = []string{"sub"}
	} else {
		m.Data = []byte(`{"node":"` + p.node.String() + `","device":"` + s.device.String() + `"}`)
	}
	// Without a connection the write is lost, as any is that finds the queue full.
	_ = p.conn.PublishMsg(m)
}
