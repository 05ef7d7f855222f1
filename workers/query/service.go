// Package query answers questions about what was said: the micro service
// history. A page comes from the permanent store, with what the log has beyond it
// folded in, so that it holds every event that was acknowledged before the request
// and shows every message as those events have made it.
//
// A request reads down this package: [Service.Run], handle, parse, flights.join,
// answer, stored, walkTail, fold.visit, newest or oldest, and back in fly.
package query

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
	"parley/workers/service"
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
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
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
	err := service.Serve(ctx, s.cfg.Conn, s.log, service.Registration{
		Name:        streams.HistoryService,
		Version:     s.cfg.Version,
		Description: "pages of a chat's history, from the permanent store and the tail of the log",
		Started:     s.cfg.Started,
		Handlers: []service.Handler{{
			Name: "page", Subject: streams.HistorySubject, Description: "a page of a chat's history",
			Handle: func(data []byte, reply string) { s.handle(questions, data, reply) },
		}},
	})
	if err != nil {
		return err
	}
	late := time.AfterFunc(s.cfg.StopWithin, endWork)
	defer late.Stop()
	questions.close()
	return nil
}

// handle runs on the subscription's goroutine and does not block.
func (s *Service) handle(questions *flights, data []byte, reply string) {
	q, empty, err := parse(data)
	switch {
	case reply == "":
	case err != nil:
		s.refuse(reply, schemas.Errorf(schemas.Invalid, "%v", err), invalid)
	case empty:
		s.send(&nats.Msg{Subject: reply, Data: (&answer{}).encode()}, served)
	case !questions.join(q, reply):
		s.refuse(reply, refusal(schemas.Overloaded, "too many history requests at once: try again"), busy)
	}
}

// fly answers q once for all who asked before it began.
func (s *Service) fly(ctx context.Context, q question, replies func() []string) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryWithin)
	defer cancel()
	started := time.Now()
	a, err := s.answer(ctx, q)
	s.metrics.seconds.Observe(time.Since(started).Seconds())
	if err != nil {
		refused, why := s.classify(q, err)
		for _, reply := range replies() {
			s.refuse(reply, refused, why)
		}
		return
	}
	text := a.encode()
	for _, reply := range replies() {
		s.send(&nats.Msg{Subject: reply, Data: text}, served)
	}
}

// retryAfter is after how many seconds trying again can help.
const retryAfter = 2

func refusal(code schemas.Code, sentence string) *schemas.Error {
	return &schemas.Error{Code: code, Message: sentence, RetryAfter: retryAfter}
}

func (s *Service) refuse(reply string, refused *schemas.Error, why outcome) {
	s.send(streams.Refusal(reply, refused), why)
}

// send answers. Whoever gets no answer asks again.
func (s *Service) send(msg *nats.Msg, o outcome) {
	if err := s.cfg.Conn.PublishMsg(msg); err != nil {
		s.log.Info("answer was not sent", "bytes", len(msg.Data), "err", err)
		o = unsent
	}
	s.metrics.requests.WithLabelValues(string(o)).Inc()
}
