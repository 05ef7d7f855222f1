package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gorilla/websocket"

	"parley/schemas"
)

// client is a bare WebSocket client: it knows frames and nothing else.
type client struct {
	t    testing.TB
	conn *websocket.Conn

	writeMu sync.Mutex // gorilla takes one writer at a time; pongs have their own way

	frames chan got      // closed at the connection's end
	ended  chan struct{} // closed after frames
	err    error         // why it ended; to be read after ended
	refs   uint64
	seen   map[string]int // frames taken by next, by type
}

// got is a frame from the server, every member of every type.
type got struct {
	T          string                            `json:"t"`
	Ref        *uint64                           `json:"ref"`
	ID         string                            `json:"id"`
	Code       schemas.Code                      `json:"code"`
	Message    string                            `json:"message"`
	RetryAfter float64                           `json:"retryAfter"`
	Chat       string                            `json:"chat"`
	Seq        uint64                            `json:"seq"`
	Prev       uint64                            `json:"prev"`
	Duplicate  bool                              `json:"duplicate"`
	User       string                            `json:"user"`
	Session    string                            `json:"session"`
	Heartbeat  int                               `json:"heartbeat"`
	Expires    time.Time                         `json:"expires"`
	Chats      int                               `json:"chats"`
	Reset      []schemas.ResetChat               `json:"reset"`
	Change     string                            `json:"change"`
	Marks      []schemas.ReceiptMark             `json:"marks"`
	Users      map[schemas.User]schemas.Presence `json:"users"`
	Event      struct {
		Type string         `json:"type"`
		ID   string         `json:"id"`
		From string         `json:"from"`
		Body jsontext.Value `json:"body"`
	} `json:"event"`
	raw string
}

func (g got) String() string { return g.raw[:min(len(g.raw), 300)] }

// connect opens a connection without a word.
func (r *rig) connect(t testing.TB, e *testEdge) *client {
	t.Helper()
	return r.connectWith(t, e, websocket.Dialer{})
}

func (r *rig) connectWith(t testing.TB, e *testEdge, dialer websocket.Dialer) *client {
	t.Helper()
	c := dialClient(t, e, dialer)
	go c.readLoop()
	return c
}

// dialClient opens a connection that nobody reads yet.
func dialClient(t testing.TB, e *testEdge, dialer websocket.Dialer) *client {
	t.Helper()
	dialer.Subprotocols = []string{schemas.Subprotocol}
	conn, resp, err := dialer.Dial("ws://"+e.addr+"/v1/ws", nil)
	if err != nil {
		t.Fatalf("dial: %v, %+v", err, resp)
	}
	c := &client{t: t, conn: conn, frames: make(chan got, 1<<16), ended: make(chan struct{}), seen: make(map[string]int)}
	t.Cleanup(c.cut)
	return c
}

func (c *client) readLoop() {
	defer close(c.ended)
	defer close(c.frames)
	for {
		kind, data, err := c.conn.ReadMessage()
		if err != nil {
			c.err = err
			return
		}
		var g got
		if err := json.Unmarshal(data, &g); err != nil || kind != websocket.TextMessage || !strings.HasPrefix(string(data), `{"t":"`) {
			c.err = fmt.Errorf("frame of kind %d: %v: %q", kind, err, data)
			return
		}
		g.raw = string(data)
		c.frames <- g
	}
}

// cut ends the connection without a word.
func (c *client) cut() { _ = c.conn.Close() }

// hangUp cuts the connection and waits until the reader has seen its end.
func (c *client) hangUp() {
	c.cut()
	<-c.ended
}

// join connects as user and says hello; extra are more members, with a comma before.
func (r *rig) join(t testing.TB, e *testEdge, user string, extra ...string) *client {
	t.Helper()
	c := r.connect(t, e)
	c.hello(r.token(t, user), extra...)
	if w := c.next(); w.T != "welcome" || w.User != user {
		t.Fatalf("hello of %s was answered with %v", user, w)
	}
	return c
}

func (c *client) hello(token string, extra ...string) {
	c.t.Helper()
	c.say(`{"t":"hello","token":"` + token + `"` + strings.Join(extra, "") + `}`)
}

func (c *client) say(frame string) {
	c.t.Helper()
	if err := c.write(websocket.TextMessage, frame); err != nil {
		c.t.Fatalf("say %.100s: %v", frame, err)
	}
}

func (c *client) write(kind int, frame string) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.conn.WriteMessage(kind, []byte(frame))
}

// next returns the next frame.
func (c *client) next() got {
	c.t.Helper()
	select {
	case g, ok := <-c.frames:
		if !ok {
			c.t.Fatalf("the connection ended: %v", c.err)
		}
		c.seen[g.T]++
		return g
	case <-time.After(failAfter):
		c.t.Fatal("no frame comes")
	}
	panic("not reached")
}

// await skips frames until one of type t.
func (c *client) await(t string) got {
	c.t.Helper()
	for {
		if g := c.next(); g.T == t {
			return g
		}
	}
}

// awaitSeen takes frames until one of type t has come, now or before.
func (c *client) awaitSeen(t string) {
	c.t.Helper()
	for c.seen[t] == 0 {
		c.next()
	}
}

// answer returns the frame that carries ref and fails on any other answer before it.
func (c *client) answer(ref uint64) got {
	c.t.Helper()
	for {
		if g := c.next(); g.Ref != nil {
			if *g.Ref != ref {
				c.t.Fatalf("got %v, want the answer to ref %d", g, ref)
			}
			return g
		}
	}
}

// quiet checks that what comes next is the pong of a ping that is sent now:
// whatever was to come before it would have come.
func (c *client) quiet() {
	c.t.Helper()
	if g := c.barrier(); len(g) > 0 {
		c.t.Fatalf("got %v, want nothing", g)
	}
}

// barrier sends a ping and returns what comes before its pong.
func (c *client) barrier() (before []got) {
	c.t.Helper()
	c.refs++
	ref := c.refs + 1<<40
	c.say(`{"t":"ping","ref":` + strconv.FormatUint(ref, 10) + `}`)
	for {
		g := c.next()
		if g.T == "pong" && g.Ref != nil && *g.Ref == ref {
			return before
		}
		before = append(before, g)
	}
}

// closedWith waits for the connection's end, skipping frames, and checks the close code. It returns the reason.
func (c *client) closedWith(code schemas.CloseCode) string {
	c.t.Helper()
	c.awaitEnd()
	var closed *websocket.CloseError
	if !errors.As(c.err, &closed) || closed.Code != int(code) {
		c.t.Fatalf("the connection ended with %v, want close code %d", c.err, code)
	}
	return closed.Text
}

func (c *client) awaitEnd() {
	c.t.Helper()
	deadline := time.After(failAfter)
	for {
		select {
		case _, ok := <-c.frames:
			if !ok {
				<-c.ended
				return
			}
		case <-deadline:
			c.t.Fatal("the connection does not end")
		}
	}
}

// sendFrame is a send of text; extra are more members, with a comma before.
func sendFrame(ref uint64, id, chat, text string, extra ...string) string {
	return fmt.Sprintf(`{"t":"send","ref":%d,"id":%q,"chat":%q,"type":"message","body":%s%s}`, ref, id, chat, textBody(text), strings.Join(extra, ""))
}

func textBody(text string) jsontext.Value {
	quoted, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		panic(err)
	}
	return jsontext.Value(`{"kind":"text","text":` + string(quoted) + `}`)
}

// sent sends text and returns the seq of its ack, whatever comes meanwhile.
func (c *client) sent(id, chat, text string, extra ...string) uint64 {
	c.t.Helper()
	c.refs++
	c.say(sendFrame(c.refs, id, chat, text, extra...))
	ack := c.answer(c.refs)
	if ack.T != "ack" || ack.ID != id || ack.Chat != chat {
		c.t.Fatalf("send %s was answered with %v", id, ack)
	}
	return ack.Seq
}

// handshake asks for a WebSocket and returns the HTTP status; an opened connection is closed.
func handshake(t testing.TB, e *testEdge, header http.Header) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), failAfter)
	defer cancel()
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+e.addr+"/v1/ws", header)
	if err == nil {
		_ = conn.Close()
	} else if resp == nil {
		t.Fatal(err)
	}
	return resp
}

// smallBuffers dials with a receive buffer so small that an unread connection blocks its sender soon.
func smallBuffers() websocket.Dialer {
	return websocket.Dialer{NetDial: func(network, addr string) (net.Conn, error) {
		dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			controlErr := raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
			})
			return errors.Join(controlErr, err)
		}}
		return dialer.Dial(network, addr)
	}}
}
