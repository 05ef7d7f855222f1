package harness

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"

	"parley/schemas"
)

// FrameWithin bounds the wait for a frame: only a defect takes so long.
const FrameWithin = 60 * time.Second

// Talker is a user's bare WebSocket session: it says frames as they are written,
// and keeps all that it hears.
type Talker struct {
	User  string
	Heard chan Frame // all that came; closed at the connection's end

	t     testing.TB
	conn  *websocket.Conn
	early []Frame // taken from Heard while another was looked for
	refs  uint64  // requests asked
}

// Frame is what a server said: what the tests look at, and all of it.
type Frame struct {
	T      schemas.Type       `json:"t"`
	Ref    uint64             `json:"ref"`
	Code   schemas.Code       `json:"code"`
	Chat   string             `json:"chat"`
	Seq    uint64             `json:"seq"`
	Prev   uint64             `json:"prev"`
	Change schemas.ChatChange `json:"change"`
	Event  struct {
		Type   schemas.EventType   `json:"type"`
		From   string              `json:"from"`
		Change schemas.GroupChange `json:"change"`
		Users  []string            `json:"users"`
	} `json:"event"`
	Marks []schemas.ReceiptMark             `json:"marks"`
	Users map[schemas.User]schemas.Presence `json:"users"`
	Text  string                            `json:"-"` // all of it
}

// String returns the beginning of the text.
func (f Frame) String() string { return f.Text[:min(len(f.Text), 500)] }

// Talk opens a session of a user.
func (d *DevServer) Talk(t testing.TB, user string) *Talker {
	t.Helper()
	return talkTo(t, d.URL, d.Token(t, user), user)
}

func talkTo(t testing.TB, url, token, user string) *Talker {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{schemas.Subprotocol}}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/v1/ws", nil)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	c := &Talker{t: t, User: user, conn: conn, Heard: make(chan Frame, 1<<14)}
	t.Cleanup(c.HangUp)
	go func() {
		defer close(c.Heard)
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			f := Frame{Text: string(data)}
			if err := json.Unmarshal(data, &f); err != nil {
				f.Text = fmt.Sprintf("%v: %s", err, data)
			}
			c.Heard <- f
		}
	}()
	c.Say(`{"t":"hello","token":"` + token + `"}`)
	c.Await(func(f Frame) bool { return f.T == schemas.TWelcome })
	return c
}

// HangUp closes the connection.
func (c *Talker) HangUp() { _ = c.conn.Close() }

// Say sends a frame as it is written, and waits for nothing.
func (c *Talker) Say(text string) {
	c.t.Helper()
	if err := c.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("%s: %v", c.User, err)
	}
}

// Await returns the first frame that is wanted, and keeps those before it.
func (c *Talker) Await(wanted func(Frame) bool) Frame {
	c.t.Helper()
	for i, f := range c.early {
		if wanted(f) {
			c.early = append(c.early[:i], c.early[i+1:]...)
			return f
		}
	}
	deadline := time.After(FrameWithin)
	for {
		select {
		case f, ok := <-c.Heard:
			switch {
			case !ok:
				c.t.Fatalf("%s: the connection ended", c.User)
			case wanted(f):
				return f
			}
			c.early = append(c.early, f)
		case <-deadline:
			c.t.Fatalf("%s: the frame does not come; came: %v", c.User, c.early)
		}
	}
}

// StartAsk says a request, whose text has no ref, and returns the ref of its answer.
func (c *Talker) StartAsk(format string, args ...any) (ref uint64) {
	c.t.Helper()
	c.refs++
	c.Say(fmt.Sprintf(`{"ref":%d,%s`, c.refs, strings.TrimPrefix(fmt.Sprintf(format, args...), "{")))
	return c.refs
}

// Ask says a request, whose text has no ref, and returns its answer.
func (c *Talker) Ask(format string, args ...any) Frame {
	c.t.Helper()
	ref := c.StartAsk(format, args...)
	return c.Await(func(f Frame) bool { return f.Ref == ref })
}

// Do asks and wants an answer that is no error.
func (c *Talker) Do(format string, args ...any) Frame {
	c.t.Helper()
	f := c.Ask(format, args...)
	if f.T == schemas.TError {
		c.t.Fatalf("%s: %s was answered with %v", c.User, fmt.Sprintf(format, args...), f)
	}
	return f
}

// Send sends a message and returns its seq.
func (c *Talker) Send(chat, text string) uint64 {
	c.t.Helper()
	return c.Do(`{"t":"send","id":"%s","chat":"%s","type":"message","body":{"kind":"text","text":%q}}`, NewID(), chat, text).Seq
}

// AwaitEvent waits for the event of a chat at a seq.
func (c *Talker) AwaitEvent(chat string, seq uint64) Frame {
	c.t.Helper()
	return c.Await(func(f Frame) bool { return f.T == schemas.TEvent && f.Chat == chat && f.Seq == seq })
}

// Quiet makes sure that all that the server had to say has been heard, and
// returns what nobody waited for.
func (c *Talker) Quiet() []Frame {
	c.t.Helper()
	c.Ask(`{"t":"ping"}`)
	early := c.early
	c.early = nil
	return early
}

// Page asks for history.
func (c *Talker) Page(format string, args ...any) schemas.Page {
	c.t.Helper()
	var page schemas.Page
	c.Answer(&page, format, args...)
	return page
}

// Answer asks and decodes the answer.
func (c *Talker) Answer(into any, format string, args ...any) {
	c.t.Helper()
	f := c.Do(format, args...)
	if err := json.Unmarshal([]byte(f.Text), into); err != nil {
		c.t.Fatalf("%s: decode %v: %v", c.User, f, err)
	}
}

// AwaitLast is [Talker.AwaitEvent], and leaves the frame among what was heard.
func (c *Talker) AwaitLast(chat string, seq uint64) {
	c.t.Helper()
	c.AwaitFrame(func(f Frame) bool { return f.T == schemas.TEvent && f.Chat == chat && f.Seq == seq })
}

// AwaitFrame is [Talker.Await], and leaves the frame among what was heard.
func (c *Talker) AwaitFrame(wanted func(Frame) bool) {
	c.t.Helper()
	if !slices.ContainsFunc(c.early, wanted) {
		c.early = append(c.early, c.Await(wanted))
	}
}
