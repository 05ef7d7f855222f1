package worker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/workers/worker"
)

func TestFaultsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	faults := worker.FaultsOf("test")
	if err := faults.Err(); err != nil {
		t.Errorf("no fault is the error %v", err)
	}
	faults.If(true, "no store")
	faults.If(false, "no log")
	faults.If(true, "%d tries: at least 1", 0)
	if got, want := faults.Err().Error(), "test: no store\ntest: 0 tries: at least 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A config's name can come from a caller: it is no format.
func TestFaultsTakeAnyName(t *testing.T) {
	t.Parallel()
	faults := worker.FaultsOf("service 100%d")
	faults.If(true, "%d requests at once: at least 1", 0)
	if got, want := faults.Err().Error(), "service 100%d: 0 requests at once: at least 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	registry, metric := prometheus.NewRegistry(), prometheus.NewGauge(prometheus.GaugeOpts{Name: "test"})
	if err := worker.Register(registry, "test", metric); err != nil {
		t.Fatal(err)
	}
	err := worker.Register(registry, "test", metric)
	if want := "register metrics of test: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s…", err, want)
	}
}

func TestMissingDependenciesHaveDefaults(t *testing.T) {
	t.Parallel()
	r := worker.Defaults(worker.Runtime{})
	if r.Logger != slog.Default() || r.Registerer == nil || r.Version != "1.0.0" || r.Started == nil || r.Now == nil {
		t.Errorf("the defaults are %+v", r)
	}
}

// A loop logs the first of several failures and the recovery. It waits longer each time,
// up to its bound, and from the beginning after a round that succeeded.
func TestLoopRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		loop := worker.Loop{Log: slog.New(slog.NewTextHandler(&logs, nil)), RetryMax: time.Second, Stopped: "stopped", Resumed: "resumed"}
		began, rounds := time.Now(), 0
		loop.Run(ctx, func() error {
			switch rounds++; rounds {
			case 20, 40: // the others fail
				return nil
			case 41:
				cancel()
			}
			return errors.New("away")
		})
		took := time.Since(began)
		if rounds != 41 || took < 10*time.Second || took > time.Minute {
			t.Errorf("%d rounds in %s; want 41, with waits up to about a second", rounds, took)
		}
		text := logs.String()
		if strings.Count(text, "stopped") != 2 || strings.Count(text, "resumed") != 2 || strings.Count(text, "away") != 2 {
			t.Errorf("want each stop and each recovery once:\n%s", text)
		}
	})
}

func TestWorkLingersAfterItsIntake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		work, end := worker.Linger(ctx, time.Minute)
		defer end()
		cancel()
		began := time.Now()
		<-work.Done()
		if took := time.Since(began); took != time.Minute {
			t.Errorf("work ends after %s, want a minute", took)
		}
	})
}

func TestRetryEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		began, tries := time.Now(), 0
		_, err := worker.Retry(t.Context(), worker.BackOff(time.Second), 10*time.Second, func() (int, error) { tries++; return 0, away })
		if took := time.Since(began); !errors.Is(err, away) || tries < 5 || took > 15*time.Second {
			t.Errorf("%d tries in %s: %v", tries, took, err)
		}
		if n, err := worker.Retry(t.Context(), worker.BackOff(time.Second), time.Second, func() (int, error) { return 7, nil }); n != 7 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	})
}
