package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"parley/clients/web"
	"parley/schemas"
	"parley/tests/browser"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"
)

const chat = "direct.alice.bob"

// frameWithin bounds the wait for the page's next frame or connection.
const frameWithin = 30 * time.Second

// script is a server whose test says each frame: the page is alice's chat with bob.
type script struct {
	t      *testing.T
	tab    *browser.Tab
	peers  chan *peer // a connection that no test takes is closed by the page's end
	tokens atomic.Int32
}

// openPage serves the page and opens it in a tab of chromium.
func openPage(t *testing.T, chromium *browser.Browser) *script {
	t.Helper()
	s := &script{t: t, peers: make(chan *peer, 16)}
	mux := http.NewServeMux()
	mux.Handle("/", web.Handler(func(user schemas.User) (string, time.Time, error) {
		return fmt.Sprintf("token-%d-of-%s", s.tokens.Add(1), user), time.Now().Add(time.Hour), nil
	}))
	mux.HandleFunc("/v1/ws", func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: []string{schemas.Subprotocol}}
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // Upgrade has answered
		}
		s.peers <- &peer{t: t, socket: socket, cookie: r.Header.Get("Cookie")}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.tab = chromium.Open(t, server.URL+"/#alice/bob")
	return s
}

// accept returns the page's next connection.
func (s *script) accept() *peer {
	s.t.Helper()
	select {
	case p := <-s.peers:
		s.t.Cleanup(func() { _ = p.socket.Close() })
		return p
	case <-time.After(frameWithin):
		s.t.Fatal("the page did not connect")
		return nil
	}
}

// begin takes the page through its first hello and its first page, which holds items.
func (s *script) begin(more bool, items ...string) *peer {
	s.t.Helper()
	p := s.accept()
	if hello := p.want("hello"); hello.Resume == nil || len(hello.Resume) > 0 || hello.Token == "" {
		s.t.Fatalf("the first hello is %+v", hello)
	}
	p.welcome(time.Hour)
	p.say(`{"t":"resumed","chats":0,"reset":[]}`)
	history := p.want("history")
	if history.Chat != chat || history.Before != nil || history.After != nil {
		s.t.Fatalf("the first request for history is %+v", history)
	}
	p.page(history, more, items...)
	return p
}

// wantMessages waits until the page shows exactly texts.
func (s *script) wantMessages(texts ...string) {
	s.t.Helper()
	browser.Until(s.t, fmt.Sprintf("messages %q", texts), s.tab.Messages,
		func(got []string) bool { return slices.Equal(got, texts) })
}

func (s *script) wantState(state string) {
	s.t.Helper()
	browser.Until(s.t, "a connection that is "+state, s.tab.State, func(got string) bool { return got == state })
}

// wantNothingPending waits until all that was sent is in the log.
func (s *script) wantNothingPending() {
	s.t.Helper()
	browser.Until(s.t, "nothing pending", s.tab.Pending, func(got []string) bool { return len(got) == 0 })
}

// holdTimers has timers of so many milliseconds fire when fireTimers is called, and
// not by themselves: those that begin from now on.
func (s *script) holdTimers(ms int) {
	s.t.Helper()
	browser.Eval[bool](s.tab, fmt.Sprintf(`(() => {
		const held = new Map(), set = window.setTimeout, clear = window.clearTimeout;
		let last = 0;
		window.setTimeout = (what, ms, ...rest) => {
			if (ms !== %d) return set(what, ms, ...rest);
			held.set('held ' + ++last, what);
			return 'held ' + last;
		};
		window.clearTimeout = (timer) => held.delete(timer) || clear(timer);
		window.fireTimers = () => {
			const due = [...held.values()];
			held.clear();
			for (const what of due) what();
			return due.length;
		};
		return true;
	})()`, ms))
}

// fireTimers returns how many timers were held.
func (s *script) fireTimers() int {
	s.t.Helper()
	return browser.Eval[int](s.tab, `fireTimers()`)
}

// wantText waits until an element has exactly this text.
func (s *script) wantText(selector, want string) {
	s.t.Helper()
	browser.Until(s.t, fmt.Sprintf("%q in %s", want, selector), func() string { return s.tab.Text(selector) }, func(got string) bool { return got == want })
}

// goTo shows another chat of alice's: the name of a user, or a group.
func (s *script) goTo(place string) {
	s.t.Helper()
	browser.Eval[bool](s.tab, fmt.Sprintf(`location.hash = %q, true`, "#alice/"+place))
}

// peer is one connection of the page.
type peer struct {
	t      *testing.T
	socket *websocket.Conn
	cookie string // of the handshake
	chats  string // what the list of chats has; empty: it is not answered
}

// frame has the members of every frame that the page sends.
type frame struct {
	T      string            `json:"t"`
	Ref    uint64            `json:"ref"`
	Token  string            `json:"token"`
	Resume map[string]uint64 `json:"resume"`
	ID     string            `json:"id"`
	Chat   string            `json:"chat"`
	Type   string            `json:"type"`
	Target uint64            `json:"target"`
	Emoji  string            `json:"emoji"`
	Remove bool              `json:"remove"`
	Body   schemas.TextBody  `json:"body"`
	Retry  bool              `json:"retry"`
	Before *uint64           `json:"before"`
	After  *uint64           `json:"after"`
	Seq    uint64            `json:"seq"`
	Users  []string          `json:"users"`
	Status string            `json:"status"`

	ReadReceipts *bool `json:"readReceipts"`
}

// unasked are the frames that come when they come: no rule of the others is about them.
var unasked = []string{"typing", "ping", "chats", "delivered", "read", "receipts", "watch", "unwatch"}

// want returns the page's next frame, which is to be a t, but for those that are unasked.
func (p *peer) want(t string) frame {
	p.t.Helper()
	_ = p.socket.SetReadDeadline(time.Now().Add(frameWithin)) // once: pings would put it off for ever
	for {
		_, data, err := p.socket.ReadMessage()
		if err != nil {
			p.t.Fatalf("wait for a %s: %v", t, err)
		}
		var got frame
		if err := json.Unmarshal(data, &got); err != nil {
			p.t.Fatalf("frame %s: %v", data, err)
		}
		if got.T == t {
			return got
		}
		if got.T == "chats" && p.chats != "" {
			p.say(`{"t":"chats","ref":%d,"chats":%s}`, got.Ref, p.chats)
			continue
		}
		if !slices.Contains(unasked, got.T) {
			p.t.Fatalf("frame %s, want a %s", data, t)
		}
	}
}

// wantMark waits for the page's next mark, which is to be this one.
func (p *peer) wantMark(t, chat string, seq uint64) {
	p.t.Helper()
	_ = p.socket.SetReadDeadline(time.Now().Add(frameWithin))
	for {
		_, data, err := p.socket.ReadMessage()
		if err != nil {
			p.t.Fatalf("wait for %s %d of %s: %v", t, seq, chat, err)
		}
		var got frame
		if err := json.Unmarshal(data, &got); err != nil {
			p.t.Fatalf("frame %s: %v", data, err)
		}
		switch {
		case got.T == "chats" && p.chats != "":
			p.say(`{"t":"chats","ref":%d,"chats":%s}`, got.Ref, p.chats)
		case got.T == "delivered" || got.T == "read":
			if got.T != t || got.Chat != chat || got.Seq != seq {
				p.t.Fatalf("the page says %s, want %s %d of %s", data, t, seq, chat)
			}
			return
		}
	}
}

func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	text := fmt.Sprintf(format, args...)
	if err := p.socket.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.t.Fatalf("say %s: %v", text, err)
	}
}

func (p *peer) welcome(valid time.Duration) {
	p.t.Helper()
	// A clock far from the browser's: only differences of the server's own times count.
	now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	p.say(`{"t":"welcome","user":"alice","session":"s1","node":"n1","heartbeat":30,"bodyBytesMax":102400,"now":%q,"expires":%q}`,
		now.Format(time.RFC3339Nano), now.Add(valid).Format(time.RFC3339Nano))
}

// again takes the page through a hello that resumes from seq, with missed events.
func (p *peer) again(seq uint64, missed ...string) {
	p.t.Helper()
	if hello := p.want("hello"); len(hello.Resume) != 1 || hello.Resume[chat] != seq {
		p.t.Fatalf("hello resumes %v, want from %d", hello.Resume, seq)
	}
	p.welcome(time.Hour)
	for _, item := range missed {
		p.event(item)
	}
	p.say(`{"t":"resumed","chats":%d,"reset":[]}`, len(missed))
}

// item is an event as it stands in a page; a live one has two members more.
func item(seq, prev uint64, from, id, text string) string {
	return fmt.Sprintf(`{"seq":%d,"prev":%d,"time":"2026-11-23T22:56:17.103Z","event":{"type":"message","id":%q,"from":%q,"body":{"kind":"text","text":%s}}}`,
		seq, prev, id, from, quote(text))
}

func quote(text string) string {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err) // the texts are the tests' own
	}
	return string(data)
}

func (p *peer) event(item string) {
	p.t.Helper()
	p.say(`{"t":"event","chat":%q,%s`, chat, item[1:])
}

func (p *peer) page(request frame, more bool, items ...string) {
	p.t.Helper()
	text := "["
	for i, item := range items {
		if i > 0 {
			text += ","
		}
		text += item
	}
	p.say(`{"t":"page","ref":%d,"chat":%q,"events":%s],"more":%t}`, request.Ref, chat, text, more)
}

func (p *peer) ack(send frame, seq uint64) {
	p.t.Helper()
	p.say(`{"t":"ack","ref":%d,"id":%q,"chat":%q,"seq":%d,"time":"2026-11-23T22:56:17.103Z"}`, send.Ref, send.ID, chat, seq)
}

// cut ends the connection as a lost network does.
func (p *peer) cut() { _ = p.socket.Close() }

// close ends it as a server does that has a reason.
func (p *peer) close(code schemas.CloseCode, reason string) {
	p.t.Helper()
	message := websocket.FormatCloseMessage(int(code), reason)
	if err := p.socket.WriteControl(websocket.CloseMessage, message, time.Now().Add(frameWithin)); err != nil {
		p.t.Fatalf("close with %d: %v", code, err)
	}
}
