package parley

import (
	"context"
	"testing"
	"time"

	"parley/schemas"
)

// exchange is a request of the client, and the server's answer to it.
type exchange struct {
	want, answer string // want is the request without its first brace
	ask          func(ctx context.Context) (seq uint64, err error)
	seq          uint64 // ask finds it in the answer
}

const (
	doneAnswer = `{"t":"done","ref":1,"chat":"group.team","seq":70}`
	ackAnswer  = `{"t":"ack","ref":1,"id":"c1","chat":"group.team","seq":71,"time":"2026-11-24T03:00:00Z"}`
)

// wantExchanges checks that the client writes each request as the protocol has it, and
// finds the answer.
func (c *scriptConn) wantExchanges(client *Client, exchanges []exchange) {
	c.t.Helper()
	for _, x := range exchanges {
		client.lastRef = 0 // no request is in flight
		result := make(chan string, 1)
		go func() {
			seq, err := x.ask(c.t.Context())
			switch {
			case err != nil:
				result <- err.Error()
			case seq != x.seq:
				result <- "another answer"
			default:
				result <- ""
			}
		}()
		c.want("{" + x.want)
		c.say("%s", x.answer)
		if fault := <-result; fault != "" {
			c.t.Errorf("%s: %s", x.want, fault)
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

func TestGroupRequests(t *testing.T) {
	t.Parallel()
	client, conn := newScriptServer(t).dial(Options{}, helloEmpty)
	bob := mustUser(t, "bob")
	conn.wantExchanges(client, []exchange{
		{`"t":"create","ref":1,"id":"team","name":"The team","members":["bob"],"history":"all"}`, `{"t":"created","ref":1,"chat":"group.team","seq":60}`,
			func(ctx context.Context) (uint64, error) {
				answer, err := client.Create(ctx, schemas.Create{ID: mustID(t, "team"), Name: "The team", Members: []schemas.User{bob}, History: schemas.HistoryAll})
				return answer.Seq, err
			}, 60},
		{`"t":"add","ref":1,"chat":"group.team","users":["bob"]}`, doneAnswer, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.Add(ctx, team, bob) }), 70},
		{`"t":"remove","ref":1,"chat":"group.team","users":["bob"]}`, doneAnswer, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.Remove(ctx, team, bob) }), 70},
		{`"t":"leave","ref":1,"chat":"group.team"}`, doneAnswer, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.Leave(ctx, team) }), 70},
		{`"t":"role","ref":1,"chat":"group.team","user":"bob","role":"admin"}`, doneAnswer, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.SetRole(ctx, team, bob, schemas.Admin) }), 70},
		{`"t":"rename","ref":1,"chat":"group.team","name":"Us"}`, doneAnswer, seqOf(func(ctx context.Context) (schemas.Done, error) { return client.Rename(ctx, team, "Us") }), 70},
		{`"t":"members","ref":1,"chat":"group.team"}`, `{"t":"members","ref":1,"chat":"group.team","members":[{"user":"bob","role":"member","since":60}]}`,
			func(ctx context.Context) (uint64, error) {
				page, err := client.Members(ctx, schemas.Members{Chat: team})
				return page.Members[0].Since, err
			}, 60},
	})
}

func TestChatRequests(t *testing.T) {
	t.Parallel()
	client, conn := newScriptServer(t).dial(Options{}, helloEmpty)
	bob := mustUser(t, "bob")
	until := time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)
	conn.wantExchanges(client, []exchange{
		{`"t":"chats","ref":1,"limit":5}`, `{"t":"chats","ref":1,"chats":[{"chat":"group.team","name":"Us","members":2,"role":"owner","unread":3,"read":60,
			"last":{"seq":64,"prev":60,"time":"2026-11-24T03:00:00Z","n":4,"event":{"type":"message","id":"m","from":"bob","body":{}}}}]}`,
			func(ctx context.Context) (uint64, error) {
				page, err := client.Chats(ctx, schemas.Chats{Limit: new(uint64(5))})
				return page.Chats[0].Last.Seq + page.Chats[0].Unread, err
			}, 67},
		{`"t":"mute","ref":1,"chat":"group.team","on":true,"until":"2026-11-25T03:00:00Z"}`, doneAnswer, noSeq(func(ctx context.Context) error {
			return client.Mute(ctx, schemas.Mute{Chat: team, On: true, Until: until})
		}), 0},
		{`"t":"pin","ref":1,"chat":"group.team","on":true}`, doneAnswer, noSeq(func(ctx context.Context) error { return client.Pin(ctx, team, true) }), 0},
		{`"t":"archive","ref":1,"chat":"group.team","on":false}`, doneAnswer, noSeq(func(ctx context.Context) error { return client.Archive(ctx, team, false) }), 0},
		{`"t":"block","ref":1,"user":"bob","on":true}`, doneAnswer, noSeq(func(ctx context.Context) error { return client.Block(ctx, bob, true) }), 0},
		{`"t":"receipts","ref":1,"chat":"group.team","limit":5}`, `{"t":"receipts","ref":1,"chat":"group.team","receipts":[{"user":"alice","delivered":9,"read":9},{"user":"bob","delivered":7,"read":0}]}`,
			func(ctx context.Context) (uint64, error) {
				page, err := client.Receipts(ctx, schemas.Receipts{Chat: team, Limit: new(uint64(5))})
				return page.Receipts[0].Read + page.Receipts[1].Delivered, err
			}, 16},
		{`"t":"history","ref":1,"chat":"group.team","raw":true}`, `{"t":"page","ref":1,"chat":"group.team","more":false,"events":[{"seq":64,"prev":60,"time":"2026-11-24T03:00:00Z","n":4,
			"event":{"type":"message","id":"m","from":"bob","body":{}},"edited":66,"reactions":[{"emoji":"👍","count":1,"users":["bob"]}],"former":[{"seq":64,"time":"2026-11-24T03:00:00Z","body":{}}]}]}`,
			func(ctx context.Context) (uint64, error) {
				page, err := client.History(ctx, schemas.History{Chat: team, Raw: true})
				item := page.Events[0]
				return item.Edited + uint64(item.Reactions[0].Count) + item.Former[0].Seq, err
			}, 66 + 1 + 64},
	})
}

func TestProfileAndPresenceRequests(t *testing.T) {
	t.Parallel()
	client, conn := newScriptServer(t).dial(Options{}, helloEmpty)
	bob, name := mustUser(t, "bob"), "Alice"
	conn.wantExchanges(client, []exchange{
		{`"t":"profile","ref":1,"users":["bob"]}`, `{"t":"profiles","ref":1,"profiles":[{"user":"bob","name":"Bob"}]}`, func(ctx context.Context) (uint64, error) {
			profiles, err := client.Profiles(ctx, bob)
			return uint64(len(profiles[0].Name)), err
		}, 3},
		{`"t":"profile.set","ref":1,"name":"Alice"}`, doneAnswer, noSeq(func(ctx context.Context) error { return client.SetProfile(ctx, schemas.SetProfile{Name: &name}) }), 0},
		{`"t":"profile.set","ref":1,"readReceipts":false}`, doneAnswer, noSeq(func(ctx context.Context) error {
			return client.SetProfile(ctx, schemas.SetProfile{ReadReceipts: new(false)})
		}), 0},
		{`"t":"status","ref":1,"status":"invisible"}`, doneAnswer, noSeq(func(ctx context.Context) error { return client.SetStatus(ctx, schemas.Invisible) }), 0},
		{`"t":"presence","ref":1,"users":["bob"]}`, `{"t":"presence","ref":1,"users":{"bob":{"status":"away"}}}`, func(ctx context.Context) (uint64, error) {
			users, err := client.Presence(ctx, bob)
			return uint64(len(users[bob].Status)), err
		}, 4},
		{`"t":"watch","ref":1,"users":["bob"]}`, `{"t":"presence","ref":1,"users":{"bob":{"status":"offline","lastSeen":"2026-11-24T03:00:00Z"}}}`, func(ctx context.Context) (uint64, error) {
			users, err := client.Watch(ctx, bob)
			return uint64(users[bob].LastSeen.Hour()), err
		}, 3},
		{`"t":"unwatch","ref":1,"users":["bob"]}`, `{"t":"done","ref":1}`, noSeq(func(ctx context.Context) error { return client.Unwatch(ctx, bob) }), 0},
	})
}

func TestSendsOfEachType(t *testing.T) {
	t.Parallel()
	client, conn := newScriptServer(t).dial(Options{}, helloEmpty)
	id := mustID(t, "c1")
	conn.wantExchanges(client, []exchange{
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"message","body":{"kind":"text","text":"hi"},"replyTo":64,"thread":61,"mentions":["bob"],"ttl":60}`, ackAnswer,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) {
				return client.Say(ctx, schemas.Send{Chat: team, ID: id, Body: Text("hi"), ReplyTo: 64, Thread: 61, Mentions: []string{"bob"}, TTL: new(uint64(60))})
			}), 71},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"edit","body":{"kind":"text","text":"ho"},"target":64}`, ackAnswer,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) { return client.Edit(ctx, team, id, 64, Text("ho")) }), 71},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"delete","target":64}`, ackAnswer,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) { return client.Delete(ctx, team, id, 64) }), 71},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"reaction","target":64,"emoji":"👍"}`, ackAnswer,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) { return client.React(ctx, team, id, 64, "👍", true) }), 71},
		{`"t":"send","ref":1,"id":"c1","chat":"group.team","type":"pin","target":64,"remove":true}`, ackAnswer,
			seqOfAck(func(ctx context.Context) (schemas.Ack, error) { return client.PinMessage(ctx, team, id, 64, false) }), 71},
	})
}
