package parley

import (
	"context"
	"errors"
	"testing"
	"time"

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

// TestRequestsAreWrittenAsTheProtocolHasThem has each request said, and its answer found.
func TestRequestsAreWrittenAsTheProtocolHasThem(t *testing.T) {
	t.Parallel()
	client, conn := newScriptServer(t).dial(Options{}, helloEmpty)
	bob, id, name := mustUser(t, "bob"), mustID(t, "c1"), "Alice"
	until := time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)
	const done, ack = `{"t":"done","ref":1,"chat":"group.team","seq":70}`, `{"t":"ack","ref":1,"id":"c1","chat":"group.team","seq":71,"time":"2026-11-24T03:00:00Z"}`
	for _, test := range []struct {
		want, answer string
		ask          func(ctx context.Context) (seq uint64, err error)
		seq          uint64
	}{
		{`"t":"create","ref":1,"id":"team","name":"The team","members":["bob"],"history":"all"}`, `{"t":"created","ref":1,"chat":"group.team","seq":60}`,
			func(ctx context.Context) (uint64, error) {
				answer, err := client.Create(ctx, schemas.Create{ID: mustID(t, "team"), Name: "The team", Members: []schemas.User{bob}, History: schemas.HistoryAll})
				return answer.Seq, err
			}, 60},
		{`"t":"add","ref":1,"chat":"group.team","users":["bob"]}`, done, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.Add(ctx, team, bob) }), 70},
		{`"t":"remove","ref":1,"chat":"group.team","users":["bob"]}`, done, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.Remove(ctx, team, bob) }), 70},
		{`"t":"leave","ref":1,"chat":"group.team"}`, done, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.Leave(ctx, team) }), 70},
		{`"t":"role","ref":1,"chat":"group.team","user":"bob","role":"admin"}`, done, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.SetRole(ctx, team, bob, schemas.Admin) }), 70},
		{`"t":"rename","ref":1,"chat":"group.team","name":"Us"}`, done, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.Rename(ctx, team, "Us") }), 70},
		{`"t":"members","ref":1,"chat":"group.team"}`, `{"t":"members","ref":1,"chat":"group.team","members":[{"user":"bob","role":"member","since":60}]}`,
			func(ctx context.Context) (uint64, error) {
				page, err := client.Members(ctx, schemas.Members{Chat: team})
				return page.Members[0].Since, err
			}, 60},
		{`"t":"chats","ref":1,"limit":5}`, `{"t":"chats","ref":1,"chats":[{"chat":"group.team","name":"Us","members":2,"role":"owner","unread":3,"read":60,
			"last":{"seq":64,"prev":60,"time":"2026-11-24T03:00:00Z","n":4,"event":{"type":"message","id":"m","from":"bob","body":{}}}}]}`,
			func(ctx context.Context) (uint64, error) {
				page, err := client.Chats(ctx, schemas.Chats{Limit: new(uint64(5))})
				return page.Chats[0].Last.Seq + page.Chats[0].Unread, err
			}, 67},
		{`"t":"mute","ref":1,"chat":"group.team","on":true,"until":"2026-11-25T03:00:00Z"}`, done, noSeq(func(ctx context.Context) error {
			return client.Mute(ctx, schemas.Mute{Chat: team, On: true, Until: until})
		}), 0},
		{`"t":"pin","ref":1,"chat":"group.team","on":true}`, done, noSeq(func(ctx context.Context) error { return client.Pin(ctx, team, true) }), 0},
		{`"t":"archive","ref":1,"chat":"group.team","on":false}`, done, noSeq(func(ctx context.Context) error { return client.Archive(ctx, team, false) }), 0},
		{`"t":"block","ref":1,"user":"bob","on":true}`, done, noSeq(func(ctx context.Context) error { return client.Block(ctx, bob, true) }), 0},
		{`"t":"profile","ref":1,"users":["bob"]}`, `{"t":"profiles","ref":1,"profiles":[{"user":"bob","name":"Bob"}]}`, func(ctx context.Context) (uint64, error) {
			profiles, err := client.Profiles(ctx, bob)
			return uint64(len(profiles[0].Name)), err
		}, 3},
		{`"t":"profile.set","ref":1,"name":"Alice"}`, done, noSeq(func(ctx context.Context) error { return client.SetProfile(ctx, schemas.SetProfile{Name: &name}) }), 0},
		{`"t":"profile.set","ref":1,"readReceipts":false}`, done, noSeq(func(ctx context.Context) error {
			return client.SetProfile(ctx, schemas.SetProfile{ReadReceipts: new(false)})
		}), 0},
		{`"t":"status","ref":1,"status":"invisible"}`, done, noSeq(func(ctx context.Context) error { return client.SetStatus(ctx, schemas.Invisible) }), 0},
		{`"t":"receipts","ref":1,"chat":"group.team","limit":5}`, `{"t":"receipts","ref":1,"chat":"group.team","receipts":[{"user":"alice","delivered":9,"read":9},{"user":"bob","delivered":7,"read":0}]}`,
			func(ctx context.Context) (uint64, error) {
				page, err := client.Receipts(ctx, schemas.Receipts{Chat: team, Limit: new(uint64(5))})
				return page.Receipts[0].Read + page.Receipts[1].Delivered, err
			}, 16},
		{`"t":"presence","ref":1,"users":["bob"]}`, `{"t":"presence","ref":1,"users":{"bob":{"status":"away"}}}`, func(ctx context.Context) (uint64, error) {
			users, err := client.Presence(ctx, bob)
			return uint64(len(users[bob].Status)), err
		}, 4},
		{`"t":"watch","ref":1,"users":["bob"]}`, `{"t":"presence","ref":1,"users":{"bob":{"status":"offline","lastSeen":"2026-11-24T03:00:00Z"}}}`, func(ctx context.Context) (uint64, error) {
			users, err := client.Watch(ctx, bob)
			return uint64(users[bob].LastSeen.Hour()), err
		}, 3},
		{`"t":"unwatch","ref":1,"users":["bob"]}`, `{"t":"done","ref":1}`, noSeq(func(ctx context.Context) error { return client.Unwatch(ctx, bob) }), 0},
		{`"t":"history","ref":1,"chat":"group.team","raw":true}`, `{"t":"page","ref":1,"chat":"group.team","more":false,"events":[{"seq":64,"prev":60,"time":"2026-11-24T03:00:00Z","n":4,
			"event":{"type":"message","id":"m","from":"bob","body":{}},"edited":66,"reactions":[{"emoji":"👍","count":1,"users":["bob"]}],"former":[{"seq":64,"time":"2026-11-24T03:00:00Z","body":{}}]}]}`,
			func(ctx context.Context) (uint64, error) {
				page, err := client.History(ctx, schemas.History{Chat: team, Raw: true})
				item := page.Events[0]
				return item.Edited + uint64(item.Reactions[0].Count) + item.Former[0].Seq, err
			}, 66 + 1 + 64},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"message","body":{"kind":"text","text":"hi"},"replyTo":64,"thread":61,"mentions":["bob"],"ttl":60}`, ack,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) {
				return client.Say(ctx, schemas.Send{Chat: team, ID: id, Body: Text("hi"), ReplyTo: 64, Thread: 61, Mentions: []string{"bob"}, TTL: new(uint64(60))})
			}), 71},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"edit","body":{"kind":"text","text":"ho"},"target":64}`, ack,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) { return client.Edit(ctx, team, id, 64, Text("ho")) }), 71},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"delete","target":64}`, ack,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) { return client.Delete(ctx, team, id, 64) }), 71},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"reaction","target":64,"emoji":"👍"}`, ack,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) { return client.React(ctx, team, id, 64, "👍", true) }), 71},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"pin","target":64,"remove":true}`, ack,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) { return client.PinMessage(ctx, team, id, 64, false) }), 71},
	} {
		client.lastRef = 0 // nothing is on its way
		result := make(chan string, 1)
		go func() {
			seq, err := test.ask(t.Context())
			switch {
			case err != nil:
				result <- err.Error()
			case seq != test.seq:
				result <- "another answer"
			default:
				result <- ""
			}
		}()
		conn.want("{" + test.want)
		conn.say("%s", test.answer)
		if fault := <-result; fault != "" {
			t.Errorf("%s: %s", test.want, fault)
		}
	}
}

func seqOf(ask func(context.Context) (schemas.Done, error)) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (uint64, error) {
		done, err := ask(ctx)
		return done.Seq, err
	}
}

func seqOfAck(ask func(context.Context) (schemas.Ack, error)) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (uint64, error) {
		ack, err := ask(ctx)
		return ack.Seq, err
	}
}

func noSeq(ask func(context.Context) error) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (uint64, error) { return 0, ask(ctx) }
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
