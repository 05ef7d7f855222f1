package parley

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"parley/schemas"
)

func (r *recorder) presence(users map[schemas.User]schemas.Presence) {
	for _, name := range []string{"bob", "carol", "dave"} {
		user, _ := schemas.ParseUser(name)
		if presence, told := users[user]; told {
			r.said <- name + " " + string(presence.Status)
		}
	}
}

// watch calls Watch, plays its answer, and returns what Watch does.
func watch(t *testing.T, client *Client, conn *scriptConn, ask, answer string, names ...string) error {
	t.Helper()
	var users []schemas.User
	for _, name := range names {
		users = append(users, mustUser(t, name))
	}
	result := make(chan error, 1)
	go func() {
		_, err := client.Watch(t.Context(), users...)
		result <- err
	}()
	conn.want(ask)
	conn.say("%s", answer)
	return <-result
}

func TestWatchedUsersAreToldOfOverReconnects(t *testing.T) {
	t.Parallel()
	server := newScriptServer(t)
	rec := newRecorder(t)
	client, conn := server.dial(Options{OnPresence: rec.presence, Reconnect: true}, helloEmpty)
	if err := watch(t, client, conn, `{"t":"watch","ref":1,"users":["carol","bob"]}`,
		`{"t":"presence","ref":1,"users":{"bob":{"status":"online"},"carol":{"status":"away"}}}`, "carol", "bob"); err != nil {
		t.Fatal(err)
	}
	conn.say(`{"t":"presence","users":{"bob":{"status":"offline","lastSeen":"2026-11-24T03:00:00Z"},"dave":{"status":"online"}}}`)
	rec.want("bob online", "carol away", "bob offline")

	conn.say(`{"t":"resync"}`)
	conn.want(`{"t":"watch","ref":2,"users":["bob","carol"]}`)
	conn.say(`{"t":"presence","ref":2,"users":{"bob":{"status":"away"},"carol":{"status":"away"}}}`)
	rec.want("bob away", "carol away")
	conn.NetConn().Close()

	conn = server.accept()
	conn.want(helloEmpty)
	conn.sayWelcome()
	conn.want(`{"t":"watch","ref":3,"users":["bob","carol"]}`)
	conn.say(`{"t":"error","ref":3,"code":"unavailable","message":"later","retryAfter":0.001}`)
	conn.want(`{"t":"watch","ref":4,"users":["bob","carol"]}`)
	conn.say(`{"t":"presence","ref":4,"users":{"bob":{"status":"online"},"carol":{"status":"offline"}}}`)
	rec.want("bob online", "carol offline")

	unwatched := make(chan error, 1)
	go func() { unwatched <- client.Unwatch(t.Context(), mustUser(t, "bob")) }()
	conn.want(`{"t":"unwatch","ref":5,"users":["bob"]}`)
	conn.say(`{"t":"presence","users":{"bob":{"status":"away"},"carol":{"status":"away"}}}`) // crosses it
	conn.say(`{"t":"done","ref":5}`)
	if err := <-unwatched; err != nil {
		t.Fatal(err)
	}
	rec.want("carol away")
}

func TestRefusedWatchIsNotSaidAgain(t *testing.T) {
	t.Parallel()
	server := newScriptServer(t)
	client, conn := server.dial(Options{Reconnect: true}, helloEmpty)
	if err := watch(t, client, conn, `{"t":"watch","ref":1,"users":["carol"]}`, `{"t":"presence","ref":1,"users":{"carol":{"status":"away"}}}`, "carol"); err != nil {
		t.Fatal(err)
	}
	var refusal *schemas.Error
	err := watch(t, client, conn, `{"t":"watch","ref":2,"users":["bob","carol"]}`, `{"t":"error","ref":2,"code":"invalid","message":"no"}`, "bob", "carol")
	if !errors.As(err, &refusal) || refusal.Code != schemas.Invalid {
		t.Fatalf("Watch: %v, want %s", err, schemas.Invalid)
	}
	var many []schemas.User
	for i := range schemas.PresenceUsersMax {
		many = append(many, mustUser(t, fmt.Sprint("u", i)))
	}
	if _, err := client.Watch(t.Context(), many...); !errors.As(err, &refusal) || refusal.Code != schemas.Invalid {
		t.Fatalf("Watch of one too many: %v, want %s", err, schemas.Invalid)
	}
	conn.NetConn().Close()
	conn = server.accept()
	conn.want(helloEmpty)
	conn.sayWelcome()
	conn.want(`{"t":"watch","ref":3,"users":["carol"]}`)
}

func TestTypingEndsByItselfAndWithAMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := newRecorder(t)
		c := newClient(Options{
			OnTyping: func(_ schemas.Chat, user schemas.User, on bool) { rec.said <- fmt.Sprint(user, " ", on) },
			OnEvent:  func(ev Event) { rec.said <- fmt.Sprint(ev.From, " says ", ev.Type) },
		})
		go c.dispatchLoop()
		defer c.cancel()
		types := func(chat schemas.Chat, name string) {
			c.inbox.put(item{typing: &schemas.TypingFrame{Chat: chat, User: mustUser(t, name)}}, 0)
		}
		says := func(seq uint64, typ schemas.EventType, name string) {
			event := schemas.Event{Type: typ, ID: mustID(t, fmt.Sprint("e", seq)), From: mustUser(t, name)}
			c.inbox.put(item{event: &schemas.LiveEvent{Chat: directAB, Seq: seq, Event: event}}, 0)
		}
		want := func(lines ...string) {
			t.Helper()
			synctest.Wait()
			if len(rec.said) != len(lines) {
				t.Fatalf("told of %d, want %q", len(rec.said), lines)
			}
			rec.want(lines...)
		}
		types(directAB, "bob")
		want("bob true")
		time.Sleep(schemas.TypingFor - time.Second)
		types(directAB, "bob") // goes on
		want()
		time.Sleep(time.Second)
		types(team, "carol")
		want("carol true")
		time.Sleep(schemas.TypingFor - 2*time.Second)
		want()
		time.Sleep(time.Second)
		want("bob false")
		time.Sleep(time.Second)
		want("carol false")

		types(directAB, "bob")
		types(team, "bob")
		says(11, schemas.React, "bob")
		want("bob true", "bob true", "bob says reaction")
		says(12, schemas.Message, "alice")
		want("alice says message")
		says(13, schemas.Message, "bob")
		want("bob false", "bob says message")
		time.Sleep(schemas.TypingFor)
		want("bob false") // in the other chat
		time.Sleep(time.Hour)
		want()
	})
}

func TestTypistsAreBounded(t *testing.T) {
	t.Parallel()
	var typing typists
	typing.init()
	defer typing.timer.Stop()
	now := time.Unix(0, 0)
	for i := range typistsMax {
		if !typing.begin(typist{team, mustUser(t, fmt.Sprint("u", i))}, now) {
			t.Fatalf("the typist %d is not told", i)
		}
	}
	if typing.begin(typist{team, mustUser(t, "one-more")}, now) {
		t.Fatal("the bound is not kept")
	}
	if ended := typing.over(now.Add(schemas.TypingFor)); len(ended) != typistsMax || len(typing.until) != 0 {
		t.Fatalf("%d end and %d stay, want %d and none", len(ended), len(typing.until), typistsMax)
	}
}

func TestTypingIsSaidAsOftenAsItIsToldOn(t *testing.T) {
	t.Parallel()
	c := newClient(Options{})
	now := time.Unix(0, 0)
	for _, test := range []struct {
		chat  schemas.Chat
		after time.Duration
		want  bool
	}{
		{directAB, 0, true},
		{directAB, schemas.TypingEvery - 1, false},
		{team, schemas.TypingEvery - 1, true},
		{directAB, schemas.TypingEvery, true},
		{directAB, schemas.TypingEvery + 1, false},
	} {
		if got := c.typingDueLocked(test.chat, now.Add(test.after)); got != test.want {
			t.Errorf("in %s after %v: due is %v, want %v", test.chat, test.after, got, test.want)
		}
	}
	c.typingDueLocked(directAB, now.Add(time.Hour))
	if len(c.typed) != 1 {
		t.Errorf("%d chats are remembered, want the last one", len(c.typed))
	}
}
