package parley

import (
	"errors"
	"testing"

	"parley/schemas"
)

var team = mustChat("group.team")

func mustUser(t *testing.T, name string) schemas.User {
	t.Helper()
	user, err := schemas.ParseUser(name)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func (c *scriptConn) sayTeam(seq, prev uint64, id string) {
	c.t.Helper()
	c.say(`{"t":"event","chat":"group.team","seq":%d,"prev":%d,"time":"2026-11-24T03:00:00Z","event":%s}`, seq, prev, eventJSON("bob", id))
}

func TestChatIsHeldFromItsAddingToItsRemoving(t *testing.T) {
	t.Parallel()
	server := newScriptServer(t)
	rec := newRecorder(t)
	opts := Options{OnEvent: rec.event, NoDelivered: true, Reconnect: true, OnChat: func(f schemas.ChatFrame) { rec.said <- f.Chat.String() + " " + string(f.Change) }}
	client, conn := server.dial(opts, helloEmpty)
	conn.say(`{"t":"chat","chat":"group.team","change":"added","seq":60}`)
	rec.want("group.team added")
	conn.NetConn().Close()

	conn = server.accept()
	conn.want(`{"t":"hello","token":"T","resume":{"group.team":59}}`)
	conn.sayWelcome()
	conn.sayTeam(60, 55, "a") // what was before it is no gap
	conn.say(`{"t":"chat","chat":"group.team","change":"muted"}`)
	conn.say(`{"t":"chat","chat":"group.team","change":"added","seq":60}`) // told twice
	conn.sayTeam(61, 60, "b")
	rec.want("60 a", "group.team muted", "group.team added", "61 b")
	if got := client.Held()[team]; got != 61 {
		t.Fatalf("held %d, want 61", got)
	}
	conn.say(`{"t":"chat","chat":"group.team","change":"removed","seq":62}`)
	rec.want("group.team removed")
	conn.NetConn().Close()

	conn = server.accept()
	conn.want(helloEmpty)
}

func TestChatWithoutItsUserIsForgotten(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t)
	client, conn := newScriptServer(t).dial(Options{OnEvent: rec.event, Resume: map[schemas.Chat]uint64{team: 44}}, `{"t":"hello","token":"T","resume":{"group.team":44}}`)
	conn.say(`{"t":"resync"}`)
	conn.want(`{"t":"history","ref":1,"chat":"group.team","after":44,"limit":200}`)
	conn.say(`{"t":"error","ref":1,"code":"not_member","message":"alice is not a member of group.team"}`)
	conn.sayEvent(7, 0, "bob", "x") // a second try would be before it
	rec.want("7 x")
	if held := client.Held(); len(held) != 1 || held[directAB] != 7 {
		t.Fatalf("held %v, want direct.alice.bob at 7 alone", held)
	}
}

func TestUnansweredRequestIsSaidAgainAfterALoss(t *testing.T) {
	t.Parallel()
	server := newScriptServer(t)
	client, conn := server.dial(Options{Reconnect: true}, helloEmpty)
	result := make(chan error, 2)
	go func() {
		_, err := client.Leave(t.Context(), team)
		result <- err
	}()
	conn.want(`{"t":"leave","ref":1,"chat":"group.team"}`)
	conn.NetConn().Close()
	conn = server.accept()
	conn.want(helloEmpty)
	conn.sayWelcome()
	conn.want(`{"t":"leave","ref":1,"chat":"group.team"}`)
	conn.say(`{"t":"error","ref":1,"code":"not_member","message":"alice is not a member of group.team"}`)
	var refusal *schemas.Error
	if err := <-result; !errors.As(err, &refusal) || refusal.Code != schemas.NotMember {
		t.Fatalf("Leave: %v, want %s", err, schemas.NotMember)
	}
}
