package presence

import (
	"github.com/prometheus/client_golang/prometheus"

	"parley/workers/worker"
)

// metrics are the worker's, all named parley_presence_….
type metrics struct {
	changes *prometheus.CounterVec // told, by status
	repairs prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *roster) (*metrics, error) {
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "parley", Subsystem: "presence", Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	m := &metrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "parley", Subsystem: "presence", Name: "changes_total", Help: "Changes of users' presence that were told, by the new status.",
		}, []string{"status"}),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "parley", Subsystem: "presence", Name: "repairs_total", Help: "Sessions found in the bucket of which no message had come.",
		}),
	}
	return m, worker.Register(reg, "presence", m.changes, m.repairs,
		gauge("sessions", "Sessions in the bucket.", func() int { sessions, _ := r.size(); return sessions }),
		gauge("users", "Users with a session, those included who are invisible.", func() int { _, users := r.size(); return users }),
	)
}
