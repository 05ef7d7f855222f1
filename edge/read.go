package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"parley/schemas"
)

// readBufferBytes is small on purpose: most connections are idle. Longer frames
// are read straight into a pooled buffer.
const readBufferBytes = 256

// frameBuffers holds buffers for whole frames; most of a session's time it has none.
var frameBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// errFrameTooLarge takes the place of the library's own read limit, which would
// write its close frame past the fan-out loop.
var errFrameTooLarge = errors.New("frame too large")

// readLoop reads and dispatches a session's frames until the connection ends.
func (e *Edge) readLoop(ctx context.Context, s *session) {
	s.conn.SetPongHandler(func(string) error { s.heard(e.now()); return nil })
	s.conn.SetPingHandler(func(payload string) error {
		s.heard(e.now())
		s.push(pongFrame(payload))
		return nil
	})
	s.conn.SetCloseHandler(func(int, string) error { return nil }) // answered below, through the fan-out loop
	for {
		err := e.readOnce(ctx, s)
		if err == nil {
			continue
		}
		s.goodbye(err)
		return
	}
}

// readOnce reads one frame. Its error ends the connection.
func (e *Edge) readOnce(ctx context.Context, s *session) error {
	kind, reader, err := s.conn.NextReader()
	if err != nil {
		return err
	}
	buf := frameBuffers.Get().(*bytes.Buffer)
	defer frameBuffers.Put(buf)
	buf.Reset()
	if n, err := buf.ReadFrom(io.LimitReader(reader, schemas.FrameBytesMax+1)); err != nil {
		return err
	} else if n > schemas.FrameBytesMax {
		return errFrameTooLarge
	}
	readAt := e.now()
	s.heard(readAt)
	if s.closing.Load() {
		return nil
	}
	if kind != websocket.TextMessage {
		s.refuse(schemas.Frame{}, schemas.Errorf(schemas.BadFrame, "a frame is a text message, not a binary one"))
		return nil
	}
	frame, bad := schemas.DecodeFrame(buf.Bytes())
	if bad != nil {
		s.refuse(frame, bad)
		return nil
	}
	switch frame.T {
	case schemas.TPing, schemas.TDelivered, schemas.TRenew: // clients say them by themselves
	default:
		s.used(readAt)
	}
	e.dispatch(ctx, s, frame, readAt)
	return nil
}

// dispatch hands a frame to its handler. A handler answers through s.push.
func (e *Edge) dispatch(ctx context.Context, s *session, frame schemas.Frame, readAt time.Time) {
	var err *schemas.Error
	switch frame.T {
	case schemas.TSend:
		err = e.sends.handleSend(ctx, s, frame.Ref, frame.Send, readAt)
	case schemas.THistory:
		err = e.requests.handleHistory(ctx, s, frame.Ref, frame.History)
	case schemas.TTyping:
		err = e.handleTyping(s, frame.Ref, frame.Typing)
	case schemas.TDelivered, schemas.TRead:
		err = e.marks.handleMark(s, frame)
	case schemas.TPresence:
		err = e.watches.handlePresence(ctx, s, frame)
	case schemas.TWatch:
		err = e.watches.handleWatch(ctx, s, frame)
	case schemas.TUnwatch:
		err = e.watches.handleUnwatch(s, frame)
	case schemas.TRenew:
		err = e.handleRenew(s, frame.Ref, frame.Renew)
	case schemas.TPing:
		s.push(pongedFrame(frame.Ref))
	case schemas.THello:
		err = schemas.Errorf(schemas.BadFrame, "hello was said already: a connection has one")
	default:
		err = e.requests.handleAsk(ctx, s, frame)
	}
	if err != nil {
		s.refuse(frame, err)
	}
}

// refuse answers a frame with an error. The tenth malformed one within a minute
// also ends the connection.
func (s *session) refuse(frame schemas.Frame, err *schemas.Error) {
	id := ""
	if frame.Send != nil {
		id = frame.Send.ID.String()
	}
	if frame.T == schemas.TSend {
		s.loop.metrics.sends.WithLabelValues(string(err.Code)).Inc()
	}
	s.push(errorFrame(frame.Ref, id, err))
	if err.Code == schemas.BadFrame {
		s.countBadFrame(s.loop.now())
	}
}

// countBadFrame is the read loop's.
func (s *session) countBadFrame(now time.Time) {
	for len(s.badFrames) > 0 && now.Sub(s.badFrames[0]) > time.Minute {
		s.badFrames = s.badFrames[1:]
	}
	if s.badFrames = append(s.badFrames, now); len(s.badFrames) >= schemas.BadFramesMax {
		s.close(schemas.CloseProtocol, "too many malformed frames")
	}
}

// heard notes that the client said something. What comes from a client that is
// silent for too long is not taken, though the fan-out loop has not closed it yet:
// this process may have been stopped while its sockets filled. A send that
// waited there can have been said again elsewhere so long ago that the log would
// not know it for the same.
func (s *session) heard(now time.Time) {
	if s.loop.silent(s, now.Unix()) {
		s.close(schemas.CloseSilent, "silent for too long")
		return
	}
	s.heardAt.Store(now.Unix())
}

// goodbye says why the read loop ends where the client can still hear it.
func (s *session) goodbye(err error) {
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.Is(err, errFrameTooLarge):
		s.close(schemas.CloseTooLarge, "a frame has at most 131072 bytes")
	case errors.As(err, &closed):
		s.close(schemas.CloseNormal, "")
	case errors.As(err, &network), errors.Is(err, io.EOF):
		return // the connection is gone
	default: // not WebSocket: the library has answered 1002
	}
	// Until the client hangs up or its time is over: see session.hangUp.
	conn := s.conn.NetConn()
	_ = conn.SetReadDeadline(time.Now().Add(lingerWithin))
	_, _ = io.Copy(io.Discard, conn)
}

// handleRenew lets the session live as long as a new token does.
func (e *Edge) handleRenew(s *session, ref schemas.Ref, renew *schemas.Renew) *schemas.Error {
	identity, err := e.auth.Verify(renew.Token)
	if err != nil {
		return err
	}
	if identity.User != s.user.name {
		return schemas.Errorf(schemas.Forbidden, "the token is of another user than this session")
	}
	s.expiresAt.Store(identity.Expires.Unix())
	s.push(jsonFrame(schemas.Renewed{T: schemas.TRenewed, Ref: refPointer(ref), Expires: identity.Expires.UTC()}))
	return nil
}
