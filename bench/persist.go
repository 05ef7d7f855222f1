package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Series of persist.
const (
	storedSeries        = "parley_persist_events_total"
	batchesSeries       = "parley_persist_batches_total"
	commitSecondsSeries = "parley_persist_commit_seconds_sum"
	lagSeries           = "parley_persist_lag_seconds"
)

const (
	// ceilingShare of what the log alone takes is what the edge is given.
	ceilingShare = 0.5
	lagEvery     = 100 * time.Millisecond
	// lagAtEnd is the last part of a measurement, whose worst lag is its result:
	// one sample could fall between two batches, where the lag is none.
	lagAtEnd = 2 * time.Second
)

// persist measures how far the permanent store is behind while the edge takes
// half of what the log alone would, with few and with many busy chats.
func (w storageWorkloads) persist(ctx context.Context) error {
	return w.onEachStore(ctx, persistWorkload, StartOptions{}, func(store testedStore) error {
		return w.persistInto(ctx, store)
	})
}

func (w storageWorkloads) persistInto(ctx context.Context, store testedStore) error {
	ceiling, err := messageWorkloads(w).measureCeiling(ctx, persistWorkload)
	if err != nil {
		return err
	}
	ceiling.Case = store.name + ", ceiling"
	caughtUp, err := w.awaitPersisted(ctx)
	if err != nil {
		return err
	}
	ceiling.figure("persisted after", caughtUp.Seconds(), "s")
	w.add(ceiling)
	for _, chats := range w.sizes.busyChats {
		if err := w.target.quiet(ctx); err != nil {
			return err
		}
		p := &keepingUp{run: w.run, chats: chats, rate: ceiling.Rate * ceilingShare}
		if store.url != "" {
			p.storeCPU = w.cfg.StoreCPU
		}
		if err := p.measure(ctx); err != nil {
			return err
		}
		if caughtUp, err = w.awaitPersisted(ctx); err != nil {
			return err
		}
		result := p.result(fmt.Sprintf("%s, %d busy chats", store.name, chats))
		result.figure("persisted after", caughtUp.Seconds(), "s")
		result.compare(&ceiling, func(ceiling *Result) float64 { return result.Rate / ceiling.Rate })
		result.RatioOf = "its ceiling"
		w.add(result)
	}
	return nil
}

// keepingUp is one measurement of persist under a load.
type keepingUp struct {
	run   *run
	chats int
	rate  float64

	load *busyLoad
	m    measurement
	lags lags

	storeCPU        func() (float64, error) // nil where it is not known
	storeCPUSeconds float64
}

func (p *keepingUp) measure(ctx context.Context) (err error) {
	r := p.run
	r.progress("persist: %.0f sends/s in %d chats", p.rate, p.chats)
	if p.load, err = openBusyLoad(ctx, r, p.chats, p.rate); err != nil {
		return err
	}
	defer p.load.sessions.close()
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, p.load.sessions.close)
	defer stop()
	for _, s := range p.load.sessions {
		group.Go(func() error { return p.load.takeLoop(s) })
	}
	group.Go(func() error {
		if err := p.load.sendLoop(ctx); err != nil {
			return err
		}
		defer p.load.sessions.close()
		return p.load.drain(ctx)
	})
	sampling, stopSampling := context.WithCancel(ctx)
	group.Go(func() error { return p.lags.sampleLoop(sampling, r.target) })
	group.Go(func() (err error) {
		defer p.load.stopping.Store(true)
		defer stopSampling()
		p.m, err = r.measureFor(ctx, r.sizes.persistFor, p.load.counts, p.countStoreCPU)
		return err
	})
	return group.Wait()
}

// countStoreCPU is called at both ends of the measurement.
func (p *keepingUp) countStoreCPU(measuring bool) {
	p.load.measuring.Store(measuring)
	if p.storeCPU == nil {
		return
	}
	seconds, err := p.storeCPU()
	if err != nil {
		p.run.progress("%v", err)
		p.storeCPU = nil
		return
	}
	p.storeCPUSeconds = seconds - p.storeCPUSeconds
}

func (p *keepingUp) result(name string) Result {
	result := Result{Workload: persistWorkload, Case: name, Unit: "acked"}
	result.setLoad(p.m, &p.load.latencies)
	grown := func(series string) float64 { return p.m.after[series] - p.m.before[series] }
	rows, batches := grown(storedSeries), grown(batchesSeries)
	result.figure("lag at the end", p.lags.atEnd().Seconds(), "s")
	result.figure("stored", rows/p.m.elapsed.Seconds(), "rows/s")
	batches = max(batches, 1) // none where the store is slower than the measurement is long
	perBatch, shards := max(rows, 1)/batches, float64(p.load.shards)
	result.figure("rows per batch", perBatch, "")
	// The chats have their turns: a batch has as many of them as it has rows, or all of its shard.
	result.figure("of which in a chat", perBatch/min(perBatch, float64(p.chats)/shards), "")
	result.figure("a shard's batch every", 1000*p.m.elapsed.Seconds()*shards/batches, "ms")
	result.figure("its commit", 1000*grown(commitSecondsSeries)/batches, "ms")
	result.figure("CPU", p.m.cpuSeconds/p.m.elapsed.Seconds(), "cores")
	if p.storeCPU != nil {
		result.figure("the store's", p.storeCPUSeconds/p.m.elapsed.Seconds(), "cores")
	}
	return result
}

// lags are samples of how old the oldest event is that persist has not stored.
type lags struct {
	mu      sync.Mutex
	samples []lag // bounded by the length of a measurement
}

type lag struct {
	at  time.Time
	lag time.Duration
}

// sampleLoop runs until ctx ends.
func (l *lags) sampleLoop(ctx context.Context, target *Target) error {
	for {
		s, err := target.scrape(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			l.mu.Lock()
			l.samples = append(l.samples, lag{time.Now(), time.Duration(s.highest(lagSeries) * float64(time.Second))})
			l.mu.Unlock()
		}
		if err := sleep(ctx, lagEvery); err != nil {
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	}
}

// atEnd is the worst of the last samples.
func (l *lags) atEnd() (worst time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.samples) == 0 {
		return 0
	}
	last := l.samples[len(l.samples)-1].at
	for _, s := range l.samples {
		if last.Sub(s.at) <= lagAtEnd {
			worst = max(worst, s.lag)
		}
	}
	return worst
}
