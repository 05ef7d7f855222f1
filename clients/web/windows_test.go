package web_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/clients/web"
	"parley/schemas"
	"parley/tests/browser"

	"github.com/gorilla/websocket"
)

// TestTwoWindowsChat runs the scenario that the real server has to pass against
// a miniature of it, so that a failure there is not the page's.
func TestTwoWindowsChat(t *testing.T) {
	t.Parallel()
	room := &room{}
	server := room.serve(t, "127.0.0.1:0")
	address := server.Listener.Addr().String()
	stop := func() {
		room.hangUp()
		server.Close()
	}
	start := func() { server = room.serve(t, address) }
	browser.TwoWindows(t, server.URL, stop, start)
}

// TestPageLooksRight draws the page for people to look at, into the directory
// that PARLEY_SCREENSHOTS names.
func TestPageLooksRight(t *testing.T) {
	directory := os.Getenv("PARLEY_SCREENSHOTS")
	if directory == "" {
		t.Skip("PARLEY_SCREENSHOTS names no directory for the pictures")
	}
	room := &room{}
	url := room.serve(t, "127.0.0.1:0").URL
	chromium := browser.Start(t)
	for i, line := range []string{
		"Good morning! Did the deploy go through?", "It did. All three nodes are green.", "👍",
		"One thing I noticed:\n  - the first reconnect took 400 ms\n  - all the others less", "<b>That</b> is fine & expected.",
		"שלום! זו הודעה מימין לשמאל.", "A long word: " + strings.Repeat("antidisestablishmentarianism", 6), "See you later",
	} {
		from := []string{"bob", "alice"}[i%2]
		room.add(from, schemas.ID{}, fmt.Sprintf(`{"kind":"text","text":%s}`, quote(line)))
	}
	room.marks = map[string]schemas.ReceiptMark{"bob": {Delivered: 6, Read: 4}}
	for _, scheme := range []string{"light", "dark"} {
		for name, width := range map[string]int64{"desktop": 1100, "phone": 390} {
			for view, hash := range map[string]string{"enter": "", "people": "#alice", "chat": "#alice/bob"} {
				tab := chromium.Open(t, url+"/"+hash)
				tab.Show(width, 720, scheme)
				tab.Reload()
				if hash != "" {
					browser.Until(t, "a connection", tab.State, func(state string) bool { return state == "online" })
				}
				if view == "chat" {
					browser.Until(t, "the messages", tab.Messages, func(texts []string) bool { return len(texts) == 8 })
				}
				picture := filepath.Join(directory, fmt.Sprintf("%s-%s-%s.png", view, name, scheme))
				if err := os.WriteFile(picture, tab.Screenshot(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// room is a server of one chat in memory: alice's with bob. It takes no
// liberty with the protocol, and knows little of it.
type room struct {
	mu      sync.Mutex
	events  []string // as in a page; the seq of events[i] is i+1
	ids     []string // "from/id" of events[i]
	marks   map[string]schemas.ReceiptMark
	sockets map[*websocket.Conn]string
}

func (r *room) serve(t *testing.T, address string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", web.Handler(func(user schemas.User) (string, time.Time, error) {
		return user.String(), time.Now().Add(time.Hour), nil
	}))
	mux.HandleFunc("/v1/ws", func(w http.ResponseWriter, request *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: []string{schemas.Subprotocol}}
		if socket, err := upgrader.Upgrade(w, request, nil); err == nil {
			r.attend(socket)
		}
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("listen on %s: %v", address, err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}}
	server.Start()
	t.Cleanup(func() {
		r.hangUp()
		server.Close()
	})
	return server
}

// attend serves one connection until it ends.
func (r *room) attend(socket *websocket.Conn) {
	defer func() {
		r.mu.Lock()
		delete(r.sockets, socket)
		r.mu.Unlock()
		_ = socket.Close()
	}()
	for {
		_, data, err := socket.ReadMessage()
		if err != nil {
			return
		}
		frame, refusal := schemas.DecodeFrame(data)
		if refusal != nil {
			return // the page never sends such a frame: its connection ends, and the test with it
		}
		r.mu.Lock()
		r.answer(socket, frame)
		r.mu.Unlock()
	}
}

func (r *room) answer(socket *websocket.Conn, frame schemas.Frame) {
	switch frame.T {
	case schemas.THello:
		user := frame.Hello.Token
		if r.sockets == nil {
			r.sockets = map[*websocket.Conn]string{}
		}
		r.sockets[socket] = user
		now := time.Now()
		tell(socket, `{"t":"welcome","user":%q,"session":"s","node":"n","heartbeat":30,"bodyBytesMax":102400,"now":%q,"expires":%q}`,
			user, now.Format(time.RFC3339Nano), now.Add(time.Hour).Format(time.RFC3339Nano))
		for held, after := range frame.Hello.Resume {
			for _, event := range r.events[after:] {
				tell(socket, `{"t":"event","chat":%q,%s`, held, event[1:])
			}
		}
		tell(socket, `{"t":"resumed","chats":0,"reset":[]}`)
	case schemas.THistory:
		end := uint64(len(r.events))
		if frame.History.Before != nil {
			end = *frame.History.Before - 1
		}
		begin := max(0, int(end)-int(*frame.History.Limit))
		tell(socket, `{"t":"page","ref":%d,"chat":%q,"events":[%s],"more":%t}`,
			frame.Ref.Value, chat, strings.Join(r.events[begin:end], ","), begin > 0)
	case schemas.TSend:
		seq := r.addLocked(r.sockets[socket], frame.Send.ID, string(frame.Send.Body))
		tell(socket, `{"t":"ack","ref":%d,"id":%q,"chat":%q,"seq":%d,"time":"2026-11-23T22:56:17Z"}`, frame.Ref.Value, frame.Send.ID, chat, seq)
	case schemas.TChats:
		tell(socket, `{"t":"chats","ref":%d,"chats":[]}`, frame.Ref.Value)
	case schemas.TTyping:
		r.tellOthers(socket, `{"t":"typing","chat":%q,"user":%q}`, chat, r.sockets[socket])
	case schemas.TDelivered, schemas.TRead:
		r.mark(socket, frame)
	case schemas.TReceipts:
		a, b := r.marks["alice"], r.marks["bob"]
		tell(socket, `{"t":"receipts","ref":%d,"chat":%q,"receipts":[{"user":"alice","delivered":%d,"read":%d},{"user":"bob","delivered":%d,"read":%d}]}`,
			frame.Ref.Value, chat, a.Delivered, a.Read, b.Delivered, b.Read)
	case schemas.TWatch:
		tell(socket, `{"t":"presence","ref":%d,"users":{"bob":{"status":"online"}}}`, frame.Ref.Value)
	case schemas.TUnwatch:
		tell(socket, `{"t":"done","ref":%d}`, frame.Ref.Value)
	}
}

// mark takes a mark and tells it on.
func (r *room) mark(socket *websocket.Conn, frame schemas.Frame) {
	user := r.sockets[socket]
	if r.marks == nil {
		r.marks = map[string]schemas.ReceiptMark{}
	}
	mark := r.marks[user]
	mark.Delivered = max(mark.Delivered, frame.Mark.Seq)
	if frame.T == schemas.TRead {
		mark.Read = max(mark.Read, frame.Mark.Seq)
	}
	r.marks[user] = mark
	r.tellOthers(socket, `{"t":"receipt","chat":%q,"marks":[{"user":%q,"delivered":%d,"read":%d}]}`, chat, user, mark.Delivered, mark.Read)
}

func (r *room) tellOthers(socket *websocket.Conn, format string, args ...any) {
	for other, user := range r.sockets {
		if user != r.sockets[socket] {
			tell(other, format, args...)
		}
	}
}

func (r *room) add(from string, id schemas.ID, body string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(from, id, body)
}

// addLocked returns the seq of the event; of one that is there, its first.
func (r *room) addLocked(from string, id schemas.ID, body string) int {
	seq := len(r.events) + 1
	name := id.String()
	if id.IsZero() {
		name = fmt.Sprint("m", seq)
	}
	if at := slices.Index(r.ids, from+"/"+name); at >= 0 {
		return at + 1
	}
	event := fmt.Sprintf(`{"seq":%d,"prev":%d,"time":%q,"event":{"type":"message","id":%q,"from":%q,"body":%s}}`,
		seq, seq-1, time.Now().Format(time.RFC3339Nano), name, from, body)
	r.events = append(r.events, event)
	r.ids = append(r.ids, from+"/"+name)
	for socket := range r.sockets {
		tell(socket, `{"t":"event","chat":%q,%s`, chat, event[1:])
	}
	return seq
}

// hangUp ends every connection, as a process that dies does.
func (r *room) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for socket := range r.sockets {
		_ = socket.Close()
	}
}

// tell writes under the room's lock; a socket that is gone is noticed by its reader.
func tell(socket *websocket.Conn, format string, args ...any) {
	_ = socket.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...))
}
