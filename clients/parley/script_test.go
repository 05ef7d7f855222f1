package parley

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"parley/schemas"
)

const testWithin = 20 * time.Second

// scriptServer hands each connection to the test, and the test plays the server. Only
// such a server causes gaps, losses and refusals when a test needs them.
type scriptServer struct {
	t     *testing.T
	url   string
	conns chan *scriptConn
}

type scriptConn struct {
	t *testing.T
	*websocket.Conn
}

func newScriptServer(t *testing.T) *scriptServer {
	t.Helper()
	s := &scriptServer{t: t, conns: make(chan *scriptConn, 16)}
	upgrader := websocket.Upgrader{Subprotocols: []string{schemas.Subprotocol}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err == nil {
			s.conns <- &scriptConn{t, conn}
		}
	}))
	s.url = server.URL
	t.Cleanup(server.Close)
	return s
}

// accept returns the next connection.
func (s *scriptServer) accept() *scriptConn {
	s.t.Helper()
	select {
	case conn := <-s.conns:
		s.t.Cleanup(func() { conn.Close() })
		return conn
	case <-time.After(testWithin):
		s.t.Fatal("no connection came")
		return nil
	}
}

// dial starts Dial and plays its handshake, in which the client says hello.
func (s *scriptServer) dial(opts Options, hello string) (*Client, *scriptConn) {
	s.t.Helper()
	opts.URL = s.url
	if opts.Token == nil {
		opts.Token = StaticToken("T")
	}
	opts.BackoffMin, opts.BackoffMax = time.Millisecond, 5*time.Millisecond
	type dialed struct {
		client *Client
		err    error
	}
	done := make(chan dialed, 1)
	go func() {
		client, err := Dial(s.t.Context(), opts)
		done <- dialed{client, err}
	}()
	conn := s.accept()
	conn.want(hello)
	conn.sayWelcome()
	d := <-done
	if d.err != nil {
		s.t.Fatal(d.err)
	}
	s.t.Cleanup(d.client.Close)
	return d.client, conn
}

// want reads the client's next frame and checks it.
func (c *scriptConn) want(want string) {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(testWithin))
	_, data, err := c.ReadMessage()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", want, err)
	}
	if string(data) != want {
		c.t.Fatalf("the client said %s\nwant           %s", data, want)
	}
}

func (c *scriptConn) say(format string, args ...any) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *scriptConn) sayWelcome() {
	c.t.Helper()
	c.say(`{"t":"welcome","user":"alice","session":"s1","node":"edge-1","heartbeat":30,"bodyBytesMax":102400,"now":"2026-11-24T03:00:00Z","expires":"2026-11-24T04:00:00Z"}`)
}

func (c *scriptConn) sayEvent(seq, prev uint64, from, id string) {
	c.t.Helper()
	c.say(`{"t":"event","chat":"direct.alice.bob","seq":%d,"prev":%d,"time":"2026-11-24T03:00:00Z","event":%s}`, seq, prev, eventJSON(from, id))
}

func eventJSON(from, id string) string {
	return fmt.Sprintf(`{"type":"message","id":%q,"from":%q,"body":{"kind":"text","text":"hi"}}`, id, from)
}

func (c *scriptConn) sayAck(ref int, id string, seq uint64) {
	c.t.Helper()
	c.say(`{"t":"ack","ref":%d,"id":%q,"chat":"direct.alice.bob","seq":%d,"time":"2026-11-24T03:00:00Z"}`, ref, id, seq)
}

func (c *scriptConn) closeWith(code schemas.CloseCode, text string) {
	c.t.Helper()
	if err := c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(int(code), text), time.Now().Add(testWithin)); err != nil {
		c.t.Fatal(err)
	}
}

const (
	helloEmpty = `{"t":"hello","token":"T","resume":{}}`
	helloAt    = `{"t":"hello","token":"T","resume":{"direct.alice.bob":%d}}`
)

var directAB = mustChat("direct.alice.bob")

func mustChat(name string) schemas.Chat {
	chat, err := schemas.ParseChat(name)
	if err != nil {
		panic(err)
	}
	return chat
}

func mustID(t *testing.T, name string) schemas.ID {
	t.Helper()
	id, err := schemas.ParseID(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// recorder collects what the callbacks bring.
type recorder struct {
	t    *testing.T
	said chan string
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{t, make(chan string, 256)}
}

func (r *recorder) event(ev Event) { r.said <- fmt.Sprintf("%d %s", ev.Seq, ev.ID) }

func (r *recorder) want(lines ...string) {
	r.t.Helper()
	for _, want := range lines {
		select {
		case got := <-r.said:
			if got != want {
				r.t.Fatalf("callback %q, want %q", got, want)
			}
		case <-time.After(testWithin):
			r.t.Fatalf("no callback, want %q", want)
		}
	}
}
