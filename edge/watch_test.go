package edge

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
)

// watchedUsers counts whom an edge has subscribed.
func watchedHere(e *testEdge) (n int) {
	for _, v := range e.lives {
		n += len(v.watched.names())
	}
	return n
}

func (c *client) wantPresence(ref uint64, want string) {
	c.t.Helper()
	var users map[schemas.User]schemas.Presence
	if err := json.Unmarshal([]byte(want), &users); err != nil {
		c.t.Fatal(err)
	}
	g := c.next()
	if g.T != "presence" || (g.Ref != nil) != (ref > 0) || g.Ref != nil && *g.Ref != ref || !maps.Equal(g.Users, users) {
		c.t.Fatalf("got %v, want %s", g, want)
	}
}

func TestWatchAnswersAndThenTellsChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.workers.show("bea", schemas.Online, false)
	ann, too := r.join(t, r.edge(), "ann"), r.join(t, r.edge(), "ann")
	ann.say(`{"t":"presence","ref":1,"users":["bea"]}`)
	ann.wantPresence(1, `{"bea":{"status":"online"}}`)
	ann.say(`{"t":"watch","ref":2,"users":["bea"]}`)
	ann.wantPresence(2, `{"bea":{"status":"online"}}`)
	too.say(`{"t":"watch","users":["bea"]}`)
	too.wantPresence(0, `{"bea":{"status":"online"}}`)

	r.workers.show("bea", schemas.Away, true)
	for _, c := range []*client{ann, too} {
		c.wantPresence(0, `{"bea":{"status":"away"}}`)
	}
	r.workers.tellPresence("bea", schemas.Away, r.workers.asOf)                     // a second worker tells the same
	r.workers.tellPresence("bea", schemas.Online, r.workers.asOf.Add(-time.Second)) // one that is behind
	ann.say(`{"t":"unwatch","ref":3,"users":["bea","nobody"]}`)
	if g := ann.next(); g.raw != `{"t":"done","ref":3}` {
		t.Errorf("got %v", g)
	}
	r.workers.show("bea", schemas.Offline, true)
	too.wantPresence(0, `{"bea":{"status":"offline"}}`)
	ann.quiet()
	too.hangUp()
	eventually(t, "nobody is watched", func() bool { return watchedHere(r.edge()) == 0 })
}

// TestMissedChangesAreAskedFor: after a worker has begun, and after NATS was away.
func TestMissedChangesAreAskedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	ann.say(`{"t":"watch","ref":1,"users":["bea","cid"]}`)
	ann.wantPresence(1, `{"bea":{"status":"offline"},"cid":{"status":"offline"}}`)
	r.workers.show("bea", schemas.Online, false)
	if err := r.workers.conn.Publish(streams.PresenceAgain, nil); err != nil {
		t.Fatal(err)
	}
	ann.wantPresence(0, `{"bea":{"status":"online"}}`)
	r.workers.show("cid", schemas.Away, false)
	r.edge().natsIsBack()
	for ann.next().T != "presence" { // a resync comes too
	}
	ann.barrier()
}

// TestChangeBeforeTheAnswerIsNotLost: what a worker tells while it answers a watch is
// in the answer or comes behind it.
func TestChangeBeforeTheAnswerIsNotLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	sub, err := r.workers.conn.Subscribe(streams.PresenceSubject, func(*nats.Msg) { // beside the one that answers
		r.workers.show("bea", schemas.Online, true)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.workers.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	ann.say(`{"t":"watch","ref":1,"users":["bea"]}`)
	for g := ann.next(); ; g = ann.next() {
		if g.T == "presence" && g.Users[testUser(t, "bea")].Status == schemas.Online {
			break
		}
	}
	_ = sub.Unsubscribe()
	if before := ann.barrier(); len(before) > 0 && !strings.Contains(before[len(before)-1].raw, "online") {
		t.Errorf("the last word is %v", before)
	}
}

func TestBlockedUsersLookOffline(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.workers.setBlocks("ann", "cid")
	for _, user := range []string{"bea", "cid"} {
		r.workers.show(user, schemas.Online, false)
	}
	ann := r.join(t, r.edge(), "ann")
	ann.say(`{"t":"watch","ref":1,"users":["bea","cid"]}`)
	ann.wantPresence(1, `{"bea":{"status":"online"},"cid":{"status":"offline"}}`)
	r.workers.show("cid", schemas.Away, true)
	r.workers.block("ann", "bea", "cid")
	ann.wantPresence(0, `{"bea":{"status":"offline"}}`)
	r.workers.block("ann")
	g := ann.next()
	if len(g.Users) == 1 { // of the two that are told apart
		g.Users[testUser(t, "cid")] = ann.next().Users[testUser(t, "cid")]
	}
	if g.Users[testUser(t, "bea")].Status != schemas.Online || g.Users[testUser(t, "cid")].Status != schemas.Away {
		t.Errorf("got %v", g.Users)
	}
	ann.quiet()
}

func TestWatchingIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	watch := func(ref, from, to int) got {
		t.Helper()
		var users []string
		for i := from; i < to; i++ {
			users = append(users, fmt.Sprintf(`"u%d"`, i))
		}
		ann.say(fmt.Sprintf(`{"t":"watch","ref":%d,"users":[%s]}`, ref, strings.Join(users, ",")))
		return ann.answer(uint64(ref))
	}
	if g := watch(1, 0, 400); len(g.Users) != 400 {
		t.Errorf("%d of 400 users are told", len(g.Users))
	}
	if g := watch(2, 399, 501); g.Code != schemas.Invalid {
		t.Errorf("got %v", g)
	}
	if g := watch(3, 300, 500); len(g.Users) != 200 {
		t.Errorf("%d of 200 users are told", len(g.Users))
	}
	if n := watchedHere(r.edge()); n != 500 {
		t.Errorf("%d users are watched", n)
	}
	ann.hangUp()
	eventually(t, "nobody is watched", func() bool { return watchedHere(r.edge()) == 0 })
}

// TestWatchWithoutAWorkerIsRefused, and leaves nothing behind.
func TestWatchWithoutAWorkerIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	r.workers.away(true)
	for ref, frame := range []string{`"t":"watch"`, `"t":"presence"`} {
		ann.say(fmt.Sprintf(`{%s,"ref":%d,"users":["bea"]}`, frame, ref))
		if g := ann.answer(uint64(ref)); g.Code != schemas.Unavailable || g.RetryAfter <= 0 {
			t.Errorf("got %v", g)
		}
	}
	if n := watchedHere(r.edge()); n != 0 {
		t.Errorf("%d users are watched", n)
	}
}

// keys returns what is written into the bucket from now on.
func (r *rig) keys(t testing.TB) (next func() *nats.Msg) {
	t.Helper()
	msgs := r.listen(t, "$KV.presence.>")
	return func() *nats.Msg {
		t.Helper()
		select {
		case m := <-msgs:
			return m
		case <-time.After(failAfter):
			t.Fatal("no key is written")
		}
		return nil
	}
}

func TestSessionsGoAway(t *testing.T) {
	t.Parallel()
	const awayAfter = 70 * time.Second // it is silent after 75
	r := newRig(t, func(cfg *Config) { cfg.AwayAfter = awayAfter })
	next := r.keys(t)
	ann := r.join(t, r.edge(), "ann")
	wantStatus := func(status string) {
		t.Helper()
		for {
			m := next()
			if strings.Contains(string(m.Data), `"status"`) == (status != "") && strings.Contains(string(m.Data), status) {
				return
			}
		}
	}
	wantStatus("")
	r.clock.advance(awayAfter / 2)
	ann.barrier() // its ping is a sign of life, and no more
	r.clock.advance(awayAfter / 2)
	ann.barrier()
	wantStatus(`"away"`)
	ann.say(`{"t":"presence","users":["bea"]}`)
	wantStatus("")
	r.workers.setPrivacy("ann", false, schemas.Away)
	wantStatus(`"away"`)
	r.workers.setPrivacy("ann", false, schemas.Invisible)
	wantStatus(`"invisible"`)
	too := r.join(t, r.edge(), "ann")
	wantStatus(`"invisible"`)
	too.hangUp()
	for next().Header.Get("KV-Operation") != "PURGE" {
	}
	r.workers.setPrivacy("ann", false, schemas.Online)
	wantStatus("")
}

// TestDrainedSessionsAreShownForAWhile, so that nobody flickers who comes back elsewhere.
func TestDrainedSessionsAreShownForAWhile(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ann := r.join(t, r.edge(), "ann")
	next := r.keys(t)
	r.edge().Stop(t)
	ann.closedWith(schemas.CloseDraining)
	for {
		m := next()
		if m.Header.Get("KV-Operation") != "" {
			t.Fatalf("a drained session is purged: %v", m.Header)
		}
		if m.Header.Get("Nats-TTL") == returnWithin.String() {
			return
		}
	}
}

// TestKeysAreWrittenAgainWhenNATSIsBack: they may have ended meanwhile.
func TestKeysAreWrittenAgainWhenNATSIsBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, user := range []string{"ann", "bea", "cid"} {
		r.join(t, r.edge(), user)
	}
	next := r.keys(t)
	r.edge().natsIsBack()
	written := map[string]bool{}
	for len(written) < 3 {
		written[next().Subject] = true
	}
}

func TestWatchedUsersOfANodeAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.edge().watches.count.Store(watchedMax - 1)
	ann := r.join(t, r.edge(), "ann")
	for ref, want := range []schemas.Code{schemas.Overloaded, "", schemas.Overloaded} {
		users := []string{`"bea","cid"`, `"bea"`, `"cid"`}[ref]
		ann.say(fmt.Sprintf(`{"t":"watch","ref":%d,"users":[%s]}`, ref, users))
		if g := ann.answer(uint64(ref)); g.Code != want {
			t.Errorf("%s: got %v, want %q", users, g, want)
		}
	}
	ann.hangUp()
	eventually(t, "nobody is watched", func() bool { return watchedHere(r.edge()) == 0 })
	if n := r.edge().watches.count.Load(); n != watchedMax-1 {
		t.Errorf("%d places are taken", n)
	}
}
