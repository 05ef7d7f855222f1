package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"parley/schemas"
)

const (
	// watchInactive is how long the server keeps the consumer of a watch that is gone.
	watchInactive = time.Minute
	// Headers by which a message of the bucket tells that a session has ended.
	operationHeader = "KV-Operation"
	markerHeader    = "Nats-Marker-Reason"
)

// SessionKey is a key of the bucket presence: a session of a user, as its edge wrote
// it last, or that it has ended.
type SessionKey struct {
	User    schemas.User
	Session schemas.ID
	Status  schemas.Status // online, away or invisible
	Seq     uint64
	Stored  time.Time
	TTL     time.Duration // from Stored on
	Ended   bool          // the session has
	Expired bool          // nobody wrote the key again; else an edge said that it ended
}

// ParseSession reads a message of the bucket; seq and stored are its place there.
// It returns false for what no edge writes.
func ParseSession(subject string, header nats.Header, data []byte, seq uint64, stored time.Time) (SessionKey, bool) {
	user, session, ok := ParsePresence(subject)
	if !ok {
		return SessionKey{}, false
	}
	key := SessionKey{User: user, Session: session, Seq: seq, Stored: stored, Status: schemas.Online}
	if header.Get(markerHeader) != "" || header.Get(operationHeader) != "" {
		key.Ended, key.Expired = true, header.Get(markerHeader) == string(maxAgeMarker)
		return key, true
	}
	var is schemas.SessionPresence
	if err := json.Unmarshal(data, &is); err != nil {
		return SessionKey{}, false
	}
	if is.Status == schemas.Away || is.Status == schemas.Invisible {
		key.Status = is.Status
	}
	var err error
	key.TTL, err = time.ParseDuration(header.Get(jetstream.MsgTTLHeader))
	return key, err == nil && key.TTL > 0
}

const maxAgeMarker = "MaxAge"

// Presence reads the bucket presence.
type Presence struct{ js jetstream.JetStream }

// NewPresence returns one.
func NewPresence(js jetstream.JetStream) *Presence { return &Presence{js: js} }

// Watch returns a consumer of the keys as they are, whose number it tells, and of what
// becomes of them.
func (p *Presence) Watch(ctx context.Context) (consumer jetstream.Consumer, keys uint64, err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	consumer, err = p.js.CreateConsumer(ctx, PresenceStream, jetstream.ConsumerConfig{
		Description:       "who is online",
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubject:     presencePrefix + ">",
		InactiveThreshold: watchInactive,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return nil, 0, fmt.Errorf("watch %s: %w", PresenceStream, err)
	}
	return consumer, consumer.CachedInfo().NumPending, nil
}

// Made returns when the bucket was made: another time is another bucket.
func (p *Presence) Made(ctx context.Context) (time.Time, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	stream, err := p.js.Stream(ctx, PresenceStream)
	if err != nil {
		return time.Time{}, fmt.Errorf("look at %s: %w", PresenceStream, err)
	}
	return stream.CachedInfo().Created, nil
}

// Sessions visits the keys of all sessions of users, as some replica has them: one may
// be missing that was just written, and one be there that was just purged.
func (p *Presence) Sessions(ctx context.Context, users []schemas.User, visit func(SessionKey)) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	for some := range slices.Chunk(users, MultiLastMax) {
		patterns := make([]string, len(some))
		for i, user := range some {
			patterns[i] = PresenceOfUser(user)
		}
		msgs, err := jetstreamext.GetLastMsgsFor(ctx, p.js, PresenceStream, patterns)
		if err != nil {
			return fmt.Errorf("read sessions of %d users: %w", len(some), err)
		}
		for msg, err := range msgs {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				break
			}
			if err != nil {
				return fmt.Errorf("read sessions of %d users: %w", len(some), err)
			}
			if key, ok := ParseSession(msg.Subject, msg.Header, msg.Data, msg.Sequence, msg.Time); ok {
				visit(key)
			}
		}
	}
	return nil
}
