package query

import (
	"github.com/prometheus/client_golang/prometheus"

	"parley/workers/worker"
)

// outcome is how a request ended; also a metric's label.
type outcome string

const (
	served      outcome = "served"
	invalid     outcome = "invalid"     // not a request
	busy        outcome = "busy"        // overloaded: too many at once
	unavailable outcome = "unavailable" // the store or the log did not answer
	behind      outcome = "behind"      // overloaded: the store is too far behind the log
	unsent      outcome = "unsent"      // the answer could not be published
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	tail     prometheus.Histogram
	hits     prometheus.Counter
	loads    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_query_requests_total", Help: "History requests, by how they ended.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_query_seconds", Help: "Time of one query; equal requests share one.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		tail: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_query_tail_events", Help: "Events read from the log for one answer, where any were.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		hits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_query_cache_hits_total", Help: "Answers whose stored part was in memory.",
		}),
		loads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_query_cache_loads_total", Help: "Newest pages read from the store.",
		}),
	}
	for _, o := range []outcome{served, invalid, busy, unavailable, behind, unsent} {
		m.requests.WithLabelValues(string(o))
	}
	return m, worker.Register(reg, "query", m.requests, m.seconds, m.tail, m.hits, m.loads)
}
