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
	"parley/workers/store"
)

// Config says what to measure and on which server: either Start or Target is set.
type Config struct {
	// Start starts a server of its own in a temporary directory, as a child
	// process, so that its CPU time and memory are its own.
	Start func(context.Context, StartOptions) (*Target, error)
	// Target is a running server. It has to admit the load: a refusal ends the workload.
	Target *Target
	// StartLog starts a NATS server alone, as a child process, for restart
	// and presence. default: as Start, and they cannot run
	StartLog func(context.Context, LogOptions) (*LogServer, error)
	// StartWorker starts a process of workers at a NATS server that StartLog has
	// started, for presence. default: presence cannot run
	StartWorker func(context.Context, WorkerOptions) (*WorkerServer, error)
	// OpenStore opens the store at Target.StorePath for reading, for history's
	// comparison. default: history is not compared
	OpenStore func(ctx context.Context, path string) (Store, error)
	// NewStore opens the store at a URL, like sqlite:///tmp/pages.db, and makes its
	// tables, for pages and presence. default: they cannot run
	NewStore func(ctx context.Context, url string) (WritableStore, error)

	Workloads []string      // some of [Workloads]; default: all that can run
	Duration  time.Duration // of each measurement; default: 10s, 60s of persist; with Short 1s and 6s
	Warmup    time.Duration // before it; default: 2s, 200ms with Short
	Short     bool          // a tenth of each size, to see that it works
	TextBytes int           // of each message; default: 64
	NATSNodes int           // of a server that is started; default: 1
	StoreURL  string        // of a store that is measured beside SQLite: see [run.onEachStore]; default: none
	// StoreCPU returns the CPU seconds that the process of StoreURL has used.
	// default: unknown, and not told
	StoreCPU  func() (float64, error)
	LogEvents int // in the log of restart; default: 10,000,000, with Short 100,000
	LogChats  int // in the log of restart; default: 1,000,000, with Short 10,000

	JSON     bool      // print one line of JSON for each result, not a table
	Out      io.Writer // gets the results
	Progress io.Writer // default: io.Discard
}

// StartOptions are what a server needs to admit the load. It has no limits on
// the rates of users and addresses.
type StartOptions struct {
	NATSNodes   int
	SessionsMax int
	Shards      int           // default: 8
	MaxAge      time.Duration // of the log; default: 24h
	Store       string        // URL of the permanent store; default: SQLite, in the server's directory
	Heartbeat   time.Duration // of the edge; default: 30s
}

// LogOptions say what a NATS server alone is started on.
type LogOptions struct {
	Dir  string // of all its data and secrets; kept when it ends
	Sync string // its sync_interval: always, or a duration
}

// LogServer is a NATS server alone.
type LogServer struct {
	AdminURL     string // http://host:port: /metrics and /debug/free
	Worker, Edge streams.ConnectConfig
	Stop         func() error // in order
	Kill         func() error // at once
}

// WorkerOptions say what workers are started at.
type WorkerOptions struct {
	Log   *LogServer // provisioned
	Only  string     // the worker's name, like presence
	Store string     // URL of a store that has its tables
}

// WorkerServer is a process of workers.
type WorkerServer struct {
	AdminURL string       // http://host:port: /metrics and /debug/free
	Stop     func() error // in order
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
	Page(ctx context.Context, chat schemas.Chat, rng store.Range) (events []store.Event, more bool, err error)
	Close() error
}

// WritableStore is a Store to fill.
type WritableStore interface {
	Store
	Commit(ctx context.Context, b store.Batch) error
	SetSeen(ctx context.Context, seen map[schemas.User]time.Time) error
}

// Names of the workloads.
const (
	ceilingWorkload  = "ceiling"
	directWorkload   = "direct"
	fanoutWorkload   = "fanout"
	latencyWorkload  = "latency"
	historyWorkload  = "history"
	idleWorkload     = "idle"
	stormWorkload    = "storm"
	replicasWorkload = "replicas"
	restartWorkload  = "restart"
	persistWorkload  = "persist"
	pagesWorkload    = "pages"
	groupWorkload    = "group"
	connectWorkload  = "connect"
	chatsWorkload    = "chats"
	createWorkload   = "create"
	receiptsWorkload = "receipts"
	presenceWorkload = "presence"
)

// Workloads returns the names of all workloads, in the order in which they run.
func Workloads() []string {
	return []string{ceilingWorkload, directWorkload, fanoutWorkload, groupWorkload, latencyWorkload, receiptsWorkload, historyWorkload, idleWorkload, stormWorkload,
		replicasWorkload, restartWorkload, persistWorkload, pagesWorkload, connectWorkload, chatsWorkload, createWorkload, presenceWorkload}
}

// canRun tells whether all is given that a workload needs.
func (cfg Config) canRun(workload string) bool {
	switch workload {
	case replicasWorkload, persistWorkload, connectWorkload, chatsWorkload, createWorkload:
		return cfg.Start != nil
	case restartWorkload:
		return cfg.StartLog != nil
	case pagesWorkload:
		return cfg.NewStore != nil
	case presenceWorkload:
		return cfg.Start != nil && cfg.StartLog != nil && cfg.StartWorker != nil && cfg.NewStore != nil
	default:
		return true
	}
}

// sizes are how much of everything a run has.
type sizes struct {
	pairs       int   // of direct, and chats of ceiling and latency
	inFlight    []int // sends of each pair
	fanouts     []int // sessions, and members of group
	connections int   // of idle and storm
	events      int   // in the chat of history
	readers     int   // of that chat
	sendRate    int   // of latency, per second

	logEvents, logChats int           // of restart
	busyChats           []int         // of persist
	persistFor          time.Duration // each of them
	pageEvents          []int         // in the chats of pages, the first the one to compare with

	userGroups   int   // of the user of connect
	listChats    int   // of the user of chats
	listMessages []int // in each of them, one measurement after the other
	groupMembers int   // of create
	creations    int

	receiptCrowds    []receiptCrowd
	receiptTurns     int   // without receipts, and as many with them
	presenceKeys     []int // in the bucket, one measurement after the other
	presenceSessions int
	watchers         int
	coldQuestions    int // about users of whom the store is asked
}

func (cfg Config) sizes() sizes {
	s := sizes{pairs: 100, inFlight: []int{1, 16}, fanouts: []int{100, 1000}, connections: 10_000, events: 10_000, readers: 10, sendRate: 300,
		logEvents: 10_000_000, logChats: 1_000_000, busyChats: []int{100, 1000, 10_000}, persistFor: time.Minute, pageEvents: []int{1000, 1_000_000},
		userGroups: 200, listChats: 500, listMessages: []int{10, 100}, groupMembers: schemas.UsersMax, creations: 10,
		receiptCrowds: []receiptCrowd{{"busy", 100, 20, []time.Duration{0}}, {"quiet", 2000, 0.5, []time.Duration{0, time.Second}}}, receiptTurns: 4,
		presenceKeys: []int{10_000, 50_000}, presenceSessions: 10_000, watchers: 100, coldQuestions: 250}
	if cfg.Short {
		s.pairs, s.fanouts, s.connections, s.events = 10, []int{10, 100}, 1000, 1000
		s.logEvents, s.logChats, s.busyChats, s.persistFor, s.pageEvents = 100_000, 10_000, []int{10, 100, 1000}, 6*time.Second, []int{1000, 100_000}
		s.userGroups, s.listChats, s.listMessages, s.groupMembers, s.creations = 20, 50, []int{2, 20}, schemas.UsersMax/10, 3
		s.receiptCrowds, s.receiptTurns = []receiptCrowd{{"busy", 10, 20, []time.Duration{0}}, {"quiet", 100, 1, []time.Duration{0, time.Second}}}, 1
		s.presenceKeys, s.presenceSessions, s.watchers, s.coldQuestions = []int{1000}, 1000, 10, 25
	}
	if cfg.Duration > 0 {
		s.persistFor = cfg.Duration
	}
	if cfg.LogChats > 0 {
		s.logChats = cfg.LogChats
	}
	if cfg.LogEvents > 0 {
		s.logEvents = cfg.LogEvents
	}
	return s
}

// inFlightMax is the most sends in flight of a pair in direct.
func (s sizes) inFlightMax() int { return s.inFlight[len(s.inFlight)-1] }

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
		} else if !cfg.canRun(name) {
			fault("workload %q starts servers of its own: it does not measure one that runs", name)
		}
	}
	if cfg.TextBytes < 0 || cfg.TextBytes > schemas.BodyBytesMax/2 {
		fault("text bytes %d: from 1 to %d", cfg.TextBytes, schemas.BodyBytesMax/2)
	}
	if cfg.Duration < 0 || cfg.Warmup < 0 {
		fault("duration %v and warm-up %v are not negative", cfg.Duration, cfg.Warmup)
	}
	if sizes := cfg.sizes(); cfg.LogEvents < 0 || cfg.LogChats < 0 || sizes.logEvents < 2*sizes.logChats {
		fault("%d events in %d chats: at least two in each", sizes.logEvents, sizes.logChats)
	}
	return errors.Join(faults...)
}

func (cfg Config) withDefaults() Config {
	if len(cfg.Workloads) == 0 {
		cfg.Workloads = slices.DeleteFunc(Workloads(), func(name string) bool { return !cfg.canRun(name) })
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
