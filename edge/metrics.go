package edge

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"parley/schemas"
)

// metrics are an edge's, all named parley_edge_….
type metrics struct {
	connections prometheus.Gauge
	sends       *prometheus.CounterVec // by result: ack, duplicate, or an error code
	deliveries  prometheus.Counter
	writes      prometheus.Counter
	helpers     prometheus.Counter
	closes      *prometheus.CounterVec // by close code
	handshakes  *prometheus.CounterVec // by result
	heals       *prometheus.CounterVec // by cause: gap, hint, reconnect
	hints       prometheus.Counter
	resyncs     prometheus.Counter
	resumes     *prometheus.CounterVec // chats, by result: current, replayed, or a reset reason
	histories   *prometheus.CounterVec // by result
	asks        *prometheus.CounterVec // by frame, and result: ok or an error code
	marks       *prometheus.CounterVec // told, by kind: read or delivered
	requests    *prometheus.CounterVec // over HTTP, by result: ok or an error code
	overflows   prometheus.Counter
	persistLag  *prometheus.GaugeVec // seconds, by shard
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "parley", Subsystem: "edge", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "parley", Subsystem: "edge", Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "parley", Subsystem: "edge", Name: "connections", Help: "Open WebSocket connections."}),
		sends:       counters("sends_total", "Sends answered, by result: ack, duplicate or an error code.", "result"),
		deliveries:  counter("deliveries_total", "Live event frames handed to sessions."),
		writes:      counter("writes_total", "Non-blocking writes to connections."),
		helpers:     counter("helper_writes_total", "Writes left to a helper because the connection did not take its bytes."),
		closes:      counters("closes_total", "Connections closed by the edge, by close code.", "code"),
		handshakes:  counters("handshakes_total", "Handshakes, by result: welcome or the reason for refusing.", "result"),
		heals:       counters("heals_total", "Chats repaired from the log for a user, by cause.", "cause"),
		hints:       counter("hints_total", "Hints published because an acknowledged event's echo did not come."),
		resyncs:     counter("resyncs_total", "Sessions told to resync."),
		resumes:     counters("resumes_total", "Chats of resumes, by result.", "result"),
		histories:   counters("history_total", "History requests answered, by result: page or an error code.", "result"),
		asks:        counters("asks_total", "Requests handed on to services, by frame and result: ok or an error code.", "frame", "result"),
		marks:       counters("marks_total", "Watermarks published, by kind: read or delivered.", "kind"),
		requests:    counters("http_requests_total", "HTTP requests answered, by result: ok or an error code.", "result"),
		overflows:   counter("live_overflows_total", "Times that a live channel was full and events were dropped."),
		persistLag:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "parley", Subsystem: "edge", Name: "persist_lag_seconds", Help: "Age of the oldest event that is not yet persisted."}, []string{"shard"}),
	}
	reg.MustRegister(m.connections, m.persistLag)
	return m
}

func (m *metrics) closed(code schemas.CloseCode) {
	m.closes.WithLabelValues(strconv.Itoa(int(code))).Inc()
}
