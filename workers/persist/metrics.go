package persist

import (
	"sync"
	"time"

	"parley/workers/worker"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events      prometheus.Counter
	batches     prometheus.Counter
	batchRows   prometheus.Histogram
	commit      prometheus.Histogram
	holes       prometheus.Counter
	gone        prometheus.Counter
	lost        prometheus.Counter
	deadLetters prometheus.Counter
	takeovers   prometheus.Counter
	storeUp     prometheus.Gauge
	pending     *prometheus.GaugeVec
	lag         *lagCollector
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_persist_" + name, Help: help})
	}
	m := &metrics{
		events:      counter("events_total", "Events committed to the store."),
		batches:     counter("batches_total", "Commits to the store."),
		holes:       counter("holes_total", "Sequences that the consumer skipped and that were read from the log."),
		gone:        counter("gone_total", "Sequences that the log does not hold any more: deleted within the log."),
		lost:        counter("lost_total", "Sequences that expired or were purged before they were persisted."),
		deadLetters: counter("dead_letters_total", "Events given up and written to the stream DEAD."),
		takeovers:   counter("takeovers_total", "Times that this process became the owner of a shard."),
		batchRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_persist_batch_rows", Help: "Events of one commit.",
			Buckets: []float64{1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000},
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_persist_commit_seconds", Help: "Time of one commit to the store.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		storeUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_persist_store_up", Help: "1 while the store serves.",
		}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "parley_persist_pending", Help: "Events of the shard that its consumer was not given yet, where this process owns it.",
		}, []string{"shard"}),
		lag: &lagCollector{oldest: make(map[string]time.Time)},
	}
	m.storeUp.Set(1)
	return m, worker.Register(reg, "persist", m.events, m.batches, m.batchRows, m.commit, m.holes, m.gone, m.lost,
		m.deadLetters, m.takeovers, m.storeUp, m.pending, m.lag)
}

// lagCollector tells how old the oldest event at hand is. It is computed when it
// is asked for, so that it rises while a store is down and nothing moves.
type lagCollector struct {
	mu     sync.Mutex
	oldest map[string]time.Time // by shard, of those that this process owns; zero: nothing at hand
}

var lagDesc = prometheus.NewDesc("parley_persist_lag_seconds",
	"Age of the oldest event that is not persisted yet, where this process owns the shard.", []string{"shard"}, nil)

func (c *lagCollector) Describe(descs chan<- *prometheus.Desc) { descs <- lagDesc }

func (c *lagCollector) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for shard, oldest := range c.oldest {
		var lag float64
		if !oldest.IsZero() {
			lag = max(0, time.Since(oldest).Seconds())
		}
		metrics <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, lag, shard)
	}
}

func (c *lagCollector) set(shard string, oldest time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.oldest[shard] = oldest
}

func (c *lagCollector) forget(shard string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.oldest, shard)
}
