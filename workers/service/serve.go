package service

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// flushWithin is how long NATS may take to confirm the subscriptions before that is logged.
const flushWithin = 5 * time.Second

// Registration is a micro service as [Serve] makes it known to NATS.
type Registration struct {
	Name        string // as `nats micro ls` shows it
	Version     string // semantic
	Description string
	Handlers    []Handler
	Started     func() // called when requests arrive
}

// Handler takes the requests of one subject.
type Handler struct {
	Name        string
	Subject     string
	Description string
	// Handle runs on the subscription's goroutine and must not block. It answers at
	// reply, if that is not empty, by a publication of its own: the micro package's
	// requests may not be answered from another goroutine.
	Handle func(data []byte, reply string)
}

// Serve has r's requests handled until ctx ends, and returns nil then. A few may
// still be handed over after it has returned.
func Serve(ctx context.Context, conn *nats.Conn, log *slog.Logger, r Registration) error {
	service, err := micro.AddService(conn, micro.Config{
		Name:        r.Name,
		Version:     r.Version,
		Description: r.Description,
		ErrorHandler: func(_ micro.Service, err *micro.NATSError) {
			log.Warn("service", "subject", err.Subject, "err", err.Description)
		},
	})
	if err != nil {
		return fmt.Errorf("register service %s: %w", r.Name, err)
	}
	for _, h := range r.Handlers {
		handler := micro.HandlerFunc(func(req micro.Request) { h.Handle(req.Data(), req.Reply()) })
		err := service.AddEndpoint(h.Name, handler, micro.WithEndpointSubject(h.Subject),
			micro.WithEndpointMetadata(map[string]string{"description": h.Description}))
		if err != nil {
			_ = service.Stop()
			return fmt.Errorf("serve %s: %w", h.Subject, err)
		}
	}
	for err := conn.FlushTimeout(flushWithin); err != nil && ctx.Err() == nil; err = conn.FlushTimeout(flushWithin) {
		if conn.IsClosed() {
			_ = service.Stop()
			return fmt.Errorf("serve %s: %w", r.Name, err)
		}
		log.Warn("NATS does not confirm the subscriptions yet", "err", err)
	}
	if ctx.Err() == nil {
		r.Started()
	}
	<-ctx.Done()
	err = service.Stop()
	if err == nil {
		err = conn.FlushTimeout(flushWithin) // from then on others get the requests
	}
	if err != nil && !conn.IsClosed() {
		log.Info("service was not stopped in order", "err", err)
	}
	return nil
}
