package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"parley/schemas"
	"parley/streams"
)

// Config says what to measure and on which server: either Start or Target is set.
type Config struct {
	// Start starts a server of its own in a temporary directory, as a child
	// process, so that its CPU time and memory are its own.
	Start func(context.Context, StartOptions) (*Target, error)
	// Target is a running server. It has to admit the load: a refusal ends the workload.
	Target *Target
	// OpenStore opens the store at Target.StorePath for reading, for history's
	// comparison. default: history is not compared
	OpenStore func(ctx context.Context, path string) (Store, error)

	Workloads []string      // some of [Workloads]; default: all
	Duration  time.Duration // of each measurement; default: 10s, 1s with Short
	Warmup    time.Duration // before it; default: 2s, 200ms with Short
	Short     bool          // a tenth of each size, to see that it works
	TextBytes int           // of each message; default: 64
	NATSNodes int           // of a server that is started; default: 1

	JSON     bool      // print one line of JSON for each result, not a table
	Out      io.Writer // gets the results
	Progress io.Writer // default: io.Discard
}

// StartOptions are what a server needs to admit the load. It has no limits on
// the rates of users and addresses.
type StartOptions struct {
	NATSNodes   int
	SessionsMax int
}

// Target is a server to measure.
type Target struct {
	WebSocketURL string                // ws://host:port/v1/ws
	AdminURL     string                // http://host:port: /metrics and /debug/free
	NATS         streams.ConnectConfig // as the edge connects
	StorePath    string                // default: unknown, and history is not compared
	Token        func(schemas.User) (string, error)
	Stop         func() error // default: nothing to stop
}

// Store is the permanent store without a server before it.
type Store interface {
	// Newest returns the newest limit events of chat by rising seq.
	Newest(ctx context.Context, chat schemas.Chat, limit int) ([]schemas.StoredEvent, error)
	Close() error
}

// Names of the workloads.
const (
	ceilingWorkload = "ceiling"
	directWorkload  = "direct"
	fanoutWorkload  = "fanout"
	latencyWorkload = "latency"
	historyWorkload = "history"
	idleWorkload    = "idle"
	stormWorkload   = "storm"
)

// Workloads returns the names of all workloads, in the order in which they run.
func Workloads() []string {
	return []string{ceilingWorkload, directWorkload, fanoutWorkload, latencyWorkload, historyWorkload, idleWorkload, stormWorkload}
}

// sizes are how much of everything a run has.
type sizes struct {
	pairs       int   // of direct, and chats of ceiling and latency
	inFlight    []int // sends of each pair
	fanouts     []int // sessions
	connections int   // of idle and storm
	events      int   // in the chat of history
	readers     int   // of that chat
	sendRate    int   // of latency, per second
}

func (cfg Config) sizes() sizes {
	s := sizes{pairs: 100, inFlight: []int{1, 16}, fanouts: []int{100, 1000}, connections: 10_000, events: 10_000, readers: 10, sendRate: 300}
	if cfg.Short {
		s.pairs, s.fanouts, s.connections, s.events = 10, []int{10, 100}, 1000, 1000
	}
	return s
}

// sessionsMax is room for the largest workload, and for connections that were
// closed and that the server still counts.
func (s sizes) sessionsMax() int { return 2*s.connections + 1000 }

// Validate reports every fault at once.
func (cfg Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if (cfg.Start == nil) == (cfg.Target == nil) {
		fault("either a server to start or a running one is needed")
	}
	if cfg.Out == nil {
		fault("there is nowhere to write results to")
	}
	for _, name := range cfg.Workloads {
		if !slices.Contains(Workloads(), name) {
			fault("workload %q is unknown: they are %v", name, Workloads())
		}
	}
	if cfg.TextBytes < 0 || cfg.TextBytes > schemas.BodyBytesMax/2 {
		fault("text bytes %d: from 1 to %d", cfg.TextBytes, schemas.BodyBytesMax/2)
	}
	if cfg.Duration < 0 || cfg.Warmup < 0 {
		fault("duration %v and warm-up %v are not negative", cfg.Duration, cfg.Warmup)
	}
	return errors.Join(faults...)
}

func (cfg Config) withDefaults() Config {
	if len(cfg.Workloads) == 0 {
		cfg.Workloads = Workloads()
	}
	duration, warmup := 10*time.Second, 2*time.Second
	if cfg.Short {
		duration, warmup = time.Second, 200*time.Millisecond
	}
	if cfg.Duration == 0 {
		cfg.Duration = duration
	}
	if cfg.Warmup == 0 {
		cfg.Warmup = warmup
	}
	if cfg.TextBytes == 0 {
		cfg.TextBytes = 64
	}
	if cfg.NATSNodes == 0 {
		cfg.NATSNodes = 1
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	return cfg
}
