package parley

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
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
	send   *sendFrame           // a send, or
	ask    func(ref uint64) any // any other request: returns its frame
	said   bool                 // on some connection; guarded by Client.mu
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

// askFrame is any other request than a send.
type askFrame[Ask any] struct {
	T   schemas.Type `json:"t"`
	Ref uint64       `json:"ref"`
	Ask Ask          `json:",embed"`
}

// ask says a request and waits for its answer, over reconnects too: what is said
// again may have been done the first time. Of these requests only Leave shows it:
// who has left is no member any more.
func ask[Answer, Ask any](ctx context.Context, c *Client, t schemas.Type, what Ask) (Answer, error) {
	var answer Answer
	r := &request{ask: func(ref uint64) any { return askFrame[Ask]{t, ref, what} }}
	if err := c.start(ctx, r); err != nil {
		return answer, err
	}
	return answer, c.await(ctx, r, &answer)
}

// History returns a page of a chat, see [schemas.History].
func (c *Client) History(ctx context.Context, what schemas.History) (schemas.Page, error) {
	return ask[schemas.Page](ctx, c, schemas.THistory, what)
}

// Renew gives the session a new token from Options.Token and returns until when it now lasts.
func (c *Client) Renew(ctx context.Context) (time.Time, error) {
	renewed, err := ask[schemas.Renewed](ctx, c, schemas.TRenew, schemas.Renew{Token: c.opts.Token()})
	return renewed.Expires, err
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
// there all that is unanswered, in the order of the first saying. Marks and what is
// watched follow: the server knows nothing of an earlier session.
func (c *Client) sayAgain(conn *websocket.Conn) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.pending == nil {
		c.mu.Unlock()
		return
	}
	c.conn = conn
	c.marks.again()
	if c.sessions.Load() > 1 { // in the first one Watch says it
		c.watched.again()
	}
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
	if r.ask != nil {
		return r.ask(r.ref)
	}
	send := *r.send
	send.Ref = r.ref
	send.Retry = send.Retry || again
	if !send.Retry {
		send.After = 0 // it is told only with a retry
	}
	return send
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
