// Package worker has the parts that all workers share: the dependencies from their
// process, the report of a faulty config, and the loop that keeps them running.
package worker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"parley/schemas"
	"parley/streams"
)

// Runtime has the dependencies that a process gives each of its workers. Their configs
// embed it. Zero means the default. A worker ignores the fields that it does not need.
type Runtime struct {
	Logger     *slog.Logger          // default: slog.Default()
	Registerer prometheus.Registerer // default: the worker keeps its metrics, and nobody reads them
	Version    string                // of a micro service, semantic; default: 1.0.0
	Started    func()                // a micro service calls it when it answers requests; default: nothing
	Now        func() time.Time      // default: time.Now
}

// Defaults returns r with the defaults in place of zeros.
func Defaults(r Runtime) Runtime {
	r.Logger = cmp.Or(r.Logger, slog.Default())
	r.Registerer = cmp.Or[prometheus.Registerer](r.Registerer, prometheus.NewRegistry())
	r.Version = cmp.Or(r.Version, "1.0.0")
	if r.Started == nil {
		r.Started = func() {}
	}
	if r.Now == nil {
		r.Now = time.Now
	}
	return r
}

// Register registers the metrics of a worker. of names the worker in the error.
func Register(reg prometheus.Registerer, of string, metrics ...prometheus.Collector) error {
	var faults []error
	for _, m := range metrics {
		faults = append(faults, reg.Register(m))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("register metrics of %s: %w", of, err)
	}
	return nil
}

// Notify publishes a notice to the sessions of one user. Nobody acknowledges it.
func Notify(conn *nats.Conn, user schemas.User, notice schemas.Notice) error {
	data, err := json.Marshal(notice)
	if err != nil {
		return err
	}
	return conn.Publish(streams.Personal(user), data)
}
