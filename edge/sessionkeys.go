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
	// keyQueueMax bounds the keys that wait to be written. What does not fit is left
	// out: it is written the next time, or ends with its TTL.
	keyQueueMax = 1 << 14
	// ttlHeartbeats is how long a key lives that is not written again, in heartbeats, and
	// refreshesPerTTL how often it is in that time, each 12 s at a heartbeat of 30 s. So
	// there is always more than a minute left: NATS may be away for that long.
	ttlHeartbeats   = 2.5
	refreshesPerTTL = 6
	// returnWithin is how long a session is still shown that was told to come back at once.
	returnWithin = 15 * time.Second
)

// sessionKeys keeps a key <user>.<session> in the bucket presence for as long as a
// session lives: written at its welcome and again and again, with a TTL, and purged
// at its end. A killed edge's keys end by themselves. What they mean for a user, the
// worker presence says.
type sessionKeys struct {
	*base
	ttl   time.Duration
	queue chan *session
}

func newSessionKeys(b *base, heartbeat time.Duration) *sessionKeys {
	return &sessionKeys{base: b, ttl: keyTTL(heartbeat), queue: make(chan *session, keyQueueMax)}
}

func keyTTL(heartbeat time.Duration) time.Duration {
	return (time.Duration(float64(heartbeat)*ttlHeartbeats) + time.Second - 1).Truncate(time.Second) // NATS counts in seconds
}

// refresh has a session's key written as the session is when its turn comes: there,
// away, or gone.
func (k *sessionKeys) refresh(s *session) {
	select {
	case k.queue <- s:
	default:
	}
}

// run writes keys until ctx ends, and then what is left of them.
func (k *sessionKeys) run(ctx context.Context) {
	for {
		select {
		case s := <-k.queue:
			k.write(s)
		case <-ctx.Done():
			for {
				select {
				case s := <-k.queue:
					k.write(s)
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
func (k *sessionKeys) write(s *session) {
	chosen := s.user.getPrivacy()
	gone, ttl := s.gone.Load(), k.ttl
	switch {
	case gone && s.returns.Load():
		gone, ttl = false, min(returnWithin, k.ttl)
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
		m.Data = k.value(s, chosen.status)
	}
	// Without a connection the write is lost, as any is that finds the queue full.
	_ = k.conn.PublishMsg(m)
}

func (k *sessionKeys) value(s *session, chosen schemas.Status) []byte {
	is := schemas.SessionPresence{Node: k.name, Device: s.device}
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
