package parley

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"

	"parley/schemas"
)

const (
	handshakeWithin = 10 * time.Second
	writeWithin     = 10 * time.Second
	// readBytesMax bounds a frame of the server: a page holds 512 KiB of events and what belongs to them.
	readBytesMax = 2 << 20
	// steadyAfter is how long a session has to last for the next loss to count as the first.
	steadyAfter = 10 * time.Second
)

// sessions connects a client again and again. One goroutine owns it.
type sessions struct {
	client  *Client
	tries   int    // since a session was steady
	refused string // the token that was refused last
}

// handshakeError is a refusal before there is a WebSocket.
type handshakeError struct {
	status     string
	retryAfter time.Duration
}

func (e *handshakeError) Error() string { return "the server answers " + e.status }

// next returns the next welcomed connection.
func (s *sessions) next(ctx context.Context) (*websocket.Conn, error) {
	for {
		token := s.client.opts.Token()
		if token == s.refused && token != "" {
			return nil, &CloseError{Code: schemas.CloseUnauthenticated, Text: "there is no other token"}
		}
		conn, err := s.client.connect(ctx, token)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if closed := (*CloseError)(nil); errors.As(err, &closed) && closed.Code == schemas.CloseUnauthenticated {
			if s.client.opts.Token() == token {
				return nil, err
			}
			s.refused = token
		}
		wait, again := s.plan(err)
		if !again {
			return nil, err
		}
		s.client.lost(err, wait)
		if s.client.sleep(ctx, wait) != nil {
			return nil, err
		}
	}
}

// runLoop serves conn and those after it until the client ends, and returns why.
func (s *sessions) runLoop(conn *websocket.Conn) error {
	for {
		began := time.Now()
		err := s.client.serve(conn)
		if s.client.ctx.Err() != nil {
			return ErrClosed
		}
		if time.Since(began) >= steadyAfter {
			s.tries = 0
		}
		wait, again := s.plan(err)
		if !again {
			return err
		}
		s.client.lost(err, wait)
		if s.client.sleep(s.client.ctx, wait) != nil {
			return ErrClosed
		}
		if conn, err = s.next(s.client.ctx); err != nil {
			if s.client.ctx.Err() != nil {
				return ErrClosed
			}
			return err
		}
	}
}

// plan tells how long to wait after err, and whether to try again at all.
func (s *sessions) plan(err error) (wait time.Duration, again bool) {
	if !s.client.opts.Reconnect {
		return 0, false
	}
	s.tries++
	backoff := s.backoff()
	var closed *CloseError
	var refused *handshakeError
	switch {
	case errors.As(err, &refused):
		return max(backoff, refused.retryAfter), true
	case !errors.As(err, &closed):
		return backoff, true
	}
	switch closed.Code {
	case schemas.CloseRevoked, schemas.CloseProtocol, schemas.CloseTooLarge:
		return 0, false
	case schemas.CloseSlow, schemas.CloseExpired:
		if s.tries == 1 {
			return 0, true
		}
	case schemas.CloseDraining:
		var reason schemas.DrainReason
		if json.Unmarshal([]byte(closed.Text), &reason) == nil && reason.Delay > 0 {
			// The server spreads its clients itself; a broken reason cannot keep one away.
			return min(time.Duration(reason.Delay)*time.Millisecond, time.Minute), true
		}
	}
	return backoff, true
}

// backoff doubles with each try; its upper half is chance, so that clients that
// were lost together do not come back together.
func (s *sessions) backoff() time.Duration {
	d := s.client.opts.BackoffMin << min(s.tries-1, 20)
	if d <= 0 || d > s.client.opts.BackoffMax {
		d = s.client.opts.BackoffMax
	}
	return d/2 + rand.N(d/2+1)
}

func (c *Client) lost(err error, wait time.Duration) {
	if c.opts.OnLost != nil {
		c.inbox.put(item{lost: &loss{err, wait}}, 0)
	}
}

// hello is [schemas.Hello] with an empty resume written out: it is answered too.
type hello struct {
	T      schemas.Type            `json:"t"`
	Token  string                  `json:"token"`
	Device schemas.ID              `json:"device,omitzero"`
	Resume map[schemas.Chat]uint64 `json:"resume"`
}

// connect opens a WebSocket and returns it welcomed.
func (c *Client) connect(ctx context.Context, token string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	dialer := websocket.Dialer{Subprotocols: []string{schemas.Subprotocol}, Proxy: http.ProxyFromEnvironment}
	conn, resp, err := dialer.DialContext(ctx, c.opts.URL, nil)
	if err != nil {
		if resp != nil {
			after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
			return nil, &handshakeError{resp.Status, min(time.Duration(after)*time.Second, time.Minute)}
		}
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.NetConn().Close() })
	defer stop()
	welcome, err := c.introduce(conn, token)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no welcome: %w", context.Cause(ctx))
		}
		return nil, err
	}
	c.mu.Lock()
	c.welcome = welcome
	c.mu.Unlock()
	c.sessions.Add(1)
	c.inbox.put(item{welcome: &welcome}, 0)
	return conn, nil
}

func (c *Client) introduce(conn *websocket.Conn, token string) (schemas.Welcome, error) {
	if conn.Subprotocol() != schemas.Subprotocol {
		return schemas.Welcome{}, fmt.Errorf("the server does not speak %s", schemas.Subprotocol)
	}
	conn.SetReadLimit(readBytesMax)
	frame, err := json.Marshal(hello{schemas.THello, token, c.opts.Device, c.chats.resume()}, json.Deterministic(true))
	if err != nil {
		return schemas.Welcome{}, fmt.Errorf("encode hello: %w", err)
	}
	conn.SetWriteDeadline(time.Now().Add(writeWithin))
	if err := conn.WriteMessage(websocket.TextMessage, frame); err != nil {
		return schemas.Welcome{}, err
	}
	var cause *schemas.Error
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			return schemas.Welcome{}, closeError(err, cause)
		}
		head, err := decodeHead(data)
		if err != nil {
			return schemas.Welcome{}, err
		}
		switch head.T {
		case schemas.TWelcome:
			var welcome schemas.Welcome
			if err := json.Unmarshal(data, &welcome); err != nil {
				return welcome, fmt.Errorf("decode welcome: %w", err)
			}
			return welcome, nil
		case schemas.TError:
			cause = decodeError(data)
		}
	}
}

// serve says again what is unanswered, and reads until the connection is lost.
func (c *Client) serve(conn *websocket.Conn) error {
	stop := context.AfterFunc(c.ctx, func() {
		goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(time.Second))
		conn.NetConn().Close()
	})
	var saying sync.WaitGroup
	saying.Go(func() { c.sayAgain(conn) }) // beside the reading: answers must not pile up
	err := c.readLoop(conn)
	stop()
	c.mu.Lock()
	c.conn = nil
	c.mu.Unlock()
	conn.NetConn().Close()
	saying.Wait()
	return err
}

func (c *Client) readLoop(conn *websocket.Conn) error {
	silence := time.Duration(c.Session().Heartbeat) * time.Second * 5 / 2
	alive := func() {
		if silence > 0 {
			conn.SetReadDeadline(time.Now().Add(silence))
		}
	}
	alive()
	conn.SetPingHandler(func(data string) error {
		alive()
		// A pong that cannot be written shows in the next read.
		conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
		return nil
	})
	var cause *schemas.Error
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			return closeError(err, cause)
		}
		alive()
		if err := c.handleFrame(data, &cause); err != nil {
			return err
		}
	}
}

// handleFrame gives answers to who waits, and the rest to dispatchLoop.
func (c *Client) handleFrame(data []byte, cause **schemas.Error) error {
	head, err := decodeHead(data)
	if err != nil {
		return err
	}
	queued := true
	switch head.T {
	case schemas.TAck, schemas.TPage, schemas.TRenewed, schemas.TDone, schemas.TPong,
		schemas.TCreated, schemas.TMembers, schemas.TChats, schemas.TProfiles, schemas.TReceipts:
		c.resolve(head.Ref, data, nil)
	case schemas.TError:
		refusal := decodeError(data)
		if head.Ref == nil {
			*cause = refusal // a close may follow, of which it is the reason
			c.opts.Log.Warn("refused by the server", "err", refusal)
			break
		}
		c.resolve(head.Ref, data, refusal)
	case schemas.TEvent, schemas.TChat, schemas.TTyping, schemas.TReceipt, schemas.TPresence, schemas.TResumed, schemas.TResync:
		// A presence that answers is a change as well: it has its place among the others.
		c.resolve(head.Ref, data, nil)
		it, err := decodeItem(head.T, data)
		if err != nil {
			return err
		}
		queued = c.inbox.put(it, len(data))
	}
	if !queued {
		// The log has what is thrown away here, and resuming brings it again.
		c.inbox.drop()
		return &CloseError{Code: schemas.CloseSlow, Text: "the client's own callbacks are too slow"}
	}
	return nil
}

type head struct {
	T   schemas.Type `json:"t"`
	Ref *uint64      `json:"ref"`
}

func decodeHead(data []byte) (head, error) {
	var h head
	if err := json.Unmarshal(data, &h); err != nil {
		return h, fmt.Errorf("decode frame: %w", err)
	}
	return h, nil
}

func decodeError(data []byte) *schemas.Error {
	var frame schemas.ErrorFrame
	if err := json.Unmarshal(data, &frame); err != nil {
		return schemas.Errorf(schemas.Internal, "decode error frame: %v", err)
	}
	return &frame.Error
}

func closeError(err error, cause *schemas.Error) error {
	if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
		return &CloseError{Code: schemas.CloseCode(closed.Code), Text: closed.Text, Cause: cause}
	}
	return fmt.Errorf("read from the server: %w", err)
}
