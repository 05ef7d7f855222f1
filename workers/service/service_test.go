package service_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/service"
	"parley/workers/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const subject = "svc.test.hold"

// held is a service whose answers wait until they are let go.
type held struct {
	t       testing.TB
	env     *streamstest.Env
	edge    *nats.Conn
	metrics *prometheus.Registry
	begun   chan struct{} // one for each request that is being answered
	letGo   chan struct{}
	ended   chan error // of their contexts
	stop    func()
	stopped chan struct{}
}

func start(t *testing.T, change func(*service.Config)) *held {
	t.Helper()
	h := &held{
		t: t, env: streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true}), metrics: prometheus.NewRegistry(),
		begun: make(chan struct{}, 100), letGo: make(chan struct{}), ended: make(chan error, 100), stopped: make(chan struct{}),
	}
	h.edge = h.env.Connect(t, streams.EdgeComponent)
	started := make(chan struct{})
	cfg := service.Config{
		Name: "test", Description: "a test", Conn: h.env.NATS, Runtime: worker.Runtime{Registerer: h.metrics, Started: func() { close(started) }},
		Endpoints: []service.Endpoint{{Name: "hold", Subject: subject, Description: "waits", Answer: h.answer}},
	}
	change(&cfg)
	s, err := service.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	go func() {
		defer close(h.stopped)
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { stop(); <-h.stopped })
	<-started
	return h
}

func (h *held) answer(ctx context.Context, request []byte) (any, *schemas.Error) {
	switch string(request) {
	case "refuse":
		return nil, &schemas.Error{Code: schemas.Conflict, Message: "no", RetryAfter: 1.5}
	case "what JSON cannot say":
		return func() {}, nil
	}
	h.begun <- struct{}{}
	select {
	case <-h.letGo:
	case <-ctx.Done():
		h.ended <- ctx.Err()
		return nil, schemas.Errorf(schemas.Unavailable, "too late")
	}
	return struct{ Said string }{string(request)}, nil
}

// ask returns the answer, or the code of a refusal.
func (h *held) ask(request string) (string, schemas.Code) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	answer, refused := streams.Ask(ctx, h.edge, subject, []byte(request))
	if refused != nil {
		return "", refused.Code
	}
	return string(answer), ""
}

func (h *held) metric(outcome string) float64 {
	families, err := h.metrics.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if family.GetName() == "parley_test_requests_total" && label.GetName() == "outcome" && label.GetValue() == outcome {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

func TestTooManyRequestsAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	h := start(t, func(cfg *service.Config) { cfg.RequestsMax = 3 })
	var asked sync.WaitGroup
	for range 3 {
		asked.Go(func() {
			if answer, code := h.ask("hi"); answer != `{"Said":"hi"}` {
				t.Errorf("got %s, code %q", answer, code)
			}
		})
	}
	for range 3 {
		<-h.begun
	}
	for range 2 {
		if _, code := h.ask("hi"); code != schemas.Overloaded {
			t.Errorf("past the bound: %q", code)
		}
	}
	close(h.letGo)
	asked.Wait()
	if answer, code := h.ask("again"); answer != `{"Said":"again"}` {
		t.Errorf("later: %s, code %q", answer, code)
	}
	if ok, busy := h.metric("ok"), h.metric("overloaded"); ok != 4 || busy != 2 {
		t.Errorf("metrics tell of %g answers and %g refusals", ok, busy)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := start(t, func(*service.Config) {})
	_, refused := streams.Ask(t.Context(), h.edge, subject, []byte("refuse"))
	if refused == nil || refused.Code != schemas.Conflict || refused.Message != "no" || refused.RetryAfter != 1.5 {
		t.Errorf("got %+v", refused)
	}
	if _, code := h.ask("what JSON cannot say"); code != schemas.Internal {
		t.Errorf("an answer that cannot be encoded: %q", code)
	}
}

func TestStopLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	h := start(t, func(*service.Config) {})
	answered := make(chan string)
	go func() {
		answer, _ := h.ask("last")
		answered <- answer
	}()
	<-h.begun
	h.stop()
	select {
	case <-h.stopped:
		t.Error("it has ended before its last answer")
	case h.letGo <- struct{}{}:
	}
	if answer := <-answered; answer != `{"Said":"last"}` {
		t.Errorf("the last answer is %q", answer)
	}
	<-h.stopped
}

func TestStopEndsRequestsThatTakeTooLong(t *testing.T) {
	t.Parallel()
	h := start(t, func(cfg *service.Config) { cfg.StopWithin = 10 * time.Millisecond })
	answered := make(chan schemas.Code)
	go func() {
		_, code := h.ask("last")
		answered <- code
	}()
	<-h.begun
	h.stop()
	if err := <-h.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("its context ended with %v", err)
	}
	if code := <-answered; code != schemas.Unavailable {
		t.Errorf("the last answer is %q", code)
	}
	<-h.stopped
}

func TestRequestsHaveATime(t *testing.T) {
	t.Parallel()
	h := start(t, func(cfg *service.Config) { cfg.RequestWithin = 10 * time.Millisecond })
	if _, code := h.ask("slow"); code != schemas.Unavailable {
		t.Errorf("got %q", code)
	}
	if err := <-h.ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("its context ended with %v", err)
	}
}

func TestConfigTellsEveryFault(t *testing.T) {
	t.Parallel()
	err := service.Config{RequestsMax: -1, StopWithin: -1}.Validate()
	for _, fault := range []string{"no name", "no connection", "no endpoints", "-1 requests", "negative time"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%v does not tell of %q", err, fault)
		}
	}
}
