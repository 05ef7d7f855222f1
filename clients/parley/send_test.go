package parley

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-json-experiment/json"

	"parley/schemas"
)

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

func TestTextIsJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"hi", "a\xffb", `"\`} {
		var body schemas.TextBody
		if err := json.Unmarshal(Text(text), &body); err != nil || body.Text == "" {
			t.Errorf("Text(%q) = %s: %v", text, Text(text), err)
		}
	}
}
