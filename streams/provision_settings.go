package streams

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// What a new system is provisioned with where [Settings] says nothing.
const (
	defaultShards     = 8
	defaultReplicas   = 1
	defaultMaxAge     = 24 * time.Hour
	defaultDuplicates = 2 * time.Minute
	defaultMaxBytes   = 1 << 30
	// maxBytesMin ends the search for a size that the disk has room for.
	maxBytesMin = 64 << 20
)

// Settings of provisioning. A zero field leaves what is provisioned as it is;
// a new system gets the default.
type Settings struct {
	Shards     int           // chat streams, fixed at the first provisioning; default: 8
	Replicas   int           // 1, 3 or 5, of every stream; default: 1
	MaxAge     time.Duration // of the log, the hot tier; default: 24h
	MaxBytes   int64         // of each chat stream, reserved on the disk; default: 1 GiB, or what of it there is room for
	Duplicates time.Duration // how long a publish is known by its id; default: 2m
	// Stored is what the permanent store knows of the shards, last committed
	// sequences by token: a shard that it is ahead of is lost. It has to be read
	// before, and shards that it does not know are to be written to it after.
	Stored map[string]uint64 // default: nothing
	// RemakeLost lays lost shards anew in the next generation; without it they are refused.
	RemakeLost bool
	// Services are consumers for others: each gets a durable pull consumer of
	// its name on every chat stream. nats.conf has a user for the name service.
	Services []string // default: none
}

// Validate reports every fault at once.
func (s Settings) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.Shards < 0 || s.Shards > ShardsMax {
		fault("shards %d: from 1 to %d", s.Shards, ShardsMax)
	}
	if s.Replicas != 0 && s.Replicas != 1 && s.Replicas != 3 && s.Replicas != 5 {
		fault("replicas %d: 1, 3 or 5", s.Replicas)
	}
	if s.MaxAge < 0 || s.Duplicates < 0 || s.MaxBytes < 0 {
		fault("age %v, bytes %d and duplicates %v are not negative", s.MaxAge, s.MaxBytes, s.Duplicates)
	}
	if s.MaxAge > 0 && s.Duplicates > s.MaxAge {
		fault("duplicates %v: at most the age of the log, %v", s.Duplicates, s.MaxAge)
	}
	for _, name := range s.Services {
		if !validConsumerName(name) {
			fault("service %q: 1 to 64 of A-Z a-z 0-9 _ -, and not %s", name, PersistConsumer)
		}
	}
	return errors.Join(faults...)
}

func validConsumerName(name string) bool {
	if name == "" || len(name) > 64 || name == PersistConsumer {
		return false
	}
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-') {
			return false
		}
	}
	return true
}

// withDefaults is for what is new: no field is zero afterwards.
func (s Settings) withDefaults() Settings {
	s.Shards = cmp.Or(s.Shards, defaultShards)
	s.Replicas = cmp.Or(s.Replicas, defaultReplicas)
	s.MaxAge = cmp.Or(s.MaxAge, defaultMaxAge)
	s.MaxBytes = cmp.Or(s.MaxBytes, defaultMaxBytes)
	s.Duplicates = cmp.Or(s.Duplicates, min(defaultDuplicates, s.MaxAge))
	return s
}
