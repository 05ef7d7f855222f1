package presence

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/workerstest"
)

// newStill is a worker that does nothing by itself, on a bucket of its own.
func newStill(t *testing.T) (w *Worker, put func(user, session string)) {
	t.Helper()
	env := streamstest.Start(t, streamstest.Options{NoSync: true})
	w, err := New(Config{Conn: env.NATS, JetStream: env.JetStream, Log: streams.NewLog(env.JetStream, env.Layout), Store: workerstest.OpenStore(t)})
	if err != nil {
		t.Fatal(err)
	}
	close(w.watching)
	edge := env.Connect(t, streams.EdgeComponent)
	return w, func(user, session string) {
		t.Helper()
		m := &nats.Msg{
			Subject: streams.SessionSubject(testUser(user), testID(session)), Data: []byte(`{"node":"edge-1"}`),
			Header: nats.Header{jetstream.MsgTTLHeader: {"75s"}},
		}
		if _, err := edge.RequestMsg(m, 10*time.Second); err != nil { // its ack
			t.Fatal(err)
		}
	}
}

func (w *Worker) status(user string) schemas.Status {
	shown, _ := w.roster.shown([]schemas.User{testUser(user)})
	return shown[testUser(user)].Status
}

// TestBucketIsAskedBeforeAUserGoes: a session of which the watch knows nothing keeps
// its user online, and who has none goes.
func TestBucketIsAskedBeforeAUserGoes(t *testing.T) {
	t.Parallel()
	w, put := newStill(t)
	now := time.Now()
	for _, user := range []string{"ann", "bea"} {
		w.put(streams.SessionKey{User: testUser(user), Session: testID("known"), Status: schemas.Online, Stored: now, TTL: time.Minute})
		if _, _, last := w.roster.end(testUser(user), testID("known"), now); !last {
			t.Fatalf("the only session of %s was not its last", user)
		}
		w.ended[testUser(user)] = now
	}
	put("ann", "missed")
	w.confirmEnded(t.Context())
	if ann, bea := w.status("ann"), w.status("bea"); ann != schemas.Online || bea != schemas.Offline {
		t.Errorf("ann is %s, bea is %s", ann, bea)
	}
	// What was found so is looked for again soon, and counts then.
	if due := w.roster.due(time.Now().Add(2 * doubtFor)); len(due) != 1 {
		t.Errorf("%d are due, want ann", len(due))
	}
	if len(w.ended) != 0 {
		t.Errorf("%d are still to be confirmed", len(w.ended))
	}
}

// TestNobodyLapsesWithinTheGrace after an interruption, and whose key is there again not
// after it either.
func TestNobodyLapsesWithinTheGrace(t *testing.T) {
	t.Parallel()
	w, put := newStill(t)
	now := time.Now()
	w.cfg.Now = func() time.Time { return now }
	for i := range 3 {
		w.put(streams.SessionKey{User: testUser(fmt.Sprintf("u%d", i)), Session: testID("s"), Status: schemas.Online, Stored: now, TTL: time.Second})
	}
	w.graceUntil = now.Add(10 * time.Second)
	now = now.Add(9 * time.Second)
	w.lookForDue(t.Context())
	put("u1", "s")
	now = now.Add(2 * time.Second)
	if w.status("u0") != schemas.Online {
		t.Error("u0 went within the grace")
	}
	w.lookForDue(t.Context())
	w.confirmEnded(t.Context())
	for user, want := range map[string]schemas.Status{"u0": schemas.Offline, "u1": schemas.Online, "u2": schemas.Offline} {
		if is := w.status(user); is != want {
			t.Errorf("%s is %s, want %s", user, is, want)
		}
	}
	if sessions, users := w.roster.size(); sessions != 1 || users != 1 {
		t.Errorf("%d sessions of %d users are known", sessions, users)
	}
}

// TestManySessionsAreFound: NATS answers with no more than 1,024 keys at once.
func TestManySessionsAreFound(t *testing.T) {
	t.Parallel()
	w, put := newStill(t)
	now := time.Now()
	for i := range 2000 { // of one user
		put("crowd", fmt.Sprintf("s%d", i))
	}
	users := []string{"crowd"}
	for i := range 80 { // more together than one answer holds
		users = append(users, fmt.Sprintf("u%d", i))
		for j := range 20 {
			put(users[len(users)-1], fmt.Sprintf("s%d", j))
		}
	}
	users = append(users, "gone")
	for _, user := range users {
		w.put(streams.SessionKey{User: testUser(user), Session: testID("known"), Status: schemas.Online, Stored: now, TTL: time.Second})
		w.end(streams.SessionKey{User: testUser(user), Session: testID("known"), Stored: now})
	}
	w.confirmEnded(t.Context())
	if n := len(w.ended); n != 0 {
		t.Fatalf("%d are still to be confirmed", n)
	}
	for _, user := range users {
		if is := w.status(user); (is == schemas.Online) == (user == "gone") {
			t.Errorf("%s is %s", user, is)
		}
	}
	// All of them are looked for again, and each key is found.
	before, _ := w.roster.size()
	w.cfg.Now = func() time.Time { return now.Add(30 * time.Second) }
	w.lookForDue(t.Context())
	if after, _ := w.roster.size(); after != before || before < 80*20+streams.MultiLastMax {
		t.Errorf("%d sessions are known, %d were before", after, before)
	}
}
