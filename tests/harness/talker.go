package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"

	"parley/schemas"
)

// talker is a user's bare WebSocket session: it says frames as they are written,
// and keeps all that it hears.
type talker struct {
	t    testing.TB
	user string
	conn *websocket.Conn

	heard chan frame
	early []frame // taken from heard while another was looked for
	refs  uint64
}

// frame is what a server said: what the tests look at, and all of it.
type frame struct {
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
	text  string
}

func (f frame) String() string { return f.text[:min(len(f.text), 500)] }

// talk opens a session of a user.
func (d *devServer) talk(t testing.TB, user string) *talker {
	t.Helper()
	return talkTo(t, d.url, d.token(t, user), user)
}

func talkTo(t testing.TB, url, token, user string) *talker {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{schemas.Subprotocol}}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/v1/ws", nil)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	c := &talker{t: t, user: user, conn: conn, heard: make(chan frame, 1<<14)}
	t.Cleanup(c.hangUp)
	go func() {
		defer close(c.heard)
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			f := frame{text: string(data)}
			if err := json.Unmarshal(data, &f); err != nil {
				f.text = fmt.Sprintf("%v: %s", err, data)
			}
			c.heard <- f
		}
	}()
	c.say(`{"t":"hello","token":"` + token + `"}`)
	c.await(func(f frame) bool { return f.T == schemas.TWelcome })
	return c
}

func (c *talker) hangUp() { _ = c.conn.Close() }

func (c *talker) say(text string) {
	c.t.Helper()
	if err := c.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("%s: %v", c.user, err)
	}
}

// await returns the first frame that is wanted, and keeps those before it.
func (c *talker) await(wanted func(frame) bool) frame {
	c.t.Helper()
	for i, f := range c.early {
		if wanted(f) {
			c.early = append(c.early[:i], c.early[i+1:]...)
			return f
		}
	}
	deadline := time.After(frameWithin)
	for {
		select {
		case f, ok := <-c.heard:
			switch {
			case !ok:
				c.t.Fatalf("%s: the connection ended", c.user)
			case wanted(f):
				return f
			}
			c.early = append(c.early, f)
		case <-deadline:
			c.t.Fatalf("%s: the frame does not come; came: %v", c.user, c.early)
		}
	}
}

// ask says a request, whose text has no ref, and returns its answer.
func (c *talker) ask(format string, args ...any) frame {
	c.t.Helper()
	c.refs++
	ref := c.refs
	c.say(fmt.Sprintf(`{"ref":%d,%s`, ref, strings.TrimPrefix(fmt.Sprintf(format, args...), "{")))
	return c.await(func(f frame) bool { return f.Ref == ref })
}

// done asks and wants an answer that is no error.
func (c *talker) done(format string, args ...any) frame {
	c.t.Helper()
	f := c.ask(format, args...)
	if f.T == schemas.TError {
		c.t.Fatalf("%s: %s was answered with %v", c.user, fmt.Sprintf(format, args...), f)
	}
	return f
}

// send sends a message and returns its seq.
func (c *talker) send(chat, text string) uint64 {
	c.t.Helper()
	return c.done(`{"t":"send","id":"%s","chat":"%s","type":"message","body":{"kind":"text","text":%q}}`, newID(), chat, text).Seq
}

// event waits for the event of a chat at a seq.
func (c *talker) event(chat string, seq uint64) frame {
	c.t.Helper()
	return c.await(func(f frame) bool { return f.T == schemas.TEvent && f.Chat == chat && f.Seq == seq })
}

// quiet makes sure that all that the server had to say has been heard, and
// returns what nobody waited for.
func (c *talker) quiet() []frame {
	c.t.Helper()
	c.ask(`{"t":"ping"}`)
	early := c.early
	c.early = nil
	return early
}

// page asks for history.
func (c *talker) page(format string, args ...any) schemas.Page {
	c.t.Helper()
	var page schemas.Page
	c.answer(&page, format, args...)
	return page
}

// answer asks and decodes the answer.
func (c *talker) answer(into any, format string, args ...any) {
	c.t.Helper()
	f := c.done(format, args...)
	if err := json.Unmarshal([]byte(f.text), into); err != nil {
		c.t.Fatalf("%s: decode %v: %v", c.user, f, err)
	}
}
