package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

// run is one run of workloads.
type run struct {
	cfg     Config
	sizes   sizes
	target  *Target
	name    string // tells this run's users and messages from those of others
	results []Result
	served  kindOfServer // what target was started for
}

// Run measures and writes the results to cfg.Out: a table at the end, or each
// as a line of JSON once it is there. It ends at the first workload that fails.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	sizes := cfg.sizes() // a duration that is given is persist's too
	cfg = cfg.withDefaults()
	r := &run{cfg: cfg, sizes: sizes, target: cfg.Target, name: strings.ToLower(rand.Text()[:6])}
	failed := r.workloads(ctx)
	failed = errors.Join(failed, r.stopServer())
	if !cfg.JSON && len(r.results) > 0 {
		failed = errors.Join(failed, writeTable(cfg.Out, r.results))
	}
	return failed
}

func (r *run) workloads(ctx context.Context) error {
	for _, name := range r.cfg.Workloads {
		kind := serverOf(name)
		if err := r.serve(ctx, kind); err != nil {
			return err
		}
		if kind != noServer {
			if err := r.target.quiet(ctx); err != nil {
				return err
			}
		}
		r.progress("%s", name)
		before := len(r.results)
		if err := r.workload(ctx, name); err != nil {
			return fmt.Errorf("workload %s: %w", name, err)
		}
		for _, result := range r.results[before:] {
			if r.cfg.JSON {
				if err := writeJSONLine(r.cfg.Out, result); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Kinds of workloads, by the server that they share.
type kindOfServer int

const (
	noServer kindOfServer = iota // they start what they need
	ofMessages
	// ofConnections have a new one: what messages left in a server's memory would
	// blur what a connection takes.
	ofConnections
)

func serverOf(workload string) kindOfServer {
	switch workload {
	case replicasWorkload, restartWorkload, persistWorkload, pagesWorkload, connectWorkload, chatsWorkload, createWorkload, presenceWorkload:
		return noServer
	case idleWorkload, stormWorkload:
		return ofConnections
	default:
		return ofMessages
	}
}

// serve starts the server of a workload, unless the one before left it.
func (r *run) serve(ctx context.Context, kind kindOfServer) error {
	if r.cfg.Start == nil || kind == r.served {
		return nil
	}
	if err := r.stopServer(); err != nil {
		return err
	}
	r.served = kind
	if kind == noServer {
		return nil
	}
	return r.startServer(ctx, StartOptions{NATSNodes: r.cfg.NATSNodes})
}

// startServer starts a server and waits until it has come to rest.
func (r *run) startServer(ctx context.Context, options StartOptions) error {
	r.progress("starting a server")
	options.SessionsMax = r.sizes.sessionsMax()
	target, err := r.cfg.Start(ctx, options)
	if err != nil {
		return fmt.Errorf("start a server: %w", err)
	}
	r.target = target
	return r.target.quiet(ctx)
}

// stopServer stops the server that was started, if there is one.
func (r *run) stopServer() error {
	if r.cfg.Start == nil || r.target == nil || r.target.Stop == nil {
		return nil
	}
	stop := r.target.Stop
	r.target = nil
	if err := stop(); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	return nil
}

// withServer calls do with a server of its own.
func (r *run) withServer(ctx context.Context, options StartOptions, do func() error) error {
	if err := r.startServer(ctx, options); err != nil {
		return errors.Join(err, r.stopServer())
	}
	return errors.Join(do(), r.stopServer())
}

func (r *run) workload(ctx context.Context, name string) error {
	switch name {
	case ceilingWorkload:
		return r.ceiling(ctx)
	case directWorkload:
		for _, inFlight := range r.sizes.inFlight {
			if err := r.direct(ctx, inFlight); err != nil {
				return err
			}
		}
		return nil
	case fanoutWorkload:
		for _, sessions := range r.sizes.fanouts {
			if err := r.fanout(ctx, sessions); err != nil {
				return err
			}
		}
		return nil
	case groupWorkload:
		for _, members := range r.sizes.fanouts {
			if err := r.group(ctx, members); err != nil {
				return err
			}
		}
		return nil
	case latencyWorkload:
		return r.latency(ctx)
	case receiptsWorkload:
		return r.receipts(ctx)
	case historyWorkload:
		return r.history(ctx)
	case idleWorkload:
		return r.idle(ctx)
	case stormWorkload:
		return r.storm(ctx)
	case replicasWorkload:
		return r.replicas(ctx)
	case restartWorkload:
		return r.restart(ctx)
	case persistWorkload:
		return r.persist(ctx)
	case connectWorkload:
		return r.connect(ctx)
	case chatsWorkload:
		return r.chats(ctx)
	case createWorkload:
		return r.create(ctx)
	case presenceWorkload:
		return r.presence(ctx)
	default:
		return r.pages(ctx)
	}
}

func (r *run) progress(format string, args ...any) {
	fmt.Fprintf(r.cfg.Progress, "bench: "+format+"\n", args...)
}

func (r *run) add(result Result) {
	r.results = append(r.results, result)
	r.progress("%s", result.line())
}

// user returns this run's user of that name.
func (r *run) user(format string, args ...any) schemas.User {
	user, err := schemas.ParseUser("bench-" + r.name + "-" + fmt.Sprintf(format, args...))
	if err != nil {
		panic(err) // the names are ours
	}
	return user
}

// log connects to NATS as an edge does.
func (r *run) log(ctx context.Context) (*nats.Conn, jetstream.JetStream, streams.Layout, error) {
	return connectLog(ctx, r.target.NATS)
}

// connectLog connects and reads the layout.
func connectLog(ctx context.Context, config streams.ConnectConfig) (*nats.Conn, jetstream.JetStream, streams.Layout, error) {
	js, err := openJetStream(ctx, config)
	if err != nil {
		return nil, nil, streams.Layout{}, err
	}
	layout, err := streams.LoadLayout(ctx, js)
	if err != nil {
		js.Conn().Close()
		return nil, nil, streams.Layout{}, err
	}
	return js.Conn(), js, layout, nil
}

// openJetStream connects; who is done closes the connection.
func openJetStream(ctx context.Context, config streams.ConnectConfig) (jetstream.JetStream, error) {
	conn, err := streams.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return js, nil
}

// measurement is what happened between two moments.
type measurement struct {
	elapsed       time.Duration
	operations    uint64
	deliveries    uint64
	cpuSeconds    float64
	residentBytes float64 // at its end
	before, after series
}

// add takes in another measurement of the same.
func (m *measurement) add(other measurement) {
	m.elapsed += other.elapsed
	m.operations += other.operations
	m.deliveries += other.deliveries
	m.cpuSeconds += other.cpuSeconds
	m.residentBytes = other.residentBytes
}

// counts are read at both ends of a measurement.
type counts struct {
	operations, deliveries uint64
}

// measure waits for the warm-up and then measures for the run's duration.
// while is called with true at its beginning and with false at its end.
func (r *run) measure(ctx context.Context, read func() counts, while func(bool)) (measurement, error) {
	return r.measureFor(ctx, r.cfg.Duration, read, while)
}

func (r *run) measureFor(ctx context.Context, duration time.Duration, read func() counts, while func(bool)) (measurement, error) {
	if err := sleep(ctx, r.cfg.Warmup); err != nil {
		return measurement{}, err
	}
	before, err := r.target.scrape(ctx)
	if err != nil {
		return measurement{}, err
	}
	began, first := time.Now(), read()
	while(true)
	err = sleep(ctx, duration)
	while(false)
	if err != nil {
		return measurement{}, err
	}
	elapsed, last := time.Since(began), read()
	after, err := r.target.scrape(ctx)
	if err != nil {
		return measurement{}, err
	}
	return measurement{
		elapsed:       elapsed,
		operations:    last.operations - first.operations,
		deliveries:    last.deliveries - first.deliveries,
		cpuSeconds:    after[cpuSeries] - before[cpuSeries],
		residentBytes: after[residentSeries],
		before:        before,
		after:         after,
	}, nil
}
