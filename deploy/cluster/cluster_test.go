//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/tests/browser"
	"parley/tests/cassandra/cassandratest"
)

// clusterWithin bounds a start or an end, on a machine that is busy with other tests.
const clusterWithin = 5 * time.Minute

// TestTwoWindowsChatOverTwoEdges has a browser chat through HAProxy, with each
// window on an edge of its own, and over an end and a new start of everything.
func TestTwoWindowsChatOverTwoEdges(t *testing.T) {
	requireParts(t)
	listen, data := freeAddress(t), filepath.Join(t.TempDir(), "data")
	c := startCluster(t, "--listen="+listen, "--data="+data)
	browser.TwoWindows(t, "http://"+listen,
		func() { c.end(t) },
		func() { c = startCluster(t, "--listen="+listen, "--data="+data) })
	// The windows stay open until the test ends.
	p, err := loadOrChoosePorts(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, edge := range []string{"edge-1 admin", "edge-2 admin"} {
		if n := connections(t, p.address(edge)); n != "1" {
			t.Errorf("%s tells of %s connections, want one window on each edge", edge, n)
		}
	}
	c.end(t)
	for _, name := range portNames {
		if conn, err := net.Dial("tcp", p.address(name)); err == nil {
			conn.Close()
			t.Errorf("%s is left behind", name)
		}
	}
}

// requireParts skips where something is missing, or fails where it must not be.
func requireParts(t *testing.T) {
	t.Helper()
	if _, err := findHAProxy(); err != nil {
		if os.Getenv("PARLEY_REQUIRE_HAPROXY") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cassandratest.Require(t)
}

// running is a cluster that is up.
type running struct {
	cancel context.CancelFunc
	output *output
	ended  chan struct{}
	err    error // read after ended
}

func startCluster(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &running{cancel: cancel, output: &output{awaited: "Ctrl-C ends it", heard: make(chan struct{})}, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = run(ctx, args, c.output)
	}()
	t.Cleanup(func() {
		cancel()
		<-c.ended
		if t.Failed() {
			t.Logf("the cluster said:\n%s", c.output)
		}
	})
	select {
	case <-c.output.heard:
	case <-c.ended:
		t.Fatalf("the cluster ended: %v", c.err)
	case <-time.After(clusterWithin):
		t.Fatalf("the cluster was not up within %s", clusterWithin)
	}
	return c
}

// end ends it as Ctrl-C does.
func (c *running) end(t *testing.T) {
	t.Helper()
	c.cancel()
	select {
	case <-c.ended:
	case <-time.After(clusterWithin):
		t.Fatalf("the cluster did not end within %s", clusterWithin)
	}
	if c.err != nil {
		t.Errorf("the cluster ended with: %v", c.err)
	}
}

// output keeps what a cluster says.
type output struct {
	awaited string
	heard   chan struct{} // closed when awaited was said

	mu   sync.Mutex
	text bytes.Buffer
	said bool
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if !o.said && bytes.Contains(o.text.Bytes(), []byte(o.awaited)) {
		o.said = true
		close(o.heard)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// connections is what an edge's metrics tell.
func connections(t *testing.T, admin string) string {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^parley_edge_connections (\d+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s tells of no connections", admin)
	}
	return string(found[1])
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := listenFree()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the subtests, as a defer would not be
	data := t.TempDir()
	held, err := newCluster(flags{Data: data}, &terminal{w: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(held.removeData)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"an address in use":     {[]string{"--listen=" + taken.Addr().String()}, "--listen"},
		"a directory in use":    {[]string{"--data=" + data}, "--data"},
		"a store it has not":    {[]string{"--store=oracle"}, "cassandra"},
		"a flag it has not":     {[]string{"--nodes=5"}, "--help"},
		"a directory it cannot": {[]string{"--data=/proc/parley"}, "make data directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(t.Context(), test.args, io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("run %q: %v, want a word of %q", test.args, err, test.want)
			}
		})
	}
}

func TestHelpHelps(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &help); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Ctrl-C", "--data", "haproxy", "Java"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("the help does not speak of %s:\n%s", want, &help)
		}
	}
}

// The ports and secrets of a data directory stay what they are.
func TestDataDirectoryKeeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var before string
	for range 2 {
		c, err := newCluster(flags{Data: dir}, &terminal{w: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		c.removeData()
		if now := fmt.Sprint(c.ports, c.secrets); before == "" {
			before = now
		} else if now != before {
			t.Errorf("they were %s and are %s", before, now)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the directory is gone: %v", err)
	}
	temporary, err := newCluster(flags{}, &terminal{w: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	temporary.removeData()
	if _, err := os.Stat(temporary.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a temporary directory stays: %v", err)
	}
}

// Lines of many processes come whole, at most lineBytesMax of one.
func TestOutputIsWholeLines(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var shown bytes.Buffer
	o := &processOutput{name: "edge-1", term: &terminal{w: &shown}, file: file, show: func(line []byte) bool { return !bytes.Contains(line, []byte("quiet")) }}
	long := strings.Repeat("x", lineBytesMax)
	for _, part := range []string{"one\ntw", "o\nquiet\n", long, "y\n"} {
		if n, err := o.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	prefix := "edge-1    | "
	if want := prefix + "one\n" + prefix + "two\n" + prefix + long + "\n" + prefix + "y\n"; shown.String() != want {
		t.Errorf("shown %.200q, want %.200q", shown.String(), want)
	}
	kept, err := os.ReadFile(file.Name())
	if want := "one\ntwo\nquiet\n" + long + "y\n"; err != nil || string(kept) != want {
		t.Errorf("kept %.200q, error %v", kept, err)
	}
}
