package persist_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/persist"
	"parley/workers/worker"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a [workerstest.World] whose tests run persisters.
type world struct{ *workerstest.World }

func newWorld(t testing.TB, shards int) world {
	t.Helper()
	return world{workerstest.NewWorld(t, streamstest.Options{Settings: streams.Settings{Shards: shards}})}
}

// persister is a running persister.
type persister struct {
	t       testing.TB
	metrics *prometheus.Registry
	logs    *syncBuffer
	stop    func()
}

// start runs a persister with the faults that change puts into its config.
func (w world) start(change func(*persist.Config)) *persister {
	w.T.Helper()
	p := &persister{t: w.T, metrics: prometheus.NewRegistry(), logs: &syncBuffer{}}
	js := streamstest.JetStream(w.T, w.Connect(w.T, streams.WorkerComponent))
	cfg := persist.Config{
		JetStream: js, Log: streams.NewLog(js, w.Layout), Store: w.Store,
		Runtime:   worker.Runtime{Registerer: p.metrics, Logger: slog.New(slog.NewTextHandler(p.logs, nil))},
		WindowMin: 20 * time.Millisecond, WindowMax: 50 * time.Millisecond,
		PollWithin: 500 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	runner, err := persist.New(cfg)
	if err != nil {
		w.T.Fatal(err)
	}
	p.stop = workerstest.Run(w.T, runner.Run)
	w.T.Cleanup(func() {
		if w.T.Failed() {
			w.T.Logf("persister:\n%s", p.logs)
		}
	})
	return p
}

func (p *persister) metric(name string) float64 {
	return workerstest.Metric(p.t, p.metrics, "parley_persist_"+name)
}

func (p *persister) wantMetric(name string, want float64) {
	p.t.Helper()
	if got := p.metric(name); got != want {
		p.t.Errorf("metric %s is %v, want %v", name, got, want)
	}
}

// wantAcked waits until the consumers have nothing outstanding.
func (w world) wantAcked() {
	w.T.Helper()
	for shard, last := range w.Last {
		workerstest.WaitFor(w.T, fmt.Sprintf("consumer of %s is acknowledged up to %d", shard.Stream(), last), func() bool {
			consumer, err := w.JetStream.Consumer(context.Background(), shard.Stream(), streams.PersistConsumer)
			if err != nil {
				w.T.Fatal(err)
			}
			info := consumer.CachedInfo()
			return info.AckFloor.Stream == last && info.NumAckPending == 0
		})
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *syncBuffer) lines(with string) (n int) {
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}
