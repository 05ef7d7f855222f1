package harness

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/clients/parley"
	"parley/cmd"
	"parley/edge/auth"
	"parley/streams/streamstest"
)

// DevServer is `parley dev` in this process, on free ports.
type DevServer struct {
	URL  string // where clients connect
	NATS string // address, as host:port
	Data string // directory

	admin  string
	stop   context.CancelFunc
	exited chan error
}

// StartDev runs the server in data, a fresh directory where it is empty, and
// waits until it is ready. Stop, or the test's end, ends it.
func StartDev(t testing.TB, data string, flags ...string) *DevServer {
	t.Helper()
	if data == "" {
		data = filepath.Join(t.TempDir(), "data")
	}
	d := &DevServer{admin: FreeAddress(t), NATS: FreeAddress(t), Data: data, exited: make(chan error, 1)}
	var ctx context.Context
	ctx, d.stop = context.WithCancel(t.Context())
	stdout, output := io.Pipe()
	conf := streamstest.Conf(t)
	args := append([]string{"--log-level=warn", "dev", "--listen=127.0.0.1:0", "--admin=" + d.admin, "--nats-listen=" + d.NATS, "--data=" + data}, flags...)
	go func() {
		err := cmd.Run(ctx, args, output, testLog{t}, conf)
		output.CloseWithError(io.EOF)
		d.exited <- err
	}()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			d.URL = url
			break
		}
	}
	if d.URL == "" {
		t.Fatalf("the server ended before it was ready: %v", <-d.exited)
	}
	t.Cleanup(func() { d.Stop(t) })
	return d
}

// Stop ends the server in order and checks that it did.
func (d *DevServer) Stop(t testing.TB) {
	t.Helper()
	d.stop()
	if err, ok := <-d.exited; ok && err != nil {
		t.Errorf("server ended with: %v", err)
	}
	select {
	case <-d.exited:
	default:
		close(d.exited)
	}
}

// Token returns a token of user.
func (d *DevServer) Token(t testing.TB, user string) string {
	t.Helper()
	token, err := auth.Mint(readSecret(t, d.Data), MustUser(t, user), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Dial connects a client of user; the test's end closes it.
func (d *DevServer) Dial(t testing.TB, user string, opts parley.Options) *parley.Client {
	t.Helper()
	opts.URL = d.URL
	opts.Token = parley.StaticToken(d.Token(t, user))
	client, err := parley.Dial(t.Context(), opts)
	if err != nil {
		t.Fatalf("dial as %s: %v", user, err)
	}
	t.Cleanup(client.Close)
	return client
}

// Get asks the admin port.
func (d *DevServer) Get(t testing.TB, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + d.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// Metric returns the sum of a metric's series.
func (d *DevServer) Metric(t testing.TB, name string) float64 {
	t.Helper()
	_, body := d.Get(t, "/metrics")
	sum := 0.0
	for line := range strings.Lines(body) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series == name || strings.HasPrefix(series, name+"{") {
			var v float64
			if _, err := fmt.Sscan(value, &v); err != nil {
				t.Fatalf("metric %q: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

// testLog shows the server's log with the test's own.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
