package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Series of the admin port that are read.
const (
	cpuSeries         = "process_cpu_seconds_total"
	residentSeries    = "process_resident_memory_bytes"
	connectionsSeries = "parley_edge_connections"
	historySeries     = "parley_edge_history_total"
)

const (
	adminWithin = 30 * time.Second
	// quietWithin bounds the wait for a server to come to rest between workloads.
	quietWithin = 30 * time.Second
	quietEvery  = 500 * time.Millisecond
	// quietShare of one CPU is what a server at rest may use.
	quietShare = 0.05
)

// series are the samples of one scrape: each by its name with its labels, and
// summed over labels by its name alone.
type series map[string]float64

// highest is the largest sample of name over its labels, 0 where there is none.
func (s series) highest(name string) (highest float64) {
	for labelled, value := range s {
		if strings.HasPrefix(labelled, name+"{") {
			highest = max(highest, value)
		}
	}
	return highest
}

// sum adds up samples, each summed over its labels; one that is not there is 0.
func (s series) sum(names []string) (sum float64) {
	for _, name := range names {
		sum += s[name]
	}
	return sum
}

// adminPort is the address of a process's port for operators, like http://127.0.0.1:8081.
type adminPort string

// scrape reads the server's metrics.
func (t *Target) scrape(ctx context.Context) (series, error) {
	return adminPort(t.AdminURL).scrape(ctx, cpuSeries, residentSeries, connectionsSeries)
}

// free has the server collect its garbage and give memory back.
func (t *Target) free(ctx context.Context) error { return adminPort(t.AdminURL).free(ctx) }

// scrape reads the process's metrics, of which the needed ones have to be there.
func (p adminPort) scrape(ctx context.Context, needed ...string) (series, error) {
	body, err := p.ask(ctx, http.MethodGet, "/metrics")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	s, err := parseSeries(body)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	for _, name := range needed {
		if _, ok := s[name]; !ok {
			return nil, fmt.Errorf("read metrics: %s is not among them", name)
		}
	}
	return s, nil
}

func (p adminPort) free(ctx context.Context) error {
	// Twice: stacks shrink by half at each collection, and finalizers free at the next.
	for range 2 {
		body, err := p.ask(ctx, http.MethodPost, "/debug/free")
		if err != nil {
			return err
		}
		body.Close()
	}
	return nil
}

func (p adminPort) ask(ctx context.Context, method, path string) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, adminWithin)
	req, err := http.NewRequestWithContext(ctx, method, string(p)+path, nil)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("ask the admin port: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("ask the admin port: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		resp.Body.Close()
		cancel()
		return nil, fmt.Errorf("ask the admin port: %s %s answers %s", method, path, resp.Status)
	}
	return cancelBody{resp.Body, cancel}, nil
}

// cancelBody ends its request's context when it is closed.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b cancelBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// parseSeries reads Prometheus' text format.
func parseSeries(r io.Reader) (series, error) {
	s := series{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		labelled := line[:max(at, 0)]
		name, _, _ := strings.Cut(labelled, "{")
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil || name == "" {
			return nil, fmt.Errorf("line %q is no sample", line)
		}
		s[name] += value
		if labelled != name {
			s[labelled] = value
		}
	}
	return s, lines.Err()
}

// quiet waits until the server uses hardly any CPU: what one workload left to
// do (persisting, closing) must not be charged to the next.
func (t *Target) quiet(ctx context.Context) error {
	deadline := time.Now().Add(quietWithin)
	before, err := t.scrape(ctx)
	if err != nil {
		return err
	}
	for time.Now().Before(deadline) {
		if err := sleep(ctx, quietEvery); err != nil {
			return err
		}
		after, err := t.scrape(ctx)
		if err != nil {
			return err
		}
		if after[cpuSeries]-before[cpuSeries] <= quietShare*quietEvery.Seconds() {
			return nil
		}
		before = after
	}
	return nil
}

// connections waits until the server counts n of them.
func (t *Target) connections(ctx context.Context, n float64) error {
	deadline := time.Now().Add(quietWithin)
	for {
		s, err := t.scrape(ctx)
		if err != nil {
			return err
		}
		if s[connectionsSeries] == n {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server counts %.0f connections after %s, want %.0f", s[connectionsSeries], quietWithin, n)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
