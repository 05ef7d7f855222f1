package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

const (
	// handshakesMax bounds the handshakes at a time: a listener's backlog is bounded too.
	handshakesMax   = 256
	handshakeWithin = 20 * time.Second

	idleBufferBytes = 1 << 10
	busyBufferBytes = 64 << 10
)

// session is one welcomed connection. One goroutine reads it; any may write.
type session struct {
	user    schemas.User
	net     net.Conn
	reader  frameReader
	lastSeq uint64 // of the one chat that a workload gives a session
	// lastSeqs has those of each chat, where a session has many of them; else nil.
	lastSeqs  map[string]*uint64
	saidHello time.Time     // just before it was written
	welcomed  time.Duration // from the hello to the welcome

	mu sync.Mutex // held during a write
}

// openSession connects as user. resume is the JSON of the hello's member, or
// empty. It returns after the welcome.
func openSession(ctx context.Context, target *Target, user schemas.User, resume string, bufferBytes int) (*session, error) {
	token, err := target.Token(user)
	if err != nil {
		return nil, fmt.Errorf("token for %s: %w", user, err)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	conn, address, err := dial(ctx, target.WebSocketURL)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s := &session{user: user, net: conn, reader: frameReader{src: conn, buf: make([]byte, bufferBytes)}}
	if err := s.upgrade(address); err != nil {
		s.close()
		return nil, fmt.Errorf("connect %s: %w", user, err)
	}
	if err := s.hello(token, resume); err != nil {
		s.close()
		return nil, fmt.Errorf("hello of %s: %w", user, err)
	}
	return s, nil
}

// openSessionOfMany connects a user that receives the events of many chats. Each
// chat's order is checked by itself.
func openSessionOfMany(ctx context.Context, target *Target, user schemas.User, bufferBytes int) (*session, error) {
	s, err := openSession(ctx, target, user, "", bufferBytes)
	if err == nil {
		s.lastSeqs = make(map[string]*uint64)
	}
	return s, err
}

// openSessions opens n sessions, handshakesMax at a time. After an error those that were opened are closed.
func openSessions(ctx context.Context, n int, open func(ctx context.Context, i int) (*session, error)) (sessions, error) {
	all := make(sessions, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(handshakesMax)
	for i := range n {
		group.Go(func() (err error) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			all[i], err = open(ctx, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		all.close()
		return nil, err
	}
	return all, nil
}

type sessions []*session

func (all sessions) close() {
	for _, s := range all {
		if s != nil {
			s.close()
		}
	}
}

func dial(ctx context.Context, rawURL string) (net.Conn, *url.URL, error) {
	address, err := url.Parse(rawURL)
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	var dialer net.Dialer
	host, port := address.Host, "80"
	if address.Scheme == "wss" {
		port = "443"
	}
	if address.Port() == "" {
		host = net.JoinHostPort(address.Hostname(), port)
	}
	conn, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		// Closing by reset leaves no TIME_WAIT: tens of thousands would use up the ports.
		_ = tcp.SetLinger(0)
	}
	if address.Scheme == "wss" {
		conn = tls.Client(conn, &tls.Config{ServerName: address.Hostname()})
	}
	return conn, address, nil
}

// The key of RFC 6455's example, and its answer: a load generator need not be unpredictable.
const (
	handshakeKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	handshakeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func (s *session) upgrade(address *url.URL) error {
	request := "GET " + address.RequestURI() + " HTTP/1.1\r\nHost: " + address.Host +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: " + schemas.Subprotocol +
		"\r\nSec-WebSocket-Key: " + handshakeKey + "\r\n\r\n"
	if _, err := s.net.Write([]byte(request)); err != nil {
		return err
	}
	for {
		r := &s.reader
		if i := bytes.Index(r.buf[:r.end], []byte("\r\n\r\n")); i >= 0 {
			head := string(r.buf[:i])
			r.start = i + 4
			if !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, handshakeAccept) {
				status, _, _ := strings.Cut(head, "\r\n")
				return fmt.Errorf("the server answers %q", status)
			}
			return nil
		}
		if r.end == len(r.buf) {
			return fmt.Errorf("the server's answer has no end within %d bytes", r.end)
		}
		n, err := r.src.Read(r.buf[r.end:])
		if r.end += n; n == 0 {
			return err
		}
	}
}

func (s *session) hello(token, resume string) error {
	if resume != "" {
		resume = `,"resume":` + resume
	}
	hello := fmt.Appendf(nil, `{"t":"hello","token":%q%s}`, token, resume)
	s.saidHello = time.Now()
	if err := s.write(appendMasked(nil, opText, hello)); err != nil {
		return err
	}
	k, payload, err := s.next()
	if err != nil {
		return err
	}
	if k != kindWelcome {
		return fmt.Errorf("the server answers %.200s", payload)
	}
	s.welcomed = time.Since(s.saidHello)
	return nil
}

// request says a frame, and returns the next one of a kind; those before it are passed over.
func (s *session) request(frame []byte, answer kind) ([]byte, error) {
	if err := s.write(appendMasked(nil, opText, frame)); err != nil {
		return nil, err
	}
	return s.await(answer)
}

// await returns the next frame of a kind; those before it are passed over.
func (s *session) await(awaited kind) ([]byte, error) {
	if err := s.net.SetReadDeadline(time.Now().Add(drainWithin)); err != nil {
		return nil, err
	}
	for {
		k, payload, err := s.next()
		if err != nil || k == awaited {
			return payload, err
		}
	}
}

// errRefused says that the server refused something, or may have lost something.
var errRefused = errors.New("refused by the server")

// next returns the next frame that is not a control frame, and answers pings.
// Errors, resyncs and closes are errors: under a workload none of them may come.
func (s *session) next() (kind, []byte, error) {
	for {
		opcode, payload, err := s.reader.next()
		if err != nil {
			return kindOther, nil, err
		}
		switch opcode {
		case opText:
			k := kindOf(payload)
			switch k {
			case kindError:
				return k, nil, fmt.Errorf("%s is %w: %.300s", s.user, errRefused, payload)
			case kindResync:
				return k, nil, fmt.Errorf("%s is told to resync: the server may have missed events", s.user)
			case kindEvent:
				if err := s.sawEvent(payload); err != nil {
					return k, nil, err
				}
			}
			return k, payload, nil
		case opPing:
			if err := s.write(appendMasked(nil, opPong, payload)); err != nil {
				return kindOther, nil, err
			}
		case opClose:
			code := uint16(0)
			if len(payload) >= 2 {
				code = binary.BigEndian.Uint16(payload)
				payload = payload[2:]
			}
			return kindOther, nil, fmt.Errorf("%s is %w: closed with %d %.100s", s.user, errRefused, code, payload)
		}
	}
}

// sawEvent checks that an event is above the one before.
func (s *session) sawEvent(payload []byte) error {
	seq, ok := numberAfter(payload, seqName)
	if !ok {
		return fmt.Errorf("%s got an event without seq: %.200s", s.user, payload)
	}
	last := &s.lastSeq
	if s.lastSeqs != nil {
		chat := textAfter(payload, chatName)
		if last = s.lastSeqs[string(chat)]; last == nil {
			last = new(uint64)
			s.lastSeqs[string(chat)] = last
		}
	}
	if seq <= *last {
		return fmt.Errorf("%s got seq %d after %d: doubled or out of order", s.user, seq, *last)
	}
	*last = seq
	return nil
}

func (s *session) write(frames []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.net.Write(frames)
	return err
}

func (s *session) close() { s.net.Close() }

// isClosed tells whether a read ended because this side closed the connection.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
