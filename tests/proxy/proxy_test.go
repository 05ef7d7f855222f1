//go:build unix

package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"

	"parley/clients/parley"
	"parley/edge/auth"
	"parley/schemas"
	"parley/tests/harness"
)

const (
	haproxyConf = "deploy/haproxy.cfg" // in the repository
	// requireHAProxy makes a missing haproxy a failure: where tests decide
	// something, a skipped one must not look like a passed one.
	requireHAProxy = "PARLEY_REQUIRE_HAPROXY"
)

func findHAProxy(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/haproxy") // not in everybody's PATH
	}
	if err == nil {
		return path
	}
	if os.Getenv(requireHAProxy) != "" {
		t.Fatalf("find haproxy: %v", err)
	}
	t.Skipf("the proxy is not tried: %v", err)
	return ""
}

// proxy is HAProxy as a process, in front of two edges.
type proxy struct {
	harness.Place
	stats string // address of the operators' frontend
}

// startProxy returns when HAProxy has found both edges ready.
func startProxy(t testing.TB, one, two *harness.EdgeChild, environment ...string) *proxy {
	t.Helper()
	listen := harness.FreeAddress(t)
	p := &proxy{Place: harness.Place{URL: "http://" + listen, Secret: []byte(harness.PartsSecret)}, stats: harness.FreeAddress(t)}
	output := new(harness.ChildOutput)
	cmd := exec.Command(findHAProxy(t), "-db", "-f", filepath.Join(harness.Root(t), haproxyConf))
	cmd.Env = append(harness.CleanEnvironment(), "PARLEY_PROXY_LISTEN="+listen, "PARLEY_PROXY_STATS="+p.stats, "PARLEY_PROXY_MAXCONN=500")
	for i, e := range []*harness.EdgeChild{one, two} {
		cmd.Env = append(cmd.Env, fmt.Sprintf("PARLEY_EDGE_%d=%s", i+1, strings.TrimPrefix(e.URL, "http://")),
			fmt.Sprintf("PARLEY_EDGE_%d_ADMIN_PORT=%s", i+1, e.Admin[strings.LastIndexByte(e.Admin, ':')+1:]))
	}
	cmd.Env = append(cmd.Env, environment...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = output, output, harness.ChildAttributes()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy said:\n%s", output)
		}
	})
	harness.EventuallyWithin(t, harness.ChildWithin, "both edges are up", func() bool {
		return p.checked(t, "edge-1") == "UP" && p.checked(t, "edge-2") == "UP"
	})
	return p
}

// checked is what HAProxy's health check found of an edge.
func (p *proxy) checked(t testing.TB, node string) string {
	return p.stat(t, "edges_by_user", node, "status")
}

// stat is a figure of HAProxy's statistics; empty where it does not answer.
func (p *proxy) stat(t testing.TB, backend, node, column string) string {
	t.Helper()
	status, table := harness.GetStatus(p.stats, "/;csv")
	if status != http.StatusOK {
		return ""
	}
	lines := strings.Split(table, "\n")
	at := slices.Index(strings.Split(lines[0], ","), column)
	for _, line := range lines[1:] {
		if fields := strings.Split(line, ","); at >= 0 && fields[0] == backend && fields[1] == node {
			return strings.Fields(fields[at])[0] // "UP 1/2": on its way down
		}
	}
	t.Fatalf("haproxy tells no %s of %s/%s:\n%s", column, backend, node, table)
	return ""
}

// open says hello as user and returns the connection, with the edge that it is on.
func (p *proxy) open(t testing.TB, user string, header http.Header) (conn *websocket.Conn, node string) {
	t.Helper()
	conn, resp, err := p.handshake(header)
	if err != nil {
		t.Fatalf("dial as %s: %v (%v)", user, err, resp)
	}
	t.Cleanup(func() { conn.Close() })
	token, err := auth.Mint(p.Secret, harness.MustUser(t, user), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"t":"hello","token":%q}`, token)); err != nil {
		t.Fatal(err)
	}
	var welcome schemas.Welcome
	_, data, err := conn.ReadMessage()
	if err == nil {
		err = json.Unmarshal(data, &welcome)
	}
	if err != nil || welcome.T != schemas.TWelcome {
		t.Fatalf("hello as %s: %s, error %v", user, data, err)
	}
	return conn, welcome.Node.String()
}

func (p *proxy) handshake(header http.Header) (*websocket.Conn, *http.Response, error) {
	dialer := websocket.Dialer{Subprotocols: []string{schemas.Subprotocol}, HandshakeTimeout: harness.ChildWithin}
	return dialer.Dial(p.socketURL(), header)
}

func (p *proxy) socketURL() string { return "ws" + strings.TrimPrefix(p.URL, "http") + "/v1/ws" }

func userCookie(user string) http.Header { return http.Header{"Cookie": {"parley_user=" + user}} }
func userHeader(user string) http.Header { return http.Header{"X-Parley-User": {user}} }

// startProxied starts NATS, a worker, two edges and HAProxy before them.
func startProxied(t *testing.T, edgeFlags []string, environment ...string) (*harness.Parts, [2]*harness.EdgeChild, *proxy) {
	t.Helper()
	findHAProxy(t) // before all that takes time
	p := harness.StartParts(t, 1)
	p.StartWorker(t, "persist,query,chats,users")
	flags := append([]string{"--trusted-proxy=127.0.0.1"}, edgeFlags...)
	edges := [2]*harness.EdgeChild{p.StartEdge(t, "edge-1", flags...), p.StartEdge(t, "edge-2", flags...)}
	return p, edges, startProxy(t, edges[0], edges[1], environment...)
}

// Who says who they are comes to one edge, by cookie or header, from each
// device; the others come to the edge with fewer connections.
func TestProxyChoosesAnEdge(t *testing.T) {
	t.Parallel()
	_, _, p := startProxied(t, nil)
	t.Run("by user", func(t *testing.T) {
		users := map[string]int{}
		for i := range 20 {
			user := fmt.Sprintf("user-%d", i)
			_, node := p.open(t, user, userCookie(user))
			users[node]++
			for name, header := range map[string]http.Header{"cookie": userCookie(user), "header": userHeader(user)} {
				if _, again := p.open(t, user, header); again != node {
					t.Errorf("%s is on %s, and with the %s on %s", user, node, name, again)
				}
			}
		}
		t.Logf("users by edge: %v", users)
		if len(users) != 2 {
			t.Error("all users are on one edge")
		}
	})
	t.Run("by load", func(t *testing.T) {
		conns := map[string][]*websocket.Conn{}
		open := func() {
			conn, node := p.open(t, "somebody", nil)
			conns[node] = append(conns[node], conn)
		}
		for range 6 {
			open()
		}
		if len(conns["edge-1"]) != 3 || len(conns["edge-2"]) != 3 {
			t.Fatalf("6 connections: %d and %d", len(conns["edge-1"]), len(conns["edge-2"]))
		}
		for _, conn := range conns["edge-1"] {
			conn.Close()
		}
		harness.Eventually(t, "haproxy has seen the end of three connections", func() bool { return p.stat(t, "edges_by_load", "edge-1", "scur") == "0" })
		for range 3 {
			open()
		}
		if len(conns["edge-1"]) != 6 || len(conns["edge-2"]) != 3 {
			t.Errorf("3 more did not all come to the edge that had none: %d and %d", len(conns["edge-1"])-3, len(conns["edge-2"]))
		}
	})
}

// An edge that drains or dies gets nothing new, and its clients go on elsewhere.
func TestProxyLeavesAnEdge(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		signal syscall.Signal
		ended  string // what the clients of the edge see
	}{
		"that drains":  {syscall.SIGTERM, "4012"},
		"that is dead": {syscall.SIGKILL, "1006"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parts, edges, p := startProxied(t, nil)
			_, log := parts.Log(t)
			load := harness.StartLoad(t, 4, 3, p.Place)
			load.AwaitAcks(t, 200)
			watcher := watchClose(t, p)
			moved := clientsOn(load, "edge-2")
			if len(moved) == 0 || len(moved) == 8 {
				t.Fatalf("%d of 8 clients are on edge-2", len(moved))
			}

			edges[1].Signal(t, test.signal)
			// From its first moment on nobody new comes to it, and nobody is refused.
			news := 0
			for p.checked(t, "edge-2") != "DOWN" {
				for _, header := range []http.Header{nil, userCookie("alice"), userCookie("bob"), userHeader("carol")} {
					if _, node := p.open(t, "somebody", header); node == "edge-2" && test.signal == syscall.SIGKILL {
						t.Error("a new client is on an edge that is dead")
					} else if node == "edge-1" {
						news++
					}
				}
			}
			edges[1].WaitExit(t)
			if got := <-watcher; got != test.ended {
				t.Errorf("a client of edge-2 was closed with %s, want %s", got, test.ended)
			}
			load.AwaitAcks(t, 200)
			harness.EventuallyWithin(t, harness.ChildWithin, "all clients are on edge-1", func() bool { return len(clientsOn(load, "edge-1")) == 8 })
			load.Finish(t)
			messages := load.Check(t, p.Place, log, parts.Store)
			t.Logf("%d clients moved, %d new ones came to the other edge meanwhile; %d messages, 0 acknowledged lost in 1 round", len(moved), news, messages)
		})
	}
}

// watchClose is told the close code of a connection that is on edge-2.
func watchClose(t testing.TB, p *proxy) <-chan string {
	t.Helper()
	var conn *websocket.Conn
	for node := ""; node != "edge-2"; {
		conn, node = p.open(t, "watcher", nil)
	}
	code := make(chan string, 1)
	go func() {
		for {
			_, _, err := conn.ReadMessage()
			var closed *websocket.CloseError
			switch {
			case errors.As(err, &closed):
				code <- fmt.Sprint(closed.Code)
				return
			case err != nil:
				code <- err.Error()
				return
			}
		}
	}()
	return code
}

// clientsOn returns the clients of a load that are on an edge now.
func clientsOn(l *harness.Load, node string) (clients []*parley.Client) {
	for _, talk := range l.Pairs {
		for _, s := range talk.Sides {
			if s.Client.Session().Node.String() == node {
				clients = append(clients, s.Client)
			}
		}
	}
	return clients
}

// What an edge has no room for waits for a place, and is refused after the queue's time.
func TestProxyRefusesBeyondMaxconn(t *testing.T) {
	t.Parallel()
	_, _, p := startProxied(t, nil, "PARLEY_PROXY_EDGE_MAXCONN=2")
	var conns []*websocket.Conn
	for range 4 {
		conn, _ := p.open(t, "somebody", nil)
		conns = append(conns, conn)
	}
	_, resp, err := p.handshake(nil)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("the fifth of four: %v, %+v", err, resp)
	}
	waits := make(chan error, 1)
	go func() {
		conn, resp, err := p.handshake(nil)
		if err == nil {
			conn.Close()
		} else if resp != nil {
			err = fmt.Errorf("%w: %s", err, resp.Status)
		}
		waits <- err
	}()
	harness.Eventually(t, "one waits", func() bool { return p.queued(t) == 1 })
	conns[0].Close()
	if err := <-waits; err != nil {
		t.Errorf("who waited while a place became free: %v", err)
	}
}

// queued is how many wait for any edge.
func (p *proxy) queued(t testing.TB) (n int) {
	t.Helper()
	for _, node := range []string{"edge-1", "edge-2", "BACKEND"} {
		var waiting int
		if _, err := fmt.Sscan(p.stat(t, "edges_by_load", node, "qcur"), &waiting); err == nil {
			n += waiting
		}
	}
	return n
}

// Behind the proxy the rate is that of the client's address, whatever the client claims.
func TestProxyTellsTheClientsAddress(t *testing.T) {
	t.Parallel()
	_, edges, p := startProxied(t, []string{"--address-rate=0.2", "--log-level=debug"}) // a burst of one
	handshake := func(from, claim string) int {
		header := userHeader("alice") // each time the same edge
		header.Set("X-Forwarded-For", claim)
		header.Set("Forwarded", "for="+claim)
		dialer := websocket.Dialer{NetDialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext}
		conn, resp, err := dialer.Dial(p.socketURL(), header)
		if err == nil {
			conn.Close()
		}
		if resp == nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	// All of 127.0.0.0/8 is this machine on Linux; elsewhere the dial says that it is not.
	for _, step := range []struct {
		from, claim string
		want        int
	}{
		{"127.0.0.2", "203.0.113.1", http.StatusSwitchingProtocols},
		{"127.0.0.2", "203.0.113.2", http.StatusTooManyRequests},
		{"127.0.0.3", "203.0.113.3", http.StatusSwitchingProtocols},
	} {
		if have := handshake(step.from, step.claim); have != step.want {
			t.Errorf("%s that claims to be %s got %d, want %d", step.from, step.claim, have, step.want)
		}
	}
	said := edges[0].Stderr.String() + edges[1].Stderr.String()
	if !strings.Contains(said, `msg="refuse handshake" address=127.0.0.2`) || strings.Contains(said, "203.0.113") {
		t.Errorf("the edge's log does not tell the address of who was refused, 127.0.0.2")
	}
}

// The page comes from either edge, and its origin is the proxy's.
func TestProxyServesThePage(t *testing.T) {
	t.Parallel()
	_, edges, p := startProxied(t, []string{"--demo-page"})
	resp, err := http.Get(p.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(page), "Parley") {
		t.Errorf("the page: %s, error %v", resp.Status, err)
	}
	if said := edges[0].Stderr.String(); !strings.Contains(said, "level=WARN") || !strings.Contains(said, "never in production") {
		t.Errorf("the edge does not warn of its page:\n%s", said)
	}
	for origin, want := range map[string]int{p.URL: http.StatusSwitchingProtocols, "http://evil.example": http.StatusForbidden} {
		conn, resp, err := p.handshake(http.Header{"Origin": {origin}})
		if err == nil {
			conn.Close()
		}
		if resp == nil || resp.StatusCode != want {
			t.Errorf("from the page of %s: %+v, error %v, want %d", origin, resp, err, want)
		}
	}
}
