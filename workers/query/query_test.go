package query_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/query"
	"parley/workers/worker"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a [workerstest.World] with a history service, and what was said in one chat.
type world struct {
	*workerstest.World
	metrics *prometheus.Registry
	chat    schemas.Chat
	sent    []item
}

// item is an event of an answer.
type item struct {
	Seq, Prev, N uint64
	ID           string
}

func newWorld(t testing.TB, change func(*query.Config)) *world {
	t.Helper()
	w := &world{
		World:   workerstest.NewWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}}),
		metrics: prometheus.NewRegistry(), chat: schemas.DirectChat(workerstest.User("alice"), workerstest.User("bob")),
	}
	conn := w.Connect(t, streams.WorkerComponent)
	cfg := query.Config{
		Conn: conn, Log: streams.NewLog(streamstest.JetStream(t, conn), w.Layout),
		Store: w.Store, Runtime: worker.Runtime{Registerer: w.metrics},
	}
	if change != nil {
		change(&cfg)
	}
	service, err := query.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	workerstest.Run(t, service.Run)
	workerstest.WaitFor(t, "the service answers", func() bool {
		_, err := w.Edge.Request(streams.HistorySubject, []byte(`{}`), time.Second)
		return err == nil
	})
	return w
}

func (w *world) subject() string { return w.Layout.Shard(w.chat).Timeline(w.chat) }

// say puts n messages with texts of that size into the chat, one after the other.
func (w *world) say(n, size int) {
	w.T.Helper()
	for range n {
		id := "m" + strconv.Itoa(len(w.sent))
		data := `{"type":"message","id":"` + id + `","from":"alice","body":{"kind":"text","text":"` + strings.Repeat("x", size) + `"}}`
		ack, err := w.EdgeJS.Publish(w.T.Context(), w.subject(), []byte(data))
		if err != nil {
			w.T.Fatal(err)
		}
		next := item{Seq: ack.Sequence, N: uint64(len(w.sent) + 1), ID: id}
		if len(w.sent) > 0 {
			next.Prev = w.sent[len(w.sent)-1].Seq
		}
		w.sent = append(w.sent, next)
	}
}

// saySomethingElse makes the chat's sequences not contiguous.
func (w *world) saySomethingElse() {
	w.T.Helper()
	alice, _ := schemas.ParseUser("alice")
	notes := schemas.DirectChat(alice, alice)
	if _, err := w.EdgeJS.Publish(w.T.Context(), w.Layout.Shard(notes).Timeline(notes),
		[]byte(`{"type":"message","id":"n","from":"alice","body":{"kind":"text","text":"note"}}`)); err != nil {
		w.T.Fatal(err)
	}
}

// ask returns the answer to a request, or the code of its refusal.
func (w *world) ask(request string) (items []item, more bool, code string) {
	w.T.Helper()
	page, code := w.page(request)
	return itemsOf(page), page.More, code
}

// page returns the whole answer.
func (w *world) page(request string) (page schemas.HistoryAnswer, code string) {
	w.T.Helper()
	msg, err := w.Edge.Request(streams.HistorySubject, []byte(request), 10*time.Second)
	if err != nil {
		w.T.Fatalf("request %s: %v", request, err)
	}
	return w.read(request, msg)
}

func (w *world) read(request string, msg *nats.Msg) (page schemas.HistoryAnswer, code string) {
	w.T.Helper()
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		if msg.Header.Get(micro.ErrorHeader) == "" {
			w.T.Errorf("request %s: code %s comes without a sentence", request, code)
		}
		if again := msg.Header.Get("Parley-Retry-After") != ""; again != (code != "invalid") {
			w.T.Errorf("request %s: code %s tells to try again: %v", request, code, again)
		}
		return page, code
	}
	if !strings.HasPrefix(string(msg.Data), `{"events":[`) {
		w.T.Errorf("request %s: the answer does not begin with its events: %.80s", request, msg.Data)
	}
	if len(msg.Data) > 1<<20 {
		w.T.Errorf("request %s: the answer has %d bytes", request, len(msg.Data))
	}
	if err := json.Unmarshal(msg.Data, &page, json.RejectUnknownMembers(true)); err != nil {
		w.T.Fatalf("request %s: %v in %.200s", request, err, msg.Data)
	}
	for _, e := range page.Events {
		if e.Time.IsZero() {
			w.T.Errorf("request %s: event %d has no time", request, e.Seq)
		}
	}
	return page, ""
}

func itemsOf(page schemas.HistoryAnswer) (items []item) {
	for _, e := range page.Events {
		var ev schemas.Event
		if err := json.Unmarshal(e.JSON, &ev); err != nil {
			panic(err)
		}
		items = append(items, item{e.Seq, e.Prev, e.N, ev.ID.String()})
	}
	return items
}

// wantRange asks for a range and wants what was said there.
func (w *world) wantRange(forward bool, bound uint64, limit int) {
	w.T.Helper()
	var in []item
	for _, it := range w.sent {
		if forward && it.Seq > bound || !forward && (bound == 0 || it.Seq < bound) {
			in = append(in, it)
		}
	}
	want, wantMore := in, false
	if len(in) > limit {
		wantMore = true
		if want = in[len(in)-limit:]; forward {
			want = in[:limit]
		}
	}
	request := fmt.Sprintf(`{"chat":%q,"limit":%d}`, w.chat, limit)
	switch {
	case forward:
		request = fmt.Sprintf(`{"chat":%q,"after":%d,"limit":%d}`, w.chat, bound, limit)
	case bound > 0:
		request = fmt.Sprintf(`{"chat":%q,"before":%d,"limit":%d}`, w.chat, bound, limit)
	}
	got, more, code := w.ask(request)
	if code != "" {
		w.T.Fatalf("request %s: refused with %s", request, code)
	}
	if len(want) == 0 {
		want = nil
	}
	if diff := cmp.Diff(want, got); diff != "" || more != wantMore {
		w.T.Fatalf("request %s: more is %v, want %v; events (-want +got):\n%s", request, more, wantMore, diff)
	}
}

func (w *world) metric(name string) float64 {
	return workerstest.Metric(w.T, w.metrics, "parley_query_"+name)
}
