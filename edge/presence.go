package edge

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

const (
	// presenceQueueMax bounds the keys that wait to be written. What does not fit is left
	// out: it is written the next time, or ends with its TTL.
	presenceQueueMax = 1 << 14
	// ttlHeartbeats is how long a key lives that is not written again, in heartbeats, and
	// refreshesPerTTL how often it is in that time, each 12 s at a heartbeat of 30 s. So
	// there is always more than a minute left: NATS may be away for that long.
	ttlHeartbeats   = 2.5
	refreshesPerTTL = 6
	// returnWithin is how long a session is still shown that was told to come back at once.
	returnWithin = 15 * time.Second
)

// presence keeps a key <user>.<session> in the bucket presence for as long as a
// session lives: written at its welcome and again and again, with a TTL, and purged
// at its end. A killed edge's keys end by themselves. What they mean for a user, the
// worker presence says.
type presence struct {
	conn  *nats.Conn
	ttl   time.Duration
	queue chan *session
	node  schemas.ID
}

func newPresence(conn *nats.Conn, node schemas.ID, heartbeat time.Duration) *presence {
	return &presence{conn: conn, node: node, ttl: presenceTTL(heartbeat), queue: make(chan *session, presenceQueueMax)}
}

func presenceTTL(heartbeat time.Duration) time.Duration {
	return (time.Duration(float64(heartbeat)*ttlHeartbeats) + time.Second - 1).Truncate(time.Second) // NATS counts in seconds
}

// refresh has a session's key written as the session is when its turn comes: there,
// away, or gone.
func (p *presence) refresh(s *session) {
	select {
	case p.queue <- s:
	default:
	}
}

// run writes keys until ctx ends, and then what is left of them.
func (p *presence) run(ctx context.Context) {
	for {
		select {
		case s := <-p.queue:
			p.write(s)
		case <-ctx.Done():
			for {
				select {
				case s := <-p.queue:
					p.write(s)
				default:
					return
				}
			}
		}
	}
}

// write publishes to the bucket's stream without waiting for its ack: a put
// through the KV API could not carry a TTL past its first write. Whether a user
// wants to be seen has to be known before.
func (p *presence) write(s *session) {
	chosen := s.user.getPrivacy()
	gone, ttl := s.gone.Load(), p.ttl
	switch {
	case gone && s.returns.Load():
		gone, ttl = false, min(returnWithin, p.ttl)
	case gone:
		ttl = streams.PresenceMarkerTTL
	}
	if !chosen.known && !gone {
		return
	}
	m := &nats.Msg{
		Subject: streams.SessionSubject(s.user.name, s.id),
		Header:  nats.Header{jetstream.MsgTTLHeader: {ttl.String()}},
	}
	if gone {
		m.Header["KV-Operation"] = []string{"PURGE"}
		m.Header["Nats-Rollup"] = []string{"sub"}
	} else {
		m.Data = p.value(s, chosen.status)
	}
	// Without a connection the write is lost, as any is that finds the queue full.
	_ = p.conn.PublishMsg(m)
}

func (p *presence) value(s *session, chosen schemas.Status) []byte {
	is := schemas.SessionPresence{Node: p.node, Device: s.device}
	switch {
	case chosen == schemas.Invisible:
		is.Status = schemas.Invisible
	case chosen == schemas.Away, s.away.Load():
		is.Status = schemas.Away
	}
	data, err := json.Marshal(is)
	if err != nil {
		panic("encode presence: " + err.Error()) // names
	}
	return data
}

// used notes that the client said something that is no sign of life alone.
func (s *session) used(now time.Time) {
	s.usedAt.Store(now.Unix())
	if s.away.Load() && s.away.CompareAndSwap(true, false) {
		s.user.live.edge.presence.refresh(s)
	}
}
