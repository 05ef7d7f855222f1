// Package query answers questions about what was said: the micro service
// history. A page comes from the permanent store, with what the log has beyond it
// merged in, so that it holds every event that was acknowledged before the request.
//
// A request reads down this package: [Service.Run], handle, flights.join, answer,
// newest or oldest, walkTail, and back in respond.
package query

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/maypok86/otter/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"parley/schemas"
	"parley/streams"
)

// Service answers history requests.
type Service struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	cache   *otter.Cache[schemas.Chat, *newestStored]
}

// New returns a Service; [Service.Run] starts it.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m := newMetrics()
	if err := m.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("register query metrics: %w", err)
	}
	cache, err := newCache(cfg.CacheBytesMax)
	if err != nil {
		return nil, fmt.Errorf("make query cache of %d bytes: %w", cfg.CacheBytesMax, err)
	}
	return &Service{cfg: cfg, log: cfg.Logger.With("component", "query"), metrics: m, cache: cache}, nil
}

// Run answers until ctx ends; questions at hand have Config.StopWithin more. Then
// it returns nil. It may be called again after.
func (s *Service) Run(ctx context.Context) error {
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	questions := newFlights(s.cfg.QueriesMax, s.cfg.WaitingMax, func(q question, replies func() []string) {
		s.fly(work, q, replies)
	})
	service, err := micro.AddService(s.cfg.Conn, micro.Config{
		Name:        streams.HistoryService,
		Version:     s.cfg.Version,
		Description: "pages of a chat's history, from the permanent store and the tail of the log",
		ErrorHandler: func(_ micro.Service, err *micro.NATSError) {
			s.log.Warn("history service", "subject", err.Subject, "err", err.Description)
		},
	})
	if err != nil {
		return fmt.Errorf("register service %s: %w", streams.HistoryService, err)
	}
	err = service.AddEndpoint("page", micro.HandlerFunc(func(req micro.Request) {
		s.handle(questions, req.Data(), req.Reply())
	}), micro.WithEndpointSubject(streams.HistorySubject))
	if err != nil {
		return fmt.Errorf("serve %s: %w", streams.HistorySubject, err)
	}
	<-ctx.Done()
	if err := service.Stop(); err != nil {
		s.log.Info("history service was not stopped in order", "err", err)
	}
	late := time.AfterFunc(s.cfg.StopWithin, endWork)
	defer late.Stop()
	questions.close()
	return nil
}

// failure is an answer that is no page.
type failure struct {
	code     string // of HTTP, as micro services have them
	outcome  outcome
	sentence string
}

// request is what an edge asks.
type request struct {
	Chat   schemas.Chat `json:"chat"`
	Before *uint64      `json:"before,omitzero"`
	After  *uint64      `json:"after,omitzero"`
	Limit  *int64       `json:"limit,omitzero"`
}

// question is a valid request. Equal questions have one answer at a time.
type question struct {
	chat    schemas.Chat
	forward bool   // the oldest above after; else the newest below before
	before  uint64 // 0: no bound
	after   uint64
	limit   int
}

// handle runs on the subscription's goroutine and does not block.
func (s *Service) handle(questions *flights, data []byte, reply string) {
	q, empty, err := parse(data)
	switch {
	case reply == "":
	case err != nil:
		s.refuse(reply, failure{code: "400", outcome: invalid, sentence: err.Error()})
	case empty:
		s.send(&nats.Msg{Subject: reply, Data: (&answer{}).encode()}, served)
	case !questions.join(q, reply):
		s.refuse(reply, failure{code: "503", outcome: busy, sentence: "too many history requests at once: try again"})
	}
}

// parse reads a request; empty says that nothing can be in its range.
func parse(data []byte) (q question, empty bool, err error) {
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		return q, false, fmt.Errorf("request is not {chat, before or after, limit}: %w", err)
	}
	switch {
	case r.Chat.IsZero():
		return q, false, fmt.Errorf("chat is absent")
	case r.Before != nil && r.After != nil:
		return q, false, fmt.Errorf("before and after exclude each other")
	case r.Limit != nil && *r.Limit <= 0:
		return q, false, fmt.Errorf("limit %d is not positive", *r.Limit)
	}
	q = question{chat: r.Chat, limit: schemas.PageEventsDefault}
	if r.Limit != nil {
		q.limit = int(min(*r.Limit, schemas.PageEventsMax))
	}
	if r.After != nil {
		q.forward, q.after = true, *r.After
		empty = q.after >= schemas.SeqMax
	}
	if r.Before != nil {
		q.before = *r.Before
		empty = q.before == 0
	}
	return q, empty, nil
}

// fly answers q once for all who asked before it began.
func (s *Service) fly(ctx context.Context, q question, replies func() []string) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryWithin)
	defer cancel()
	started := time.Now()
	a, err := s.answer(ctx, q)
	s.metrics.seconds.Observe(time.Since(started).Seconds())
	if err != nil {
		fail := s.classify(q, err)
		for _, reply := range replies() {
			s.refuse(reply, fail)
		}
		return
	}
	text := a.encode()
	for _, reply := range replies() {
		s.send(&nats.Msg{Subject: reply, Data: text}, served)
	}
}

func (s *Service) refuse(reply string, f failure) {
	s.send(&nats.Msg{Subject: reply, Header: nats.Header{
		micro.ErrorHeader:     {f.sentence},
		micro.ErrorCodeHeader: {f.code},
	}}, f.outcome)
}

// send answers beside the micro package, whose requests may not be answered from
// another goroutine while it reads their outcome. Whoever gets no answer asks again.
func (s *Service) send(msg *nats.Msg, o outcome) {
	if err := s.cfg.Conn.PublishMsg(msg); err != nil {
		s.log.Info("answer was not sent", "bytes", len(msg.Data), "err", err)
		o = unsent
	}
	s.metrics.requests.WithLabelValues(string(o)).Inc()
}
