package chats_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/goleak"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/chats"
	"parley/workers/store"
	"parley/workers/worker"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a [workerstest.World] with an edge that asks the services which the test starts.
type world struct {
	*workerstest.World
	sends int // messages that were said
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, 1)
}

func newWorldOn(t testing.TB, nodes int) *world {
	t.Helper()
	return &world{World: workerstest.NewWorld(t, streamstest.Options{Administrator: true, Nodes: nodes, Settings: streams.Settings{Shards: 2}})}
}

// serve starts a service as a worker of its own, which answers when serve returns.
func (w *world) serve(change func(*chats.Config)) (stop func()) {
	w.T.Helper()
	conn := w.Connect(w.T, streams.WorkerComponent)
	publisher, err := streams.NewPublisher(conn)
	if err != nil {
		w.T.Fatal(err)
	}
	started := make(chan struct{})
	cfg := chats.Config{
		Conn: conn, Log: streams.NewLog(streamstest.JetStream(w.T, conn), w.Layout), Publisher: publisher, Store: w.Store,
		Runtime: worker.Runtime{Started: func() { close(started) }, Logger: slog.New(slog.NewTextHandler(w.T.Output(), nil))},
	}
	if change != nil {
		change(&cfg)
	}
	service, err := chats.New(cfg)
	if err != nil {
		w.T.Fatal(err)
	}
	stop = workerstest.Run(w.T, service.Run)
	w.T.Cleanup(func() {
		stop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		publisher.Close(ctx)
	})
	<-started
	return stop
}

// expire empties the log, as its age limit does.
func (w *world) expire() {
	w.T.Helper()
	for _, shard := range w.Layout.All() {
		stream, err := w.JetStream.Stream(w.T.Context(), shard.Stream())
		if err == nil {
			err = stream.Purge(w.T.Context())
		}
		if err != nil {
			w.T.Fatal(err)
		}
	}
}

// reply is an answer: its members, or the code of a refusal.
type reply struct {
	Code     schemas.Code
	Chat     schemas.Chat         `json:"chat"`
	Seq      uint64               `json:"seq"`
	Members  []schemas.ChatMember `json:"members"`
	Chats    []schemas.ListChat   `json:"chats"`
	Receipts []schemas.Receipt    `json:"receipts"`
	Cursor   string               `json:"cursor"`
}

// ask has a service answer a request of a user: members are those of its frame.
func (w *world) ask(t schemas.Type, by, members string, args ...any) reply {
	w.T.Helper()
	request := fmt.Sprintf(`{"by":%q`, by)
	if members != "" {
		request += "," + fmt.Sprintf(members, args...)
	}
	var r reply
	r.Code = w.request(streams.AskSubject(t), request+"}", &r)
	return r
}

// request returns the code of a refusal, or decodes the answer.
func (w *world) request(subject, request string, answer any) schemas.Code {
	w.T.Helper()
	msg, err := w.Edge.Request(subject, []byte(request), 20*time.Second)
	if err != nil {
		w.T.Errorf("request %s %.200s: %v", subject, request, err)
		return "unanswered"
	}
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		sentence := msg.Header.Get(micro.ErrorHeader)
		if sentence == "" || strings.ContainsAny(sentence, "\n") {
			w.T.Errorf("request %s %.200s: code %s comes with the sentence %q", subject, request, code, sentence)
		}
		switch again := msg.Header.Get("Parley-Retry-After") != ""; schemas.Code(code) {
		case schemas.Overloaded, schemas.Unavailable:
			if !again {
				w.T.Errorf("request %s %.200s: code %s does not tell to try again", subject, request, code)
			}
		}
		return schemas.Code(code)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		w.T.Errorf("request %s %.200s: %v in %.300s", subject, request, err, msg.Data)
	}
	return ""
}

// done asks, and wants no refusal.
func (w *world) done(t schemas.Type, by, members string, args ...any) reply {
	w.T.Helper()
	r := w.ask(t, by, members, args...)
	if r.Code != "" {
		w.T.Fatalf("%s of %s, %s: refused with %s", t, by, fmt.Sprintf(members, args...), r.Code)
	}
	return r
}

// create makes a group of a user, with members.
func (w *world) create(id, by string, members ...string) schemas.Chat {
	w.T.Helper()
	return w.done(schemas.TCreate, by, `"id":%q,"name":%q,"members":%s`, id, id, quoted(members)).Chat
}

func quoted(names []string) string {
	data, err := json.Marshal(append([]string{}, names...))
	if err != nil {
		panic(err)
	}
	return string(data)
}

// say puts a message into a chat, as an edge does, and returns its seq.
func (w *world) say(chat schemas.Chat, by, text string) uint64 {
	w.T.Helper()
	return w.put(chat, fmt.Sprintf(`"from":%q,"body":{"kind":"text","text":%q}`, by, text))
}

// put publishes a message with members of its own.
func (w *world) put(chat schemas.Chat, members string) uint64 {
	w.T.Helper()
	w.sends++
	data := fmt.Sprintf(`{"type":"message","id":"m%d",%s}`, w.sends, members)
	ack, err := w.EdgeJS.Publish(w.T.Context(), w.Layout.Shard(chat).Timeline(chat), []byte(data))
	if err != nil {
		w.T.Fatal(err)
	}
	return ack.Sequence
}

// timeline returns all that the log has of a chat, as its leader has it.
func (w *world) timeline(chat schemas.Chat) (events []schemas.StoredEvent) {
	w.T.Helper()
	last, _, err := w.Log().Last(w.T.Context(), chat)
	if err != nil {
		w.T.Fatal(err)
	}
	after := uint64(0)
	workerstest.WaitFor(w.T, "a replica shows all", func() bool {
		page, _, err := w.Log().After(w.T.Context(), chat, after, 1000, 1<<20)
		if err != nil {
			w.T.Fatal(err)
		}
		if events = append(events, page...); len(page) > 0 {
			after = page[len(page)-1].Seq
		}
		return after >= last
	})
	return events
}

// standing is who is in a group, with roles, as its log has made it: by name.
func (w *world) standing(chat schemas.Chat) map[string]schemas.Role {
	w.T.Helper()
	roles := make(map[string]schemas.Role)
	for _, stored := range w.timeline(chat) {
		ev, err := schemas.DecodeEvent(stored.JSON)
		if err != nil {
			w.T.Fatal(err)
		}
		for user, role := range ev.Roles() {
			if roles[user.String()] = role; !role.In() {
				delete(roles, user.String())
			}
		}
	}
	return roles
}

// members asks for all members of a chat, a few at a time.
func (w *world) members(chat schemas.Chat, by string, limit int) (all []schemas.ChatMember) {
	w.T.Helper()
	for cursor := ""; ; {
		r := w.done(schemas.TMembers, by, `"chat":%q,"limit":%d,"cursor":%q`, chat, limit, cursor)
		if len(r.Members) > limit || r.Cursor != "" && len(r.Members) < limit {
			w.T.Errorf("a page of %d members has %d, and the cursor %q", limit, len(r.Members), r.Cursor)
		}
		all = append(all, r.Members...)
		if cursor = r.Cursor; cursor == "" {
			return all
		}
	}
}

// receipts asks how far all members of a chat have got, a few at a time.
func (w *world) receipts(chat schemas.Chat, by string, limit int) (all []schemas.Receipt) {
	w.T.Helper()
	for cursor := ""; ; {
		r := w.done(schemas.TReceipts, by, `"chat":%q,"limit":%d,"cursor":%q`, chat, limit, cursor)
		if len(r.Receipts) > limit || r.Cursor != "" && len(r.Receipts) < limit || r.Chat != chat {
			w.T.Errorf("a page of %d receipts of %s has %d of %s, and the cursor %q", limit, chat, len(r.Receipts), r.Chat, r.Cursor)
		}
		all = append(all, r.Receipts...)
		if cursor = r.Cursor; cursor == "" {
			return all
		}
	}
}

// mark stores how far a user has got.
func (w *world) mark(m store.Mark) {
	w.T.Helper()
	if err := w.Store.Mark(w.T.Context(), []store.Mark{m}); err != nil {
		w.T.Fatal(err)
	}
}

// list asks for all chats of a user, a few at a time.
func (w *world) list(by string, limit int) (all []schemas.ListChat) {
	w.T.Helper()
	for cursor := ""; ; {
		r := w.done(schemas.TChats, by, `"limit":%d,"cursor":%q`, limit, cursor)
		if len(r.Cursor) > schemas.CursorBytesMax {
			w.T.Errorf("a cursor has %d bytes", len(r.Cursor))
		}
		all = append(all, r.Chats...)
		if cursor = r.Cursor; cursor == "" {
			return all
		}
	}
}

// clock is the time, and how far a test has moved it on.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func (w *world) chat(name string) schemas.Chat {
	w.T.Helper()
	chat, err := schemas.ParseChat(name)
	if err != nil {
		w.T.Fatal(err)
	}
	return chat
}

// listen collects the personal events of everybody; heard returns those so far.
func (w *world) listen() (heard func() []string) {
	w.T.Helper()
	sub := w.Subscribe(streams.PersonalPrefix + "*")
	w.T.Cleanup(func() { _ = sub.Unsubscribe() }) // the connection may be closed
	return func() (all []string) {
		w.T.Helper()
		// The services' answers came after what they told, on the same way.
		if err := w.Edge.Flush(); err != nil {
			w.T.Fatal(err)
		}
		for {
			msg, err := sub.NextMsg(time.Millisecond)
			if err != nil {
				slices.Sort(all)
				return all
			}
			all = append(all, strings.TrimPrefix(msg.Subject, streams.PersonalPrefix)+" "+string(msg.Data))
		}
	}
}
