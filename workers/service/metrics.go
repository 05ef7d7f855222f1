package service

import (
	"github.com/prometheus/client_golang/prometheus"

	"parley/workers/worker"
)

// metrics are a service's, all named parley_<name>_….
type metrics struct {
	requests *prometheus.CounterVec   // by endpoint, and outcome: ok, unsent or an error code
	seconds  *prometheus.HistogramVec // by endpoint
}

func newMetrics(cfg Config) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "parley", Subsystem: cfg.Name, Name: "requests_total", Help: "Requests, by endpoint and how they ended.",
		}, []string{"endpoint", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "parley", Subsystem: cfg.Name, Name: "seconds", Help: "Time of one answer.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}, []string{"endpoint"}),
	}
	for _, e := range cfg.Endpoints {
		m.requests.WithLabelValues(e.Name, "ok")
	}
	return m, worker.Register(cfg.Registerer, "service "+cfg.Name, m.requests, m.seconds)
}
