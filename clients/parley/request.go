package parley

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gorilla/websocket"

	"parley/schemas"
)

// requestsMax bounds the requests in flight; one more waits for an answer to another.
const requestsMax = 4096

// ErrDisconnected says that there is no connection right now.
var ErrDisconnected = errors.New("the client is not connected")

// request waits for its answer over any number of connections.
type request struct {
	ref    uint64
	send   *sendFrame // one of these is set
	page   *historyFrame
	renew  *renewFrame
	said   bool // on some connection; guarded by Client.mu
	answer chan answer
}

type answer struct {
	data []byte
	err  error
}

type sendFrame struct {
	T   schemas.Type `json:"t"`
	Ref uint64       `json:"ref"`
	schemas.Send
}

type historyFrame struct {
	T   schemas.Type `json:"t"`
	Ref uint64       `json:"ref"`
	schemas.History
}

type renewFrame struct {
	T   schemas.Type `json:"t"`
	Ref uint64       `json:"ref"`
	schemas.Renew
}

type typingFrame struct {
	T schemas.Type `json:"t"`
	schemas.Typing
}

// Text returns the body of a plain text message.
func Text(text string) jsontext.Value {
	body, err := json.Marshal(schemas.TextBody{Kind: schemas.TextKind, Text: text})
	if err != nil { // text is not UTF-8
		body, _ = json.Marshal(schemas.TextBody{Kind: schemas.TextKind, Text: fmt.Sprintf("%q", text)})
	}
	return body
}

// Send says body in chat under id and waits until the log has it, over
// reconnects too. It returns a [*schemas.Error] where the server refuses. The
// same id again is the same message: after an error or the end of ctx, calling
// Send with it again is safe.
func (c *Client) Send(ctx context.Context, chat schemas.Chat, id schemas.ID, body jsontext.Value) (schemas.Ack, error) {
	sending, err := c.StartSend(ctx, schemas.Send{Chat: chat, ID: id, Body: body})
	if err != nil {
		return schemas.Ack{}, err
	}
	return sending.Wait(ctx)
}

// Sending is a send that was said, or will be on the next connection.
type Sending struct {
	client  *Client
	request *request
}

// StartSend says send without waiting for its ack: sends that one goroutine
// starts one after the other get to the log in that order. It waits only while
// 4,096 requests are in flight. Type, Retry and After are filled in.
func (c *Client) StartSend(ctx context.Context, send schemas.Send) (*Sending, error) {
	if len(send.Body) > schemas.BodyBytesMax {
		return nil, schemas.Errorf(schemas.TooLarge, "body has %d bytes: at most %d are allowed", len(send.Body), schemas.BodyBytesMax)
	}
	if send.Type == "" {
		send.Type = schemas.Message
	}
	if !send.Retry {
		send.After = c.chats.highest(send.Chat)
	}
	r := &request{send: &sendFrame{T: schemas.TSend, Send: send}}
	if err := c.start(ctx, r); err != nil {
		return nil, err
	}
	return &Sending{c, r}, nil
}

// Wait returns the ack. With Reconnect it says the send again after a refusal
// with retryAfter. One goroutine calls it, once.
func (s *Sending) Wait(ctx context.Context) (schemas.Ack, error) {
	for {
		var ack schemas.Ack
		err := s.client.await(ctx, s.request, &ack)
		var refusal *schemas.Error
		if !errors.As(err, &refusal) || refusal.RetryAfter <= 0 || !s.client.opts.Reconnect {
			return ack, err
		}
		if s.client.sleep(ctx, seconds(refusal.RetryAfter)) != nil {
			return ack, err
		}
		again := s.request.send.Send
		again.Retry = true // the refused try may be in the log all the same
		s.request = &request{send: &sendFrame{T: schemas.TSend, Send: again}}
		if err := s.client.start(ctx, s.request); err != nil {
			return ack, err
		}
	}
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, 60) * float64(time.Second))
}

// History returns a page of a chat, see [schemas.History].
func (c *Client) History(ctx context.Context, ask schemas.History) (schemas.Page, error) {
	var page schemas.Page
	r := &request{page: &historyFrame{T: schemas.THistory, History: ask}}
	if err := c.start(ctx, r); err != nil {
		return page, err
	}
	return page, c.await(ctx, r, &page)
}

// Renew gives the session a new token from Options.Token and returns until when it now lasts.
func (c *Client) Renew(ctx context.Context) (time.Time, error) {
	var renewed schemas.Renewed
	r := &request{renew: &renewFrame{T: schemas.TRenew, Renew: schemas.Renew{Token: c.opts.Token()}}}
	if err := c.start(ctx, r); err != nil {
		return time.Time{}, err
	}
	err := c.await(ctx, r, &renewed)
	return renewed.Expires, err
}

// Typing tells the others of chat that the user is typing; nobody answers.
func (c *Client) Typing(chat schemas.Chat) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return ErrDisconnected
	}
	return c.write(conn, typingFrame{schemas.TTyping, schemas.Typing{Chat: chat}})
}

// start registers r and says it if there is a connection; if not, sayAgain will.
func (c *Client) start(ctx context.Context, r *request) error {
	r.answer = make(chan answer, 1)
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.done:
		return c.Err()
	}
	// Refs rise in the order of writing, so that sayAgain keeps that order.
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.pending == nil {
		err := c.err
		c.mu.Unlock()
		<-c.slots
		return err
	}
	c.lastRef++
	r.ref = c.lastRef
	c.pending[r.ref] = r
	conn := c.conn
	r.said = conn != nil
	c.mu.Unlock()
	if conn != nil {
		// An error shows in the read loop too, and r is said again after it.
		c.writeLocked(conn, r.frame(false))
	}
	return nil
}

// await waits for the answer to r and decodes it into out.
func (c *Client) await(ctx context.Context, r *request, out any) error {
	var got answer
	select {
	case got = <-r.answer:
	case <-ctx.Done():
		c.take(r.ref)
		return context.Cause(ctx)
	}
	if got.err != nil {
		return got.err
	}
	if err := json.Unmarshal(got.data, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// resolve gives an answer to the request it is for; an unknown ref is one whose caller left.
func (c *Client) resolve(ref *uint64, data []byte, refusal *schemas.Error) {
	if ref == nil {
		return
	}
	r := c.take(*ref)
	if r == nil {
		return
	}
	if refusal != nil {
		r.answer <- answer{err: refusal}
		return
	}
	r.answer <- answer{data: data}
}

// take ends the wait for ref and frees its slot; nil if nobody waits.
func (c *Client) take(ref uint64) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.pending[ref]
	if r != nil {
		delete(c.pending, ref)
		<-c.slots
	}
	return r
}

// sayAgain makes conn the connection of requests to come, after it has said
// there all that is unanswered, in the order of the first saying.
func (c *Client) sayAgain(conn *websocket.Conn) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.pending == nil {
		c.mu.Unlock()
		return
	}
	c.conn = conn
	unanswered := make([]*request, 0, len(c.pending))
	for _, r := range c.pending {
		unanswered = append(unanswered, r)
	}
	slices.SortFunc(unanswered, func(a, b *request) int { return int(int64(a.ref) - int64(b.ref)) })
	frames := make([]any, len(unanswered))
	for i, r := range unanswered {
		frames[i] = r.frame(r.said)
		r.said = true
	}
	c.mu.Unlock()
	for _, frame := range frames {
		if c.writeLocked(conn, frame) != nil {
			return // the read loop ends too
		}
	}
}

// frame returns what to write; again marks a send that was said before.
func (r *request) frame(again bool) any {
	switch {
	case r.send != nil:
		send := *r.send
		send.Ref = r.ref
		send.Retry = send.Retry || again
		if !send.Retry {
			send.After = 0 // it is told only with a retry
		}
		return send
	case r.page != nil:
		page := *r.page
		page.Ref = r.ref
		return page
	default:
		renew := *r.renew
		renew.Ref = r.ref
		return renew
	}
}

func (c *Client) write(conn *websocket.Conn, frame any) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeLocked(conn, frame)
}

func (c *Client) writeLocked(conn *websocket.Conn, frame any) error {
	data, err := json.Marshal(frame)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	conn.SetWriteDeadline(time.Now().Add(writeWithin))
	if err := conn.WriteMessage(websocket.TextMessage, data); err != nil {
		conn.NetConn().Close() // half a frame may be out: nothing can follow it
		return err
	}
	return nil
}
