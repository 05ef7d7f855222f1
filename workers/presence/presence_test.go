package presence_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/presence"
	"parley/workers/worker"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server, a store, and the worker as edges know it.
type world struct {
	*workerstest.World
	told    map[string]*nats.Subscription
	metrics *prometheus.Registry
}

func newWorld(t *testing.T, options streamstest.Options) *world {
	t.Helper()
	return &world{World: workerstest.NewWorld(t, options), told: map[string]*nats.Subscription{}}
}

// start runs a worker, and returns what ends it.
func (w *world) start() (stop func()) {
	w.T.Helper()
	again := w.Subscribe(streams.PresenceAgain)
	w.awaitProbe(streams.PresenceAgain, again)
	w.metrics = prometheus.NewRegistry()
	started := make(chan struct{})
	worker, err := presence.New(presence.Config{
		Conn: w.NATS, JetStream: w.JetStream, Log: streams.NewLog(w.JetStream, w.Layout), Store: w.Store,
		Runtime: worker.Runtime{Registerer: w.metrics, Logger: slog.New(slog.DiscardHandler), Started: func() { close(started) }}, Grace: time.Second,
	})
	if err != nil {
		w.T.Fatal(err)
	}
	stop = workerstest.Run(w.T, worker.Run)
	<-started
	if _, err := again.NextMsg(30 * time.Second); err != nil {
		w.T.Fatalf("edges are not told that a worker has begun: %v", err)
	}
	return stop
}

// put writes a session's key as an edge does.
func (w *world) put(user, session string, status schemas.Status, ttl string) {
	w.T.Helper()
	value, err := json.Marshal(schemas.SessionPresence{Node: id(w.T, "edge-1"), Status: status})
	if err != nil {
		w.T.Fatal(err)
	}
	w.publish(user, session, nats.Header{jetstream.MsgTTLHeader: {ttl}}, value)
}

func (w *world) purge(user, session string) {
	w.T.Helper()
	w.publish(user, session, nats.Header{jetstream.MsgTTLHeader: {"5s"}, "KV-Operation": {"PURGE"}, "Nats-Rollup": {"sub"}}, nil)
}

func (w *world) publish(user, session string, header nats.Header, value []byte) {
	w.T.Helper()
	m := &nats.Msg{Subject: streams.SessionSubject(workerstest.User(user), id(w.T, session)), Header: header, Data: value}
	if err := w.Edge.PublishMsg(m); err != nil {
		w.T.Fatal(err)
	}
	if err := w.Edge.Flush(); err != nil {
		w.T.Fatal(err)
	}
}

// watch keeps changes of users for wantTold. In a cluster a subscription reaches the
// worker's server a moment after the edge's own, so watch probes the way between them.
func (w *world) watch(users ...string) {
	w.T.Helper()
	for _, user := range users {
		subject := streams.PresenceOf(workerstest.User(user))
		w.told[user] = w.Subscribe(subject)
		w.awaitProbe(subject, w.told[user])
	}
}

// awaitProbe returns once sub delivers what the worker publishes; no probe stays behind.
func (w *world) awaitProbe(subject string, sub *nats.Subscription) {
	w.T.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for i := 0; time.Now().Before(deadline); i++ {
		probe := fmt.Sprint("probe ", i)
		if err := w.NATS.Publish(subject, []byte(probe)); err != nil {
			w.T.Fatal(err)
		}
		for {
			msg, err := sub.NextMsg(100 * time.Millisecond)
			if err != nil {
				break // the next probe tries again
			}
			if string(msg.Data) == probe {
				return
			}
		}
	}
	w.T.Fatalf("the edge does not receive what the worker publishes on %s", subject)
}

func (w *world) wantTold(user string, status schemas.Status) schemas.PresenceChange {
	w.T.Helper()
	msg, err := w.told[user].NextMsg(60 * time.Second)
	if err != nil {
		w.T.Fatalf("nothing is told of %s: %v, want %s", user, err, status)
	}
	var change schemas.PresenceChange
	if err := json.Unmarshal(msg.Data, &change); err != nil || change.Status != status || change.AsOf.IsZero() || (status == schemas.Offline) == change.LastSeen.IsZero() {
		w.T.Fatalf("told of %s: %s, %v, want %s", user, msg.Data, err, status)
	}
	return change
}

// wantQuiet makes sure that no more was told of a user before what is told of another now.
func (w *world) wantQuiet(user string) {
	w.T.Helper()
	w.watch("someone-else")
	w.put("someone-else", "s", schemas.Online, "75s")
	w.wantTold("someone-else", schemas.Online)
	w.purge("someone-else", "s")
	w.wantTold("someone-else", schemas.Offline)
	if msg, err := w.told[user].NextMsg(0); err == nil {
		w.T.Errorf("told of %s: %s", user, msg.Data)
	}
}

func (w *world) query(users ...string) map[string]schemas.Presence {
	w.T.Helper()
	request := schemas.Users{}
	for _, user := range users {
		request.Users = append(request.Users, workerstest.User(user))
	}
	data, err := json.Marshal(request)
	if err != nil {
		w.T.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.T.Context(), 10*time.Second)
	defer cancel()
	reply, refused := streams.Ask(ctx, w.Edge, streams.PresenceSubject, data)
	if refused != nil {
		w.T.Fatal(refused)
	}
	var answer schemas.PresenceAnswer
	if err := json.Unmarshal(reply, &answer); err != nil || answer.AsOf.IsZero() {
		w.T.Fatalf("answered %s: %v", reply, err)
	}
	all := map[string]schemas.Presence{}
	for user, is := range answer.Users {
		all[user.String()] = is
	}
	return all
}

func (w *world) wantShown(user string, status schemas.Status) schemas.Presence {
	w.T.Helper()
	is := w.query(user)[user]
	if is.Status != status {
		w.T.Fatalf("%s is %v, want %s", user, is, status)
	}
	return is
}

func (w *world) count(name string) float64 {
	w.T.Helper()
	return workerstest.Metric(w.T, w.metrics, "parley_presence_"+name)
}

func id(t testing.TB, name string) schemas.ID {
	t.Helper()
	id, err := schemas.ParseID(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	for name, nodes := range map[string]int{"by one node": 1, "by a cluster": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testChanges(t, newWorld(t, streamstest.Options{Nodes: nodes}))
		})
	}
}

func testChanges(t *testing.T, w *world) {
	w.start()
	w.watch("ann")
	w.put("ann", "phone", schemas.Online, "75s")
	came := w.wantTold("ann", schemas.Online)
	w.put("ann", "laptop", schemas.Away, "75s")
	w.put("ann", "phone", schemas.Online, "75s") // a heartbeat
	w.wantQuiet("ann")
	w.purge("ann", "phone")
	w.wantTold("ann", schemas.Away)
	w.purge("ann", "laptop")
	went := w.wantTold("ann", schemas.Offline)
	if !went.LastSeen.After(came.AsOf) {
		t.Errorf("seen last at %s, came at %s", went.LastSeen, came.AsOf)
	}
	if is := w.wantShown("ann", schemas.Offline); !is.LastSeen.Equal(went.LastSeen) {
		t.Errorf("asked, last seen at %s, was told %s", is.LastSeen, went.LastSeen)
	}
	// Who becomes invisible goes; going itself then tells nothing.
	w.put("ann", "phone", schemas.Online, "75s")
	w.wantTold("ann", schemas.Online)
	w.put("ann", "phone", schemas.Invisible, "75s")
	went = w.wantTold("ann", schemas.Offline)
	w.purge("ann", "phone")
	w.wantQuiet("ann")
	if is := w.wantShown("ann", schemas.Offline); !is.LastSeen.Equal(went.LastSeen) {
		t.Errorf("last seen at %s, and invisible from %s on", is.LastSeen, went.LastSeen)
	}
	if is := w.query("nobody")["nobody"]; is != (schemas.Presence{Status: schemas.Offline}) {
		t.Errorf("nobody is %v", is)
	}
}

// TestLastSeenIsKept: the store has it when the worker has ended.
func TestLastSeenIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{})
	stop := w.start()
	w.watch("ann", "bea")
	w.put("ann", "phone", schemas.Online, "75s")
	w.put("bea", "phone", schemas.Online, "75s")
	w.wantTold("ann", schemas.Online)
	w.wantTold("bea", schemas.Online)
	w.purge("ann", "phone")
	went := w.wantTold("ann", schemas.Offline)
	stop()
	seen, err := w.Store.Seen(t.Context(), []schemas.User{workerstest.User("ann"), workerstest.User("bea")})
	if err != nil || !seen[workerstest.User("ann")].Equal(went.LastSeen) || seen[workerstest.User("bea")].IsZero() {
		t.Errorf("the store has %v, %v; ann was last seen at %s", seen, err, went.LastSeen)
	}
	w.start()
	if is := w.wantShown("ann", schemas.Offline); !is.LastSeen.Equal(went.LastSeen) {
		t.Errorf("after a restart ann was last seen at %s, want %s", is.LastSeen, went.LastSeen)
	}
}

// TestKilledEdgesUsersGo: nobody writes the keys again.
func TestKilledEdgesUsersGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Nodes: 3})
	w.start()
	w.watch("ann", "bea")
	w.put("ann", "phone", schemas.Online, "2s")
	w.put("bea", "phone", schemas.Online, "2s")
	w.put("bea", "laptop", schemas.Online, "75s")
	w.wantTold("ann", schemas.Online)
	w.wantTold("bea", schemas.Online)
	w.wantTold("ann", schemas.Offline)
	w.wantQuiet("bea")
}

// TestSweepRepairsWhatAnEventMissed: a key that goes without a word is missed when its
// time is over.
func TestSweepRepairsWhatAnEventMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Administrator: true})
	w.start()
	w.watch("ann")
	w.put("ann", "phone", schemas.Online, "3s")
	w.wantTold("ann", schemas.Online)
	stream, err := w.JetStream.Stream(t.Context(), streams.PresenceStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(streams.SessionSubject(workerstest.User("ann"), id(t, "phone")))); err != nil {
		t.Fatal(err)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 0 {
		t.Fatalf("the bucket has %+v, %v, want no marker", info, err)
	}
	w.wantTold("ann", schemas.Offline)
}

// TestWorkersAgree: each tells every change, as of the same time, so that an edge can
// drop one of two.
func TestWorkersAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{})
	w.start()
	w.start()
	w.watch("ann")
	w.put("ann", "phone", schemas.Online, "75s")
	if one, other := w.wantTold("ann", schemas.Online), w.wantTold("ann", schemas.Online); one != other {
		t.Errorf("two workers tell %+v and %+v", one, other)
	}
	w.purge("ann", "phone")
	if one, other := w.wantTold("ann", schemas.Offline), w.wantTold("ann", schemas.Offline); one != other {
		t.Errorf("two workers tell %+v and %+v", one, other)
	}
}

// TestRestartedWorkerKnowsWhoIsThere: what happened while there was none, edges are to
// ask for.
func TestRestartedWorkerKnowsWhoIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{})
	stop := w.start()
	w.put("ann", "phone", schemas.Online, "75s")
	w.put("bea", "phone", schemas.Online, "75s")
	w.put("bea", "laptop", schemas.Online, "75s")
	stop()
	w.purge("ann", "phone")
	w.put("cid", "phone", schemas.Away, "75s")
	w.watch("ann", "bea", "cid")
	w.start()
	for user, status := range map[string]schemas.Status{"ann": schemas.Offline, "bea": schemas.Online, "cid": schemas.Away} {
		w.wantShown(user, status)
		w.wantQuiet(user)
	}
	if n := w.count("sessions"); n != 3 {
		t.Errorf("%v sessions are known, want 3", n)
	}
	w.purge("bea", "phone") // just after the restart: the other session stays
	w.wantQuiet("bea")
	w.purge("bea", "laptop")
	w.wantTold("bea", schemas.Offline)
}

// TestBucketKeepsNothingOfClosedSessions: neither a key nor a marker, a few seconds later.
func TestBucketKeepsNothingOfClosedSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{})
	w.put("ann", "phone", schemas.Online, "75s")
	w.put("ann", "laptop", schemas.Online, "1s")
	w.purge("ann", "phone")
	stream, err := w.JetStream.Stream(t.Context(), streams.PresenceStream)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(60 * time.Second)
	for {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the bucket has %d messages", info.State.Msgs)
		}
		<-time.After(100 * time.Millisecond)
	}
}

func TestQueriesHaveBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{})
	w.start()
	for _, request := range []string{``, `{}`, `{"users":[]}`, `{"users":["a.b"]}`, `[]`} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if answer, refused := streams.Ask(ctx, w.Edge, streams.PresenceSubject, []byte(request)); refused == nil || refused.Code != schemas.Invalid {
			t.Errorf("%q is answered %s, %v", request, answer, refused)
		}
		cancel()
	}
}

// TestLostBucketIsMadeAgain: edges hear that they are to write all of it, and nobody goes
// whose key is written in time, whoever has made it anew.
func TestLostBucketIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, remake := range map[string]func(*world) error{
		"by this worker": func(*world) error { return nil },
		"by another one": func(w *world) error { return streams.ProvisionMemory(w.T.Context(), w.JetStream, w.Layout) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, streamstest.Options{Administrator: true})
			w.start()
			w.watch("ann", "bea")
			for _, user := range []string{"ann", "bea"} {
				w.put(user, "phone", schemas.Online, "3s")
				w.wantTold(user, schemas.Online)
			}
			again := w.Subscribe(streams.PresenceAgain)
			w.awaitProbe(streams.PresenceAgain, again)
			if err := w.JetStream.DeleteStream(t.Context(), streams.PresenceStream); err != nil {
				t.Fatal(err)
			}
			if err := remake(w); err != nil {
				t.Fatal(err)
			}
			if _, err := again.NextMsg(60 * time.Second); err != nil {
				t.Fatalf("edges are not told: %v", err)
			}
			w.put("ann", "phone", schemas.Online, "75s")
			w.wantTold("bea", schemas.Offline)
			w.wantQuiet("ann")
			w.wantShown("ann", schemas.Online)
		})
	}
}
