// Package service serves the requests of edges, and of operators with `nats req`:
// it is what our micro services have in common.
//
// NATS hands requests to a subscription one after the other. [Serve] has them
// handled so; a [Service] answers each on a goroutine of its own, with a bound on how
// many at once.
package service

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
	"parley/workers/worker"
)

// Config is what a [Service] needs. Zero means the default.
type Config struct {
	Name        string     // required: of the micro service, as `nats micro ls` shows it
	Description string     // default: none
	Conn        *nats.Conn // required
	Endpoints   []Endpoint // required

	worker.Runtime

	RequestsMax   int           // that are answered at once: past it overloaded; default: 2048
	RequestWithin time.Duration // how long one may take; default: 8 s
	StopWithin    time.Duration // how long those at hand may take when Run is to end; default: 5 s
}

// Endpoint is one kind of request.
type Endpoint struct {
	Name        string
	Subject     string
	Description string
	// Answer returns what is sent back as JSON, or the refusal.
	Answer func(ctx context.Context, request []byte) (any, *schemas.Error)
}

func (c Config) withDefaults() Config {
	c.Runtime = worker.Defaults(c.Runtime)
	c.RequestsMax = cmp.Or(c.RequestsMax, 2048)
	c.RequestWithin = cmp.Or(c.RequestWithin, 8*time.Second)
	c.StopWithin = cmp.Or(c.StopWithin, 5*time.Second)
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	faults := worker.FaultsOf("service " + c.Name)
	faults.If(c.Name == "", "no name")
	faults.If(c.Conn == nil, "no connection")
	faults.If(len(c.Endpoints) == 0, "no endpoints")
	faults.If(c.RequestsMax < 1, "%d requests at once: at least 1", c.RequestsMax)
	faults.If(c.RequestWithin < 0 || c.StopWithin < 0, "negative time %s or %s", c.RequestWithin, c.StopWithin)
	return faults.Err()
}

// Service answers requests.
type Service struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
}

// New returns a Service; [Service.Run] starts it.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg)
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, log: cfg.Logger.With("component", cfg.Name), metrics: m}, nil
}

// Run answers until ctx ends; requests at hand have Config.StopWithin more. Then
// it returns nil. It may be called again after.
func (s *Service) Run(ctx context.Context) error {
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	in := &intake{requestsMax: s.cfg.RequestsMax}
	defer in.close()
	r := Registration{Name: s.cfg.Name, Version: s.cfg.Version, Description: s.cfg.Description, Started: s.cfg.Started}
	for _, e := range s.cfg.Endpoints {
		r.Handlers = append(r.Handlers, Handler{
			Name: e.Name, Subject: e.Subject, Description: e.Description,
			Handle: func(data []byte, reply string) { s.handle(work, in, &e, data, reply) },
		})
	}
	if err := Serve(ctx, s.cfg.Conn, s.log, r); err != nil {
		return err
	}
	late := time.AfterFunc(s.cfg.StopWithin, endWork)
	defer late.Stop()
	in.close()
	return nil
}

// intake has requests answered beside the subscriptions, as long as it is open. A
// subscription that drains may still hand some over when Run ends.
type intake struct {
	requestsMax int
	running     sync.WaitGroup // a goroutine per request

	mu     sync.Mutex
	closed bool
	taken  int // at most requestsMax
}

// take runs answer on a goroutine of its own, or refuses: too much is under way, or
// the end is near.
func (in *intake) take(answer func()) *schemas.Error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.closed:
		return &schemas.Error{Code: schemas.Unavailable, Message: "this worker is stopping: try again", RetryAfter: 0.1}
	case in.taken >= in.requestsMax:
		return &schemas.Error{Code: schemas.Overloaded, Message: "too many requests at once: try again", RetryAfter: 0.5}
	}
	in.taken++
	in.running.Go(func() {
		defer in.release()
		answer()
	})
	return nil
}

func (in *intake) release() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.taken--
}

// close lets nothing more in and waits until all was answered.
func (in *intake) close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.running.Wait()
}

// handle runs on the subscription's goroutine and does not block.
func (s *Service) handle(ctx context.Context, in *intake, e *Endpoint, data []byte, reply string) {
	if reply == "" {
		return
	}
	if refused := in.take(func() { s.answer(ctx, e, data, reply) }); refused != nil {
		s.refuse(e, reply, refused)
	}
}

func (s *Service) answer(ctx context.Context, e *Endpoint, data []byte, reply string) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestWithin)
	defer cancel()
	started := time.Now()
	answer, refused := e.Answer(ctx, data)
	s.metrics.seconds.WithLabelValues(e.Name).Observe(time.Since(started).Seconds())
	if refused != nil {
		s.refuse(e, reply, refused)
		return
	}
	text, err := json.Marshal(answer)
	if err != nil {
		s.log.Error("encode answer", "endpoint", e.Name, "err", err)
		s.refuse(e, reply, schemas.Errorf(schemas.Internal, "the answer could not be encoded"))
		return
	}
	s.send(e, &nats.Msg{Subject: reply, Data: text}, "ok")
}

func (s *Service) refuse(e *Endpoint, reply string, refused *schemas.Error) {
	s.send(e, streams.Refusal(reply, refused), string(refused.Code))
}

// send answers. Whoever gets no answer asks again.
func (s *Service) send(e *Endpoint, msg *nats.Msg, outcome string) {
	if err := s.cfg.Conn.PublishMsg(msg); err != nil {
		s.log.Info("answer was not sent", "endpoint", e.Name, "bytes", len(msg.Data), "err", err)
		outcome = "unsent"
	}
	s.metrics.requests.WithLabelValues(e.Name, outcome).Inc()
}
