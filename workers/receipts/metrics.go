package receipts

import (
	"github.com/prometheus/client_golang/prometheus"

	"parley/workers/worker"
)

// metrics are the worker's, all named parley_receipts_….
type metrics struct {
	rows, early, dropped prometheus.Counter
	seconds              prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "parley", Subsystem: "receipts", Name: name, Help: help})
	}
	m := &metrics{
		rows:    counter("rows_total", "Marks stored, each the highest of those that came together."),
		early:   counter("early_total", "Marks that came before their event was stored, and come again."),
		dropped: counter("dropped_total", "Marks that the store never takes."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "parley", Subsystem: "receipts", Name: "seconds", Help: "Time of one commit, with what it reads.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
	return m, worker.Register(reg, "receipts", m.rows, m.early, m.dropped, m.seconds)
}
