package parley

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"parley/schemas"
)

// ErrClosed says that Close was called.
var ErrClosed = errors.New("the client is closed")

// CloseError says with which code and text the server closed the connection.
type CloseError struct {
	Code schemas.CloseCode
	Text string
	// Cause is the error frame that came before, if one did.
	Cause *schemas.Error
}

func (e *CloseError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("closed by the server with %d: %s", e.Code, e.Cause.Message)
	}
	return fmt.Sprintf("closed by the server with %d %s", e.Code, e.Text)
}

// Client is one client of a server. Its methods are safe for concurrent use.
type Client struct {
	opts   Options
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	done   chan struct{} // closed when all loops have ended
	slots  chan struct{} // one per request in flight: its capacity is requestsMax

	inbox   inbox    // from the connection's read loop to dispatchLoop
	chats   timeline // what is held
	marks   marks    // what is told as delivered and read
	watched watched
	typists typists // dispatchLoop's own

	// writing is held while a frame is written, and over all that is said again
	// on a new connection: what is said later then also comes later.
	writing sync.Mutex

	mu      sync.Mutex // guards what follows
	conn    *websocket.Conn
	welcome schemas.Welcome
	pending map[uint64]*request // by ref, at most requestsMax
	lastRef uint64
	typed   map[schemas.Chat]time.Time // when Typing last said so
	err     error                      // why the client ended

	sessions atomic.Int64
}

// Dial connects and returns when the server has welcomed the client. ctx bounds
// only that; with Reconnect it tries until ctx ends.
func Dial(ctx context.Context, opts Options) (*Client, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	c := newClient(opts)
	s := &sessions{client: c}
	conn, err := s.next(ctx)
	if err != nil {
		c.cancel()
		return nil, fmt.Errorf("dial %s: %w", opts.URL, err)
	}
	go func() {
		defer close(c.done)
		var loops sync.WaitGroup
		ctx, stop := context.WithCancel(c.ctx)
		loops.Go(c.dispatchLoop)
		loops.Go(func() { c.marksLoop(ctx) })
		loops.Go(func() { c.watchLoop(ctx) })
		c.end(s.runLoop(conn))
		stop()
		loops.Wait()
	}()
	return c, nil
}

func newClient(opts Options) *Client {
	c := &Client{
		opts:    opts,
		done:    make(chan struct{}),
		slots:   make(chan struct{}, requestsMax),
		pending: map[uint64]*request{},
		typed:   map[schemas.Chat]time.Time{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.inbox.signal = make(chan struct{}, 1)
	c.chats.init(opts.Resume)
	c.marks.init()
	c.watched.init()
	c.typists.init()
	return c
}

// end fails what is still waiting for an answer.
func (c *Client) end(err error) {
	c.mu.Lock()
	c.err = err
	c.conn = nil
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	for _, r := range pending {
		r.answer <- answer{err: err}
		<-c.slots
	}
	c.inbox.close()
}

// Close says goodbye and waits until no callback runs any more. It must not be
// called by a callback.
func (c *Client) Close() {
	c.cancel()
	<-c.done
}

// Done is closed when the client has ended, by Close or for good; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client ended, a [*CloseError] where the server said so; nil while it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Session returns the welcome of the current or last session.
func (c *Client) Session() schemas.Welcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.welcome
}

// Sessions counts the sessions so far: more than one after a reconnect.
func (c *Client) Sessions() int64 { return c.sessions.Load() }

// Held returns the highest seq of each chat, for Options.Resume of a later client.
func (c *Client) Held() map[schemas.Chat]uint64 { return c.chats.all() }

// sleep waits for d, less if one of the contexts ends.
func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ctx.Done():
		return ErrClosed
	}
}
