package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"parley/clients/parley"
	"parley/edge"
	"parley/schemas"
	"parley/tests/cassandra/cassandratest"
)

// programVariable makes the test binary the program itself: tests of processes
// start it so, and need no build of their own.
const programVariable = "PARLEY_TEST_PROGRAM"

func TestMain(m *testing.M) {
	switch os.Getenv(programVariable) {
	case "":
		goleak.VerifyTestMain(cassandratest.StopAfter(m))
	case natsNode:
		natsNodeMain()
	default:
		main()
	}
}

// devServer is `parley dev` in this process, on free ports.
type devServer struct {
	url, admin, nats, data string

	stop   context.CancelFunc
	exited chan error
}

// startDev runs the server in data, a fresh directory where it is empty, and
// waits until it is ready. Stop, or the test's end, ends it.
func startDev(t testing.TB, data string, flags ...string) *devServer {
	t.Helper()
	if data == "" {
		data = filepath.Join(t.TempDir(), "data")
	}
	d := &devServer{admin: freeAddress(t), nats: freeAddress(t), data: data, exited: make(chan error, 1)}
	var ctx context.Context
	ctx, d.stop = context.WithCancel(t.Context())
	stdout, output := io.Pipe()
	args := append([]string{"--log-level=warn", "dev", "--listen=127.0.0.1:0", "--admin=" + d.admin, "--nats-listen=" + d.nats, "--data=" + data}, flags...)
	go func() {
		err := run(ctx, args, output, testLog{t})
		output.CloseWithError(io.EOF)
		d.exited <- err
	}()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			d.url = url
			break
		}
	}
	if d.url == "" {
		t.Fatalf("the server ended before it was ready: %v", <-d.exited)
	}
	t.Cleanup(func() { d.Stop(t) })
	return d
}

// Stop ends the server in order and checks that it did.
func (d *devServer) Stop(t testing.TB) {
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

func (d *devServer) token(t testing.TB, user string) string {
	t.Helper()
	secret, err := loadOrCreateSecret(d.data, "")
	if err != nil {
		t.Fatal(err)
	}
	token, err := edge.MintToken(secret, mustUser(t, user), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// dial connects a client of user; the test's end closes it.
func (d *devServer) dial(t testing.TB, user string, opts parley.Options) *parley.Client {
	t.Helper()
	opts.URL = d.url
	opts.Token = parley.StaticToken(d.token(t, user))
	client, err := parley.Dial(t.Context(), opts)
	if err != nil {
		t.Fatalf("dial as %s: %v", user, err)
	}
	t.Cleanup(client.Close)
	return client
}

func (d *devServer) get(t testing.TB, path string) (int, string) {
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

// metric returns the sum of a metric's series.
func (d *devServer) metric(t testing.TB, name string) float64 {
	t.Helper()
	_, body := d.get(t, "/metrics")
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

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func mustUser(t testing.TB, name string) schemas.User {
	t.Helper()
	user, err := schemas.ParseUser(name)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func mustChat(t testing.TB, name string) schemas.Chat {
	t.Helper()
	chat, err := schemas.ParseChat(name)
	if err != nil {
		t.Fatal(err)
	}
	return chat
}

func mustID(t testing.TB, name string) schemas.ID {
	t.Helper()
	id, err := schemas.ParseID(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// eventually tries until done is true, and fails after a time that only a defect needs.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// testLog shows the server's log with the test's own.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func TestTwoUsersChat(t *testing.T) {
	t.Parallel()
	d := startDev(t, "")
	chat := mustChat(t, "direct.alice.bob")
	events := make(chan parley.Event, 16)
	alice := d.dial(t, "alice", parley.Options{})
	bob := d.dial(t, "bob", parley.Options{OnEvent: func(ev parley.Event) { events <- ev }})

	ack, err := alice.Send(t.Context(), chat, mustID(t, "m1"), parley.Text("hi bob"))
	if err != nil {
		t.Fatal(err)
	}
	got := <-events
	if got.Seq != ack.Seq || got.From.String() != "alice" || got.Chat != chat {
		t.Fatalf("bob got %+v, want seq %d from alice", got, ack.Seq)
	}
	again, err := alice.Send(t.Context(), chat, mustID(t, "m1"), parley.Text("another text, the same id"))
	if err != nil || again.Seq != ack.Seq || !again.Duplicate {
		t.Fatalf("the same id again: %+v, %v; want a duplicate at %d", again, err, ack.Seq)
	}
	page, err := bob.History(t.Context(), schemas.History{Chat: chat})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Events) != 1 || page.Events[0].Seq != ack.Seq || page.More {
		t.Fatalf("history is %+v", page)
	}
}
