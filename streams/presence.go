package streams

import (
	"context"
	"errors"
	"fmt"
	"iter"
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
	maxAgeMarker    = "MaxAge"
	// sessionsPerRead is about how many sessions of a user one read has room for.
	sessionsPerRead = 16
)

// SessionKey is a key of the bucket presence: a session of a user, as its edge wrote
// it last, or that it has ended.
type SessionKey struct {
	User    schemas.User
	Session schemas.ID
	Status  schemas.Status // online, away or invisible
	Stored  time.Time
	TTL     time.Duration // from Stored on
	Ended   bool          // the session has
	Expired bool          // nobody wrote the key again; else an edge said that it ended
}

// ParseSession reads a message of the bucket that was stored at a time. It returns
// false for what no edge writes.
func ParseSession(subject string, header nats.Header, data []byte, stored time.Time) (SessionKey, bool) {
	user, session, ok := ParseSessionSubject(subject)
	if !ok {
		return SessionKey{}, false
	}
	key := SessionKey{User: user, Session: session, Stored: stored, Status: schemas.Online}
	if header.Get(markerHeader) != "" || header.Get(operationHeader) != "" {
		key.Ended, key.Expired = true, header.Get(markerHeader) == maxAgeMarker
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
// be missing that was just written, and one be there that was just purged. Of a user
// with more than [MultiLastMax] it visits as many.
func (p *Presence) Sessions(ctx context.Context, users []schemas.User, visit func(SessionKey)) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	for some := range slices.Chunk(users, MultiLastMax/sessionsPerRead) {
		if err := p.sessionsOf(ctx, some, visit); err != nil {
			return fmt.Errorf("read sessions of %d users: %w", len(some), err)
		}
	}
	return nil
}

// sessionsOf asks for fewer users at once where they have more sessions together than
// one answer may hold.
func (p *Presence) sessionsOf(ctx context.Context, users []schemas.User, visit func(SessionKey)) error {
	patterns := make([]string, len(users))
	for i, user := range users {
		patterns[i] = SessionsPattern(user)
	}
	err := p.lasts(ctx, patterns, visit)
	switch {
	case !errors.Is(err, jetstreamext.ErrBatchUnsupported): // which is what the library makes of too many results
		return err
	case len(users) == 1:
		msgs, err := jetstreamext.GetBatch(ctx, p.js, PresenceStream, MultiLastMax, jetstreamext.GetBatchSubject(patterns[0]))
		return visitSessions(msgs, err, visit)
	}
	half := len(users) / 2
	if err := p.sessionsOf(ctx, users[:half], visit); err != nil {
		return err
	}
	return p.sessionsOf(ctx, users[half:], visit)
}

// Keys visits those of keys, which need have no more than a user and a session, that
// some replica has.
func (p *Presence) Keys(ctx context.Context, keys []SessionKey, visit func(SessionKey)) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	for some := range slices.Chunk(keys, MultiLastMax) {
		subjects := make([]string, len(some))
		for i := range some {
			subjects[i] = SessionSubject(some[i].User, some[i].Session)
		}
		if err := p.lasts(ctx, subjects, visit); err != nil {
			return fmt.Errorf("read %d sessions: %w", len(some), err)
		}
	}
	return nil
}

func (p *Presence) lasts(ctx context.Context, subjects []string, visit func(SessionKey)) error {
	msgs, err := jetstreamext.GetLastMsgsFor(ctx, p.js, PresenceStream, subjects)
	return visitSessions(msgs, err, visit)
}

func visitSessions(msgs iter.Seq2[*jetstream.RawStreamMsg, error], err error, visit func(SessionKey)) error {
	if err != nil {
		return err
	}
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil
		}
		if err != nil {
			return err
		}
		if key, ok := ParseSession(msg.Subject, msg.Header, msg.Data, msg.Time); ok {
			visit(key)
		}
	}
	return nil
}
