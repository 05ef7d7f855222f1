package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin serves operators on a port of its own, never the public one: health,
// readiness, metrics and profiles.
type admin struct {
	metrics  *prometheus.Registry
	listener net.Listener
	server   *http.Server
	served   chan error
}

const adminReadWithin = 10 * time.Second

// startAdmin listens at address and serves until Close. ready says why a client
// should not be sent here, or nothing.
func startAdmin(address string, ready func(context.Context) error) (*admin, error) {
	listener, err := listen("admin", address)
	if err != nil {
		return nil, err
	}
	a := &admin{metrics: prometheus.NewRegistry(), listener: listener, served: make(chan error, 1)}
	a.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	// Gives memory back to the system, so that what is resident afterwards is in use.
	mux.HandleFunc("POST /debug/free", func(w http.ResponseWriter, _ *http.Request) {
		debug.FreeOSMemory()
		fmt.Fprintln(w, "ok")
	})
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: adminReadWithin}
	go func() { a.served <- a.server.Serve(listener) }()
	return a, nil
}

// address is where it listens, as host:port.
func (a *admin) address() string { return a.listener.Addr().String() }

// Close ends the requests under way and returns.
func (a *admin) Close() error {
	err := a.server.Close()
	if served := <-a.served; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}

// listen says in one sentence what to do where it cannot.
func listen(what, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w: choose another address with --%s, or end what uses this one", address, errors.Unwrap(err), what)
	}
	return listener, nil
}
