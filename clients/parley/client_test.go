package parley

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"parley/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testWithin = 20 * time.Second

// scriptServer hands each connection to the test, which plays the server on it:
// what a client does about gaps, losses and refusals can be had at will only so.
type scriptServer struct {
	t     *testing.T
	url   string
	conns chan *scriptConn
}

type scriptConn struct {
	t *testing.T
	*websocket.Conn
}

func newScriptServer(t *testing.T) *scriptServer {
	t.Helper()
	s := &scriptServer{t: t, conns: make(chan *scriptConn, 16)}
	upgrader := websocket.Upgrader{Subprotocols: []string{schemas.Subprotocol}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err == nil {
			s.conns <- &scriptConn{t, conn}
		}
	}))
	s.url = server.URL
	t.Cleanup(server.Close)
	return s
}

// accept returns the next connection.
func (s *scriptServer) accept() *scriptConn {
	s.t.Helper()
	select {
	case conn := <-s.conns:
		s.t.Cleanup(func() { conn.Close() })
		return conn
	case <-time.After(testWithin):
		s.t.Fatal("no connection came")
		return nil
	}
}

// want reads the client's next frame and checks it.
func (c *scriptConn) want(want string) {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(testWithin))
	_, data, err := c.ReadMessage()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", want, err)
	}
	if string(data) != want {
		c.t.Fatalf("the client said %s\nwant           %s", data, want)
	}
}

func (c *scriptConn) say(format string, args ...any) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *scriptConn) sayEvent(seq, prev uint64, from, id string) {
	c.t.Helper()
	c.say(`{"t":"event","chat":"direct.alice.bob","seq":%d,"prev":%d,"time":"2026-11-24T03:00:00Z","event":%s}`, seq, prev, eventJSON(from, id))
}

func eventJSON(from, id string) string {
	return fmt.Sprintf(`{"type":"message","id":%q,"from":%q,"body":{"kind":"text","text":"hi"}}`, id, from)
}

func (c *scriptConn) sayWelcome() {
	c.t.Helper()
	c.say(`{"t":"welcome","user":"alice","session":"s1","node":"edge-1","heartbeat":30,"bodyBytesMax":102400,"now":"2026-11-24T03:00:00Z","expires":"2026-11-24T04:00:00Z"}`)
}

func (c *scriptConn) closeWith(code schemas.CloseCode, text string) {
	c.t.Helper()
	if err := c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(int(code), text), time.Now().Add(testWithin)); err != nil {
		c.t.Fatal(err)
	}
}

// dial starts Dial and plays its handshake, in which the client says hello.
func (s *scriptServer) dial(opts Options, hello string) (*Client, *scriptConn) {
	s.t.Helper()
	opts.URL = s.url
	if opts.Token == nil {
		opts.Token = StaticToken("T")
	}
	opts.BackoffMin, opts.BackoffMax = time.Millisecond, 5*time.Millisecond
	type dialed struct {
		client *Client
		err    error
	}
	done := make(chan dialed, 1)
	go func() {
		client, err := Dial(s.t.Context(), opts)
		done <- dialed{client, err}
	}()
	conn := s.accept()
	conn.want(hello)
	conn.sayWelcome()
	d := <-done
	if d.err != nil {
		s.t.Fatal(d.err)
	}
	s.t.Cleanup(d.client.Close)
	return d.client, conn
}

var directAB = mustChat("direct.alice.bob")

func mustChat(name string) schemas.Chat {
	chat, err := schemas.ParseChat(name)
	if err != nil {
		panic(err)
	}
	return chat
}

func mustID(t *testing.T, name string) schemas.ID {
	t.Helper()
	id, err := schemas.ParseID(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// recorder collects what the callbacks bring.
type recorder struct {
	t    *testing.T
	said chan string
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{t, make(chan string, 256)}
}

func (r *recorder) event(ev Event) { r.said <- fmt.Sprintf("%d %s", ev.Seq, ev.ID) }

func (r *recorder) want(lines ...string) {
	r.t.Helper()
	for _, want := range lines {
		select {
		case got := <-r.said:
			if got != want {
				r.t.Fatalf("callback %q, want %q", got, want)
			}
		case <-time.After(testWithin):
			r.t.Fatalf("no callback, want %q", want)
		}
	}
}

const (
	helloEmpty = `{"t":"hello","token":"T","resume":{}}`
	helloAt    = `{"t":"hello","token":"T","resume":{"direct.alice.bob":%d}}`
)

func TestEventsAreTakenOnceAndInOrder(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t)
	client, conn := newScriptServer(t).dial(Options{OnEvent: rec.event}, helloEmpty)
	conn.sayEvent(44, 41, "bob", "a") // of a chat of which nothing is held nothing is checked
	conn.sayEvent(44, 41, "bob", "a")
	conn.sayEvent(44, 41, "bob", "b") // another event cannot have the same seq
	conn.sayEvent(43, 41, "bob", "b")
	conn.sayEvent(46, 0, "bob", "a")    // held by (chat, from, id)
	conn.sayEvent(47, 46, "alice", "a") // another's a
	rec.want("44 a", "47 a")
	if got := client.Held()[directAB]; got != 47 {
		t.Fatalf("held %d, want 47", got)
	}
}

func TestGapIsMendedBeforeTheEvent(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t)
	_, conn := newScriptServer(t).dial(Options{OnEvent: rec.event, NoDelivered: true, Resume: map[schemas.Chat]uint64{directAB: 44}}, fmt.Sprintf(helloAt, 44))
	conn.sayEvent(50, 47, "bob", "f")
	conn.want(`{"t":"history","ref":1,"chat":"direct.alice.bob","after":44,"limit":200}`)
	conn.sayEvent(51, 50, "bob", "g") // waits behind the gap
	conn.say(`{"t":"page","ref":1,"chat":"direct.alice.bob","more":true,"events":[{"seq":45,"prev":44,"time":"2026-11-24T03:00:00Z","n":1,"event":%s}]}`, eventJSON("bob", "c"))
	conn.want(`{"t":"history","ref":2,"chat":"direct.alice.bob","after":45,"limit":200}`)
	conn.say(`{"t":"page","ref":2,"chat":"direct.alice.bob","more":false,"events":[{"seq":47,"prev":45,"time":"2026-11-24T03:00:00Z","event":%s},{"seq":50,"prev":47,"time":"2026-11-24T03:00:00Z","event":%s}]}`, eventJSON("bob", "d"), eventJSON("bob", "f"))
	rec.want("45 c", "47 d", "50 f", "51 g")

	conn.sayEvent(60, 58, "bob", "i")
	conn.want(`{"t":"history","ref":3,"chat":"direct.alice.bob","after":51,"limit":200}`)
	conn.say(`{"t":"page","ref":3,"chat":"direct.alice.bob","more":false,"events":[]}`)
	rec.want("60 i") // taken whatever came back
}

func TestResetAndResyncReadOn(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t)
	resume := map[schemas.Chat]uint64{directAB: 44, mustChat("direct.alice.carl"): 9}
	opts := Options{OnEvent: rec.event, NoDelivered: true, Resume: resume, OnResumed: func(schemas.Resumed) { rec.said <- "resumed" }}
	client, conn := newScriptServer(t).dial(opts, `{"t":"hello","token":"T","resume":{"direct.alice.bob":44,"direct.alice.carl":9}}`)
	conn.say(`{"t":"resumed","chats":0,"reset":[{"chat":"direct.alice.bob","reason":"gap"},{"chat":"direct.alice.carl","reason":"ahead"}]}`)
	conn.want(`{"t":"history","ref":1,"chat":"direct.alice.bob","after":44,"limit":200}`)
	conn.say(`{"t":"page","ref":1,"chat":"direct.alice.bob","more":false,"events":[{"seq":45,"prev":44,"time":"2026-11-24T03:00:00Z","event":%s}]}`, eventJSON("bob", "c"))
	rec.want("45 c", "resumed")
	if held := client.Held(); len(held) != 1 || held[directAB] != 45 {
		t.Fatalf("held %v, want direct.alice.bob at 45 alone", held)
	}

	conn.say(`{"t":"resync"}`)
	conn.want(`{"t":"history","ref":2,"chat":"direct.alice.bob","after":45,"limit":200}`)
	conn.say(`{"t":"error","ref":2,"code":"overloaded","message":"later","retryAfter":0.001}`)
	conn.want(`{"t":"history","ref":3,"chat":"direct.alice.bob","after":45,"limit":200}`)
	conn.say(`{"t":"page","ref":3,"chat":"direct.alice.bob","more":false,"events":[{"seq":46,"prev":45,"time":"2026-11-24T03:00:00Z","event":%s}]}`, eventJSON("bob", "d"))
	rec.want("46 d")
}

func sendJSON(ref int, id, rest string) string {
	return fmt.Sprintf(`{"t":"send","ref":%d,"id":%q,"chat":"direct.alice.bob","type":"message","body":{"kind":"text","text":"hi"}%s}`, ref, id, rest)
}

func start(t *testing.T, client *Client, id string) *Sending {
	t.Helper()
	sending, err := client.StartSend(t.Context(), schemas.Send{Chat: directAB, ID: mustID(t, id), Body: Text("hi")})
	if err != nil {
		t.Fatal(err)
	}
	return sending
}

func wantAck(t *testing.T, sending *Sending, seq uint64) {
	t.Helper()
	ack, err := sending.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ack.Seq != seq {
		t.Fatalf("ack with seq %d, want %d", ack.Seq, seq)
	}
}

func (c *scriptConn) sayAck(ref int, id string, seq uint64) {
	c.t.Helper()
	c.say(`{"t":"ack","ref":%d,"id":%q,"chat":"direct.alice.bob","seq":%d,"time":"2026-11-24T03:00:00Z"}`, ref, id, seq)
}

func TestAcksFindTheirSends(t *testing.T) {
	t.Parallel()
	client, conn := newScriptServer(t).dial(Options{}, helloEmpty)
	a, b, c := start(t, client, "a"), start(t, client, "b"), start(t, client, "c")
	conn.want(sendJSON(1, "a", ""))
	conn.want(sendJSON(2, "b", ""))
	conn.want(sendJSON(3, "c", ""))
	conn.sayAck(3, "c", 13)
	conn.say(`{"t":"error","ref":2,"id":"b","code":"not_member","message":"no"}`)
	conn.sayAck(1, "a", 11)
	wantAck(t, a, 11)
	wantAck(t, c, 13)
	var refusal *schemas.Error
	if _, err := b.Wait(t.Context()); !errors.As(err, &refusal) || refusal.Code != schemas.NotMember {
		t.Fatalf("b: %v, want %s", err, schemas.NotMember)
	}
}

func TestUnansweredIsSaidAgainAfterALoss(t *testing.T) {
	t.Parallel()
	server := newScriptServer(t)
	rec := newRecorder(t)
	client, conn := server.dial(Options{OnEvent: rec.event, NoDelivered: true, Reconnect: true}, helloEmpty)
	conn.sayEvent(7, 0, "bob", "x")
	rec.want("7 x")
	acked, a := start(t, client, "acked"), start(t, client, "a")
	conn.want(sendJSON(1, "acked", ""))
	conn.want(sendJSON(2, "a", ""))
	conn.sayAck(1, "acked", 8)
	wantAck(t, acked, 8)
	conn.sayEvent(9, 7, "bob", "y")
	rec.want("9 y")
	b := start(t, client, "b")
	conn.want(sendJSON(3, "b", ""))
	conn.NetConn().Close()

	conn = server.accept()
	conn.want(fmt.Sprintf(helloAt, 9))
	conn.sayWelcome()
	conn.want(sendJSON(2, "a", `,"retry":true,"after":7`))
	conn.want(sendJSON(3, "b", `,"retry":true,"after":9`))
	conn.sayAck(2, "a", 10)
	conn.sayAck(3, "b", 11)
	wantAck(t, a, 10)
	wantAck(t, b, 11)
	c := start(t, client, "c")
	conn.want(sendJSON(4, "c", ""))
	conn.sayAck(4, "c", 12)
	wantAck(t, c, 12)
	if got := client.Sessions(); got != 2 {
		t.Fatalf("%d sessions, want 2", got)
	}
}

func TestRefusalWithRetryAfterIsWaitedOut(t *testing.T) {
	t.Parallel()
	client, conn := newScriptServer(t).dial(Options{Reconnect: true}, helloEmpty)
	a := start(t, client, "a")
	conn.want(sendJSON(1, "a", ""))
	conn.say(`{"t":"error","ref":1,"id":"a","code":"rate_limited","message":"slowly","retryAfter":0.01}`)
	type result struct {
		ack schemas.Ack
		err error
	}
	done := make(chan result, 1)
	go func() {
		ack, err := a.Wait(t.Context())
		done <- result{ack, err}
	}()
	conn.want(sendJSON(2, "a", `,"retry":true`))
	conn.sayAck(2, "a", 5)
	if got := <-done; got.err != nil || got.ack.Seq != 5 {
		t.Fatalf("ack %v, error %v, want seq 5", got.ack, got.err)
	}
}

func TestWithoutReconnectTheFirstLossIsTheEnd(t *testing.T) {
	t.Parallel()
	client, conn := newScriptServer(t).dial(Options{}, helloEmpty)
	a := start(t, client, "a")
	conn.want(sendJSON(1, "a", ""))
	conn.closeWith(schemas.CloseFull, "")
	var closed *CloseError
	if _, err := a.Wait(t.Context()); !errors.As(err, &closed) || closed.Code != schemas.CloseFull {
		t.Fatalf("a: %v, want a close with %d", err, schemas.CloseFull)
	}
	<-client.Done()
	if !errors.As(client.Err(), &closed) {
		t.Fatalf("Err %v, want the close", client.Err())
	}
	if _, err := client.Send(t.Context(), directAB, mustID(t, "b"), Text("hi")); !errors.As(err, &closed) {
		t.Fatalf("send after the end: %v, want the close", err)
	}
}

func TestRefusedTokenIsNotTriedTwice(t *testing.T) {
	t.Parallel()
	server := newScriptServer(t)
	tokens := make(chan string, 8)
	for _, token := range []string{"old", "new", "new", "new", "new", "new"} {
		tokens <- token
	}
	opts := Options{URL: server.url, Token: func() string { return <-tokens }, Reconnect: true, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond}
	result := make(chan error, 1)
	go func() {
		_, err := Dial(t.Context(), opts)
		result <- err
	}()
	for _, token := range []string{"old", "new"} {
		conn := server.accept()
		conn.want(strings.Replace(helloEmpty, `"T"`, `"`+token+`"`, 1))
		conn.say(`{"t":"error","code":"unauthenticated","message":"the token expired"}`)
		conn.closeWith(schemas.CloseUnauthenticated, "")
	}
	err := <-result
	var closed *CloseError
	if !errors.As(err, &closed) || closed.Code != schemas.CloseUnauthenticated || !strings.Contains(err.Error(), "the token expired") {
		t.Fatalf("Dial: %v, want the refusal", err)
	}
}

func TestPlanFollowsTheCloseCode(t *testing.T) {
	t.Parallel()
	closed := func(code schemas.CloseCode, text string) error { return &CloseError{Code: code, Text: text} }
	const first, second = 200 * time.Millisecond, 400 * time.Millisecond
	for _, tc := range []struct {
		name     string
		err      error
		before   int // tries before this one
		min, max time.Duration
		end      bool
	}{
		{"loss", errors.New("reset"), 0, first / 2, first, false},
		{"second loss", errors.New("reset"), 1, second / 2, second, false},
		{"hundredth loss", errors.New("reset"), 99, 7500 * time.Millisecond, 15 * time.Second, false},
		{"slow", closed(schemas.CloseSlow, ""), 0, 0, 0, false},
		{"slow again", closed(schemas.CloseSlow, ""), 1, second / 2, second, false},
		{"expired", closed(schemas.CloseExpired, ""), 0, 0, 0, false},
		{"full", closed(schemas.CloseFull, ""), 0, first / 2, first, false},
		{"silent", closed(schemas.CloseSilent, ""), 0, first / 2, first, false},
		{"draining", closed(schemas.CloseDraining, `{"delay":1234}`), 0, 1234 * time.Millisecond, 1234 * time.Millisecond, false},
		{"draining for days", closed(schemas.CloseDraining, `{"delay":999999999}`), 0, time.Minute, time.Minute, false},
		{"draining, broken reason", closed(schemas.CloseDraining, `soon`), 0, first / 2, first, false},
		{"handshakes limited", &handshakeError{"429", 3 * time.Second}, 0, 3 * time.Second, 3 * time.Second, false},
		{"revoked", closed(schemas.CloseRevoked, ""), 0, 0, 0, true},
		{"protocol", closed(schemas.CloseProtocol, ""), 0, 0, 0, true},
		{"too large", closed(schemas.CloseTooLarge, ""), 0, 0, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			opts, err := Options{URL: "ws://x", Token: StaticToken("T"), Reconnect: true}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			for range 50 { // jitter
				s := &sessions{client: &Client{opts: opts}, tries: tc.before}
				wait, again := s.plan(tc.err)
				if again == tc.end || wait < tc.min || wait > tc.max {
					t.Fatalf("wait %v, again %v; want %v to %v, again %v", wait, again, tc.min, tc.max, !tc.end)
				}
			}
		})
	}
}

func TestCallbackMaySend(t *testing.T) {
	t.Parallel()
	server := newScriptServer(t)
	acked := make(chan error, 1)
	clients := make(chan *Client, 1)
	onEvent := func(Event) {
		client := <-clients
		_, err := client.Send(context.Background(), directAB, mustID(t, "echo"), Text("hi"))
		acked <- err
	}
	client, conn := server.dial(Options{OnEvent: onEvent, NoDelivered: true}, helloEmpty)
	clients <- client
	conn.sayEvent(7, 0, "bob", "x")
	conn.want(sendJSON(1, "echo", ""))
	conn.sayAck(1, "echo", 8)
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
}

func TestFullInboxGivesTheConnectionUp(t *testing.T) {
	t.Parallel()
	inbox := inbox{signal: make(chan struct{}, 1)}
	if !inbox.put(item{resync: true}, inboxBytesMax) || inbox.put(item{resync: true}, 1) {
		t.Fatal("the bound is not kept")
	}
	c := &Client{}
	c.inbox.signal = make(chan struct{}, 1)
	c.inbox.put(item{resync: true}, inboxBytesMax)
	var cause *schemas.Error
	var closed *CloseError
	if err := c.handleFrame([]byte(`{"t":"resync"}`), &cause); !errors.As(err, &closed) || closed.Code != schemas.CloseSlow {
		t.Fatalf("a frame too many: %v, want a close with %d", err, schemas.CloseSlow)
	}
	if left := len(c.inbox.items); left != 0 {
		t.Fatalf("%d items left: they would come before what the resume brings", left)
	}
}

func TestNamesAreForgottenAtTheBound(t *testing.T) {
	t.Parallel()
	var line timeline
	line.init(nil)
	name := func(i int) eventName { return eventName{chat: directAB, id: mustID(t, fmt.Sprint(i))} }
	for i := range eventsMax + 1 {
		line.take(name(i), uint64(i+1))
	}
	if len(line.names) != eventsMax || len(line.ring) != eventsMax {
		t.Fatalf("%d names and %d in the ring, want %d", len(line.names), len(line.ring), eventsMax)
	}
	if line.take(name(1), eventsMax+2) {
		t.Fatal("a name within the bound was forgotten")
	}
	if !line.take(name(0), eventsMax+3) {
		t.Fatal("the oldest name was not forgotten")
	}
}

func TestTextIsJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"hi", "a\xffb", `"\`} {
		var body schemas.TextBody
		if err := json.Unmarshal(Text(text), &body); err != nil || body.Text == "" {
			t.Errorf("Text(%q) = %s: %v", text, Text(text), err)
		}
	}
}

func TestDialRefusesOptions(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{
		"no token":  {URL: "ws://127.0.0.1"},
		"no scheme": {URL: "127.0.0.1:8080", Token: StaticToken("T")},
		"ftp":       {URL: "ftp://127.0.0.1", Token: StaticToken("T")},
	} {
		if _, err := Dial(t.Context(), opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
