package bench

import (
	"context"
	"time"
)

// restFor is how long watchRest watches an idle server. Short runs watch it for a
// fifth of that time.
const restFor = 5 * time.Second

// measurement is what happened between two moments.
type measurement struct {
	elapsed       time.Duration
	operations    uint64
	deliveries    uint64
	cpuSeconds    float64
	residentBytes float64 // at its end
	before, after series
}

// add adds another measurement of the same load.
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
// It calls while with true at the beginning and with false at the end.
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

// watchRest returns the CPU seconds that the server uses without a load, and the time
// in which it used them.
func (r *run) watchRest(ctx context.Context) (cpuSeconds float64, elapsed time.Duration, err error) {
	before, err := r.target.scrape(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := sleep(ctx, r.cfg.restWait()); err != nil {
		return 0, 0, err
	}
	after, err := r.target.scrape(ctx)
	return after[cpuSeries] - before[cpuSeries], time.Since(began), err
}

// restWait is how long watchRest watches a server.
func (cfg Config) restWait() time.Duration {
	if cfg.Short {
		return restFor / 5
	}
	return restFor
}
