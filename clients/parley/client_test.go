package parley

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"parley/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
