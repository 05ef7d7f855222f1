package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"parley/schemas"
)

// run is one run of workloads. It holds what all workloads share: the sizes, the
// server to measure, the names of users and the results.
type run struct {
	cfg     Config
	sizes   sizes
	target  *Target
	name    string // part of the names of this run's users and messages: no other run has it
	results []Result
	served  kindOfServer // the kind for which target was started
}

// Run measures and writes the results to cfg.Out: a table at the end, or each
// as a line of JSON once it is there. It ends at the first workload that fails.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	sizes := cfg.sizes() // before the defaults: persist takes only a duration that the caller gave
	cfg = cfg.withDefaults()
	r := &run{cfg: cfg, sizes: sizes, target: cfg.Target, name: strings.ToLower(rand.Text()[:6])}
	failed := r.workloads(ctx)
	failed = errors.Join(failed, r.stopServer())
	if !cfg.JSON && len(r.results) > 0 {
		failed = errors.Join(failed, writeTable(cfg.Out, r.results))
	}
	return failed
}

// workloads runs the workloads of the configuration, one after the other.
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
		if err := r.workload(name)(ctx); err != nil {
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

// serve starts the server of a workload. If the previous workload had the same
// kind of server, that server stays.
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

// startServer starts a server and waits until it is at rest.
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

// stopServer stops the server that startServer started, if there is one.
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

// withServer calls do while a server of its own runs.
func (r *run) withServer(ctx context.Context, options StartOptions, do func() error) error {
	if err := r.startServer(ctx, options); err != nil {
		return errors.Join(err, r.stopServer())
	}
	return errors.Join(do(), r.stopServer())
}

// onEachStore calls do for each tested store, while a server on that store runs.
func (r *run) onEachStore(ctx context.Context, workload string, options StartOptions, do func(testedStore) error) error {
	options.NATSNodes = r.cfg.NATSNodes
	for _, store := range r.testedStores(workload) {
		options.Store = store.url
		if err := r.withServer(ctx, options, func() error { return do(store) }); err != nil {
			return fmt.Errorf("store %s: %w", store.name, err)
		}
	}
	return nil
}

// testedStore is a permanent store with which a workload runs.
type testedStore struct {
	name string
	url  string // "": SQLite, in the directory of the server
}

// testedStores returns SQLite, and the store of cfg.StoreURL. Each workload of each run
// uses its own keyspace in that store, because a store belongs to one log.
func (r *run) testedStores(workload string) []testedStore {
	stores := []testedStore{{name: "sqlite"}}
	if r.cfg.StoreURL != "" {
		scheme, _, _ := strings.Cut(r.cfg.StoreURL, "://")
		url, options, found := strings.Cut(r.cfg.StoreURL, "?")
		url += "_" + r.name + "_" + workload
		if found {
			url += "?" + options
		}
		stores = append(stores, testedStore{scheme, url})
	}
	return stores
}

// user returns the user of that name in this run.
func (r *run) user(format string, args ...any) schemas.User {
	user, err := schemas.ParseUser("bench-" + r.name + "-" + fmt.Sprintf(format, args...))
	if err != nil {
		panic(err) // the format is a constant of this package
	}
	return user
}

func (r *run) progress(format string, args ...any) {
	fmt.Fprintf(r.cfg.Progress, "bench: "+format+"\n", args...)
}

func (r *run) add(result Result) {
	r.results = append(r.results, result)
	r.progress("%s", result.line())
}

// find returns the first result of a workload in this run, nil if there is none.
func (r *run) find(workload string) *Result {
	for i := range r.results {
		if r.results[i].Workload == workload {
			return &r.results[i]
		}
	}
	return nil
}
