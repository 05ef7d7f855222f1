package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"github.com/oklog/ulid/v2"

	"parley/edge/auth"
	"parley/schemas"
)

// farewellWithin bounds the last words to a connection that gets no session.
const farewellWithin = 2 * time.Second

// accept upgrades a request and returns: what follows runs on goroutines of its
// own, so that the request's buffers and grown stack do not stay with an idle connection.
func (e *Edge) accept(w http.ResponseWriter, r *http.Request) {
	client := clientAddress(r, e.cfg.TrustedProxies)
	if e.draining.Load() {
		e.refuseRequest(w, client, http.StatusServiceUnavailable, &schemas.Error{Code: schemas.Unavailable, Message: "this node is draining", RetryAfter: 1})
		return
	}
	if !e.addresses.take(client, e.now()) {
		e.refuseRequest(w, client, http.StatusTooManyRequests, &schemas.Error{Code: schemas.RateLimited, Message: "too many connections from this address", RetryAfter: 1})
		return
	}
	// Counted before the server forgets the connection: its Shutdown waits until here.
	e.conns.Add(1)
	conn, err := e.upgrader.Upgrade(w, r, nil)
	if err != nil { // answered by the upgrader
		e.conns.Done()
		e.metrics.handshakes.WithLabelValues("upgrade").Inc()
		e.log.Debug("refuse handshake", "address", client, "origin", r.Header.Get("Origin"), "error", err)
		return
	}
	open := e.connections.Add(1)
	if open > int64(e.cfg.SessionsMax) {
		e.connections.Add(-1) // who is told that there is no place takes none
		go func() {
			defer e.conns.Done()
			e.refuseConnection(conn, schemas.CloseFull, "node full: resume elsewhere", nil)
			_ = conn.Close()
		}()
		return
	}
	e.metrics.connections.Set(float64(open))
	go func() {
		defer e.conns.Done()
		if s := e.welcome(conn); s == nil {
			e.endConnection(conn)
		}
	}()
}

// refuseRequest leaves the log to those who look for something: whoever is
// refused could else fill it.
func (e *Edge) refuseRequest(w http.ResponseWriter, client netip.Addr, status int, err *schemas.Error) {
	e.log.Debug("refuse handshake", "address", client, "error", err.Message)
	e.metrics.handshakes.WithLabelValues(string(err.Code)).Inc()
	writeError(w, status, err)
}

func (e *Edge) endConnection(conn *websocket.Conn) {
	_ = conn.Close()
	e.metrics.connections.Set(float64(e.connections.Add(-1)))
}

// welcome takes a connection's hello, makes its session, starts the session's
// read loop and resumes it. It returns nil where it refused; until there is a
// session nothing else writes to the connection.
func (e *Edge) welcome(conn *websocket.Conn) *session {
	_ = conn.SetReadDeadline(time.Now().Add(schemas.HelloWithin))
	hello, ref, code, err := readHello(conn)
	if code != 0 {
		return e.refuseConnection(conn, code, "bad hello", errorFrame(ref, "", err))
	}
	identity, err := e.auth.Verify(hello.Token)
	if err != nil {
		return e.refuseConnection(conn, schemas.CloseUnauthenticated, "get a new token", errorFrame(ref, "", err))
	}
	_ = conn.SetReadDeadline(time.Time{})

	s := e.newSession(conn, identity, hello)
	ctx, cancel := e.ctx, context.CancelFunc(nil)
	if hello.Resume != nil {
		ctx, cancel = context.WithCancel(e.ctx)
		defer cancel()
		s.stopResume = cancel
	}
	if err := e.lives.of(identity.User.String()).join(e.ctx, identity.User, s); err != nil {
		e.log.Warn("join", "user", identity.User, "error", err)
		s.user.live.leave(s)
		err := &schemas.Error{Code: schemas.Unavailable, Message: "this node cannot reach the log: resume elsewhere", RetryAfter: 1}
		return e.refuseConnection(conn, schemas.CloseFull, "node cut off: resume elsewhere", errorFrame(ref, "", err))
	}
	e.metrics.handshakes.WithLabelValues("welcome").Inc()
	s.loop.push(item{do: func(l *fanoutLoop) {
		s.out.welcomed = true
		l.append(s, jsonFrame(e.welcomeOf(s, identity)))
	}})
	e.keys.refresh(s)
	if e.draining.Load() { // the drain may have come before the join
		s.close(schemas.CloseDraining, `{"delay":0}`)
	}
	e.conns.Add(1)
	go e.serve(s) // a fresh goroutine: this one's stack has grown
	if hello.Resume != nil {
		newResume(e.members, s).run(ctx, hello.Resume)
	}
	return s
}

func (e *Edge) welcomeOf(s *session, identity auth.Identity) schemas.Welcome {
	return schemas.Welcome{
		T: schemas.TWelcome, User: identity.User, Session: s.id, Node: e.cfg.Node,
		Heartbeat: int(e.cfg.Heartbeat.Seconds()), BodyBytesMax: schemas.BodyBytesMax,
		Now: e.now().UTC(), Expires: identity.Expires.UTC(),
	}
}

// readHello returns a connection's hello, or the close code and the error that
// refuse what came in its place.
func readHello(conn *websocket.Conn) (*schemas.Hello, schemas.Ref, schemas.CloseCode, *schemas.Error) {
	kind, reader, err := conn.NextReader()
	var buf bytes.Buffer
	if err == nil {
		_, err = buf.ReadFrom(io.LimitReader(reader, schemas.FrameBytesMax+1))
	}
	var network net.Error
	switch {
	case errors.As(err, &network) && network.Timeout():
		return nil, schemas.Ref{}, schemas.CloseUnauthenticated, schemas.Errorf(schemas.Unauthenticated, "no hello came within %s", schemas.HelloWithin)
	case err != nil: // gone, or not WebSocket
		return nil, schemas.Ref{}, schemas.CloseProtocol, schemas.Errorf(schemas.BadFrame, "the connection ended before its hello")
	case buf.Len() > schemas.FrameBytesMax:
		return nil, schemas.Ref{}, schemas.CloseTooLarge, schemas.Errorf(schemas.TooLarge, "a frame has at most %d bytes", schemas.FrameBytesMax)
	case kind != websocket.TextMessage:
		return nil, schemas.Ref{}, schemas.CloseProtocol, schemas.Errorf(schemas.BadFrame, "a frame is a text message, not a binary one")
	}
	frame, bad := schemas.DecodeFrame(buf.Bytes())
	switch {
	case bad != nil:
		return nil, frame.Ref, schemas.CloseProtocol, schemas.Errorf(schemas.BadFrame, "%s", bad.Message)
	case frame.Hello == nil:
		return nil, frame.Ref, schemas.CloseProtocol, schemas.Errorf(schemas.BadFrame, "the first frame has to be hello, not %s", frame.T)
	}
	return frame.Hello, frame.Ref, 0, nil
}

// refuseConnection says why and waits until the client has hung up or its time is over.
func (e *Edge) refuseConnection(conn *websocket.Conn, code schemas.CloseCode, reason string, frame wireFrame) *session {
	e.metrics.handshakes.WithLabelValues(closeNames[code]).Inc()
	e.metrics.closed(code)
	raw := conn.NetConn()
	_ = raw.SetDeadline(time.Now().Add(farewellWithin)) // the connection may be gone: then the next lines fail too
	if _, err := raw.Write(append(frame[:len(frame):len(frame)], closeFrame(code, reason)...)); err != nil {
		return nil
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, raw)
	return nil
}

// closeNames are the reasons for refusing a handshake, as the metric's label.
var closeNames = map[schemas.CloseCode]string{
	schemas.CloseFull:            "full",
	schemas.CloseUnauthenticated: "unauthenticated",
	schemas.CloseProtocol:        "bad_frame",
	schemas.CloseTooLarge:        "too_large",
}

// newSession makes a session; join puts it to work.
func (e *Edge) newSession(conn *websocket.Conn, identity auth.Identity, hello *schemas.Hello) *session {
	now := e.now()
	id, err := schemas.ParseID(ulid.Make().String())
	if err != nil {
		panic("a ULID is no id: " + err.Error())
	}
	s := &session{id: id, device: hello.Device, conn: conn, loop: e.nextLoop()}
	if tcp, ok := conn.NetConn().(*net.TCPConn); ok {
		s.raw, _ = tcp.SyscallConn() // nil for a connection that is closed: its writes are the helper's, and fail there
	}
	s.heardAt.Store(now.Unix())
	s.expiresAt.Store(identity.Expires.Unix())
	s.usedAt.Store(now.Unix())
	s.out.pingAt = now.Add(e.cfg.Heartbeat).Unix()
	s.out.shownAt = now.Add(keyTTL(e.cfg.Heartbeat) / refreshesPerTTL).Unix()
	for chat := range hello.Resume {
		if s.out.gates == nil {
			s.out.gates = make(map[schemas.Chat]*gate, len(hello.Resume))
		}
		s.out.gates[chat] = &gate{held: true}
	}
	return s
}

// nextLoop spreads the sessions evenly.
func (e *Edge) nextLoop() *fanoutLoop {
	return e.loops[e.sessionsMade.Add(1)%uint64(len(e.loops))]
}

// serve runs a session's read loop, and then takes the session away.
func (e *Edge) serve(s *session) {
	defer e.conns.Done()
	e.readLoop(e.ctx, s)
	if s.stopResume != nil {
		s.stopResume()
	}
	s.user.live.leave(s)
	e.watches.unwatchAll(s)
	e.keys.refresh(s)
	e.endConnection(s.conn)
}

var _ syscall.Conn = (*net.TCPConn)(nil)
