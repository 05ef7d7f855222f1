package chats_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/schemas"
	"parley/streams"
	"parley/workers/chats"
	"parley/workers/workerstest"
)

// atOnce runs all of asks at the same time.
func atOnce(asks ...func()) {
	var all sync.WaitGroup
	barrier := make(chan struct{})
	for _, ask := range asks {
		all.Go(func() { <-barrier; ask() })
	}
	close(barrier)
	all.Wait()
}

// TestOfTwoContradictingChangesOneWins: an owner makes an admin the owner and removes
// it at once, on two services. (Two admins cannot remove each other.)
func TestOfTwoContradictingChangesOneWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	w.serve(nil)
	const rounds = 60
	both, neither, first := 0, 0, 0
	for i := range rounds {
		id := fmt.Sprintf("g%d", i)
		chat := w.create(id, "olga", "ada")
		w.done(schemas.TRole, "olga", `"chat":%q,"user":"ada","role":"admin"`, chat)
		var hand, remove reply
		atOnce(
			func() { hand = w.ask(schemas.TRole, "olga", `"chat":%q,"user":"ada","role":"owner"`, chat) },
			func() { remove = w.ask(schemas.TRemove, "olga", `"chat":%q,"users":["ada"]`, chat) },
		)
		handed, removed := hand.Code == "", remove.Code == ""
		switch roles := w.standing(chat); {
		case handed && removed:
			both++
		case !handed && !removed:
			neither++
			t.Errorf("round %d: handing over got %s, removing %s", i, hand.Code, remove.Code)
		case handed && (remove.Code != schemas.Forbidden || roles["ada"] != schemas.Owner || roles["olga"] != schemas.Admin):
			t.Errorf("round %d: handed over, removing got %s, and the group is %v", i, remove.Code, roles)
		case removed && (hand.Code != schemas.Invalid || roles["ada"] != "" || roles["olga"] != schemas.Owner):
			t.Errorf("round %d: removed, handing over got %s, and the group is %v", i, hand.Code, roles)
		case handed:
			first++
		}
	}
	if both > 0 {
		t.Errorf("both of two contradicting changes won %d times", both)
	}
	t.Logf("%d rounds: the hand-over won %d, the removal %d, both %d, neither %d", rounds, first, rounds-first, both, neither)
}

func TestOfCreatorsOneWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	w.serve(nil)
	const rounds = 30
	for i := range rounds {
		replies := make([]reply, 8)
		asks := make([]func(), len(replies))
		for j := range asks {
			by := []string{"alice", "bob"}[j%2]
			asks[j] = func() {
				replies[j] = w.ask(schemas.TCreate, by, `"id":"g%d","name":"of %s","members":["carol"]`, i, by)
			}
		}
		atOnce(asks...)
		chat := w.chat(fmt.Sprintf("group.g%d", i))
		events := w.timeline(chat)
		if len(events) != 1 {
			t.Fatalf("round %d: the log has %d events", i, len(events))
		}
		ev, err := schemas.DecodeEvent(events[0].JSON)
		if err != nil {
			t.Fatal(err)
		}
		for j, r := range replies {
			by := []string{"alice", "bob"}[j%2]
			if by == ev.From.String() && (r.Code != "" || r.Seq != events[0].Seq || r.Chat != chat) || by != ev.From.String() && r.Code != schemas.Conflict {
				t.Errorf("round %d: %s made it, and %s got %q, seq %d of %s", i, ev.From, by, r.Code, r.Seq, r.Chat)
			}
		}
	}
	t.Logf("%d rounds of 8 creators", rounds)
}

// TestChangesOfABusyGroup changes a group through three services while others talk
// in it: every event in the log is valid in its turn, every answer names its event,
// and all services end with what the log and the store have.
func TestChangesOfABusyGroup(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			testBusyGroup(t, newWorldOn(t, nodes))
		})
	}
}

func testBusyGroup(t *testing.T, w *world) {
	registry := prometheus.NewRegistry()
	w.serve(func(cfg *chats.Config) { cfg.Registerer = registry })
	w.serve(nil)
	w.serve(nil)
	people := []string{"ada", "abe", "max", "mia", "tom", "zoe"}
	chat := w.create("busy", "olga", append([]string{"wim"}, people...)...)
	begun := w.done(schemas.TRole, "olga", `"chat":%q,"user":"wim","role":"owner"`, chat).Seq

	ctx, quiet := context.WithCancel(t.Context())
	var talking sync.WaitGroup
	var said int
	talking.Go(func() { said = w.talk(ctx, chat) })
	answers := changeAnswers{seqs: make(map[uint64]int)}
	var asks []func()
	for i := range 6 {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		asks = append(asks, func() {
			for range 150 {
				answers.count(t, w.randomChange(random, chat, people))
			}
		})
	}
	atOnce(asks...)
	quiet()
	talking.Wait()

	changes := w.checkTimeline(chat)
	answers.check(t, begun, changes)
	w.checkMembers(chat)
	t.Logf("%d messages between %d changes: %d answers done, %d refused, %d gave up, %d got none; one service tried again %.0f times",
		said, len(changes), answers.done, answers.refused, answers.conflicts, answers.unknown, workerstest.Metric(t, registry, "parley_chats_conflicts_total"))
}

// talk publishes messages of olga until ctx ends, and returns how many the log stored.
func (w *world) talk(ctx context.Context, chat schemas.Chat) (said int) {
	for i := 0; ctx.Err() == nil; i++ {
		data := fmt.Sprintf(`{"type":"message","id":"t%d","from":"olga","body":{"kind":"text","text":"x"}}`, i)
		if _, err := w.EdgeJS.Publish(ctx, w.Layout.Shard(chat).Timeline(chat), []byte(data)); err == nil {
			said++
		}
		select {
		case <-time.After(3 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return said
}

// changeAnswers counts the answers to requests for changes of a group.
type changeAnswers struct {
	mu                                sync.Mutex
	done, refused, conflicts, unknown int            // guarded by mu
	seqs                              map[uint64]int // guarded by mu: answers that name a seq
}

func (c *changeAnswers) count(t *testing.T, r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.Code {
	case "":
		c.done++
		c.seqs[r.Seq]++
	case schemas.Conflict:
		c.conflicts++
	case schemas.Unavailable: // on a slow machine a stream has no leader for a while
		c.unknown++
	case schemas.Forbidden, schemas.Invalid, schemas.NotMember:
		c.refused++
	default:
		t.Errorf("a change got %s", r.Code)
	}
}

// check compares the answers with the changes in the log after begun.
func (c *changeAnswers) check(t *testing.T, begun uint64, changes map[uint64]struct{}) {
	t.Helper()
	unanswered := 0
	for seq := range changes {
		if _, answered := c.seqs[seq]; !answered && seq > begun {
			unanswered++
		}
	}
	if unanswered > c.unknown {
		t.Errorf("no answer named %d changes in the log, and %d requests got no answer", unanswered, c.unknown)
	}
	if len(changes) < 100 {
		t.Errorf("only %d changes were made", len(changes))
	}
	if lost := c.conflicts + c.unknown; lost > c.done/4 {
		t.Errorf("%d changes gave up, %d got no answer", c.conflicts, c.unknown)
	}
}

// checkMembers checks that all services and the store have the members that the log has.
func (w *world) checkMembers(chat schemas.Chat) {
	w.T.Helper()
	want := w.standing(chat)
	owner := ""
	for name, role := range want {
		if role == schemas.Owner {
			owner = name
		}
	}
	for range 10 { // any of the services answers
		got := make(map[string]schemas.Role)
		for _, m := range w.members(chat, owner, 3) {
			got[m.User.String()] = m.Role
		}
		if !maps.Equal(got, want) {
			w.T.Errorf("a service has %v, the log %v", got, want)
		}
	}
	w.PersistAll()
	rows, err := w.Store.Members(w.T.Context(), chat, schemas.User{}, 100)
	if err != nil {
		w.T.Fatal(err)
	}
	stored := make(map[string]schemas.Role)
	for _, row := range rows {
		if row.Role.In() {
			stored[row.User.String()] = row.Role
		}
	}
	if !maps.Equal(stored, want) {
		w.T.Errorf("the store has %v, the log %v", stored, want)
	}
}

// randomChange asks for a change, often by wim, who stays and stays the owner, so
// that there is always somebody who adds the others.
func (w *world) randomChange(random *rand.Rand, chat schemas.Chat, people []string) reply {
	everybody := append([]string{"olga"}, people...)
	by, user := everybody[random.IntN(len(everybody))], everybody[random.IntN(len(everybody))]
	kind := random.IntN(8)
	if random.IntN(2) == 0 {
		by, kind = "wim", random.IntN(6)
	}
	switch kind {
	case 0, 1, 2:
		return w.ask(schemas.TAdd, by, `"chat":%q,"users":[%q]`, chat, user)
	case 3, 4:
		return w.ask(schemas.TRemove, by, `"chat":%q,"users":[%q]`, chat, user)
	case 5:
		role := []schemas.Role{schemas.Admin, schemas.Admin, schemas.Member}[random.IntN(3)]
		return w.ask(schemas.TRole, by, `"chat":%q,"user":%q,"role":%q`, chat, user, role)
	case 6:
		return w.ask(schemas.TRename, by, `"chat":%q,"name":"%d"`, chat, random.IntN(3))
	default:
		return w.ask(schemas.TLeave, by, `"chat":%q`, chat)
	}
}

// checkTimeline checks that every change in a group's log was allowed when it
// came, and returns the seqs of all.
func (w *world) checkTimeline(chat schemas.Chat) map[uint64]struct{} {
	w.T.Helper()
	roles := make(map[string]schemas.Role)
	changes := make(map[uint64]struct{})
	for _, stored := range w.timeline(chat) {
		ev, err := schemas.DecodeEvent(stored.JSON)
		if err != nil {
			w.T.Fatal(err)
		}
		if ev.Type == schemas.Message {
			continue
		}
		changes[stored.Seq] = struct{}{}
		if fault := faultOf(ev, roles); fault != "" {
			w.T.Errorf("event %d, %s: %s in %v", stored.Seq, stored.JSON, fault, roles)
		}
		for user, role := range ev.Roles() {
			roles[user.String()] = role
		}
		owners, in := 0, uint64(0)
		for _, role := range roles {
			if role == schemas.Owner {
				owners++
			}
			if role.In() {
				in++
			}
		}
		if owners != 1 || ev.Count != in {
			w.T.Errorf("after event %d, %s: %d owners, %d members in %v", stored.Seq, stored.JSON, owners, in, roles)
		}
	}
	return changes
}

// faultOf says why an event was not allowed in a group with such roles.
func faultOf(ev *schemas.Event, roles map[string]schemas.Role) string {
	by := roles[ev.From.String()]
	if ev.Change == schemas.Created {
		if len(roles) > 0 {
			return "it was there before"
		}
		return ""
	}
	if !by.In() {
		return "who did it was not in the group"
	}
	for _, user := range ev.Users {
		role := roles[user.String()]
		switch {
		case ev.Change == schemas.Added && (role.In() || !by.Administers()):
			return "added who was in, or by a member"
		case ev.Change == schemas.Removed && (!role.In() || !by.Administers() || role.Administers() && by != schemas.Owner || user == ev.From):
			return "removed who was not in, or by who may not"
		case ev.Change == schemas.HasLeft && (user != ev.From || by == schemas.Owner && ev.Owner == nil):
			return "left another, or the group without an owner"
		case ev.Change == schemas.RoleChanged && (by != schemas.Owner || !role.In() || role == ev.Role || user == ev.From):
			return "a role that was there, or by who may not"
		}
	}
	if ev.Change == schemas.Renamed && !by.Administers() {
		return "renamed by a member"
	}
	return ""
}

// stubPublisher answers every publication alike.
type stubPublisher struct {
	err   error
	calls atomic.Int64
}

func (p *stubPublisher) Publish(_ context.Context, pub streams.Publication) {
	p.calls.Add(1)
	pub.Done(streams.PubAck{}, p.err)
}

func TestWhatTheLogRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err   error
		want  schemas.Code
		calls int64
	}{
		{streams.ErrConflict, schemas.Conflict, 10},
		{streams.ErrLogFull, schemas.Overloaded, 1},
		{streams.ErrNotStored, schemas.Unavailable, 1},
		{errors.New("something else"), schemas.Unavailable, 1},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			publisher := &stubPublisher{err: c.err}
			w.serve(func(cfg *chats.Config) { cfg.Publisher = publisher })
			if r := w.ask(schemas.TCreate, "alice", `"id":"g","name":"g"`); r.Code != c.want {
				t.Errorf("got %q, want %s", r.Code, c.want)
			}
			if calls := publisher.calls.Load(); calls != c.calls {
				t.Errorf("published %d times, want %d", calls, c.calls)
			}
			if chat := w.chat("group.g"); len(w.timeline(chat)) > 0 || !slices.Equal(w.members(w.chat("direct.alice.bob"), "alice", 5), []schemas.ChatMember{
				{User: w.user("alice"), Role: schemas.Member}, {User: w.user("bob"), Role: schemas.Member},
			}) {
				t.Error("the log has the group all the same, or the service serves no more")
			}
		})
	}
}

// silentPublisher has the log store what is published, and tells nobody.
type silentPublisher struct{ chats.Publisher }

func (p silentPublisher) Publish(ctx context.Context, pub streams.Publication) {
	done := pub.Done
	pub.Done = func(_ streams.PubAck, err error) {
		if err == nil {
			err = streams.ErrNotStored
		}
		done(streams.PubAck{}, err)
	}
	p.Publisher.Publish(ctx, pub)
}

// TestAWorkerDiesAfterPublishing: who got no answer asks another worker, and finds
// it done, once.
func TestAWorkerDiesAfterPublishing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dying := func() (stop func()) {
		return w.serve(func(cfg *chats.Config) { cfg.Publisher = silentPublisher{cfg.Publisher} })
	}
	for i, step := range []struct {
		t           schemas.Type
		by, members string
		again       schemas.Code
	}{
		{schemas.TCreate, "olga", `"id":"g","name":"g","members":["ada"]`, ""},
		{schemas.TAdd, "olga", `"chat":"group.g","users":["bob","carol"]`, ""},
		{schemas.TRole, "olga", `"chat":"group.g","user":"bob","role":"admin"`, ""},
		{schemas.TRename, "bob", `"chat":"group.g","name":"G"`, ""},
		{schemas.TRemove, "bob", `"chat":"group.g","users":["carol"]`, ""},
		{schemas.TRole, "olga", `"chat":"group.g","user":"ada","role":"owner"`, schemas.Forbidden}, // it owns the group no more
		{schemas.TLeave, "bob", `"chat":"group.g"`, schemas.NotMember},
	} {
		stop := dying()
		if r := w.ask(step.t, step.by, "%s", step.members); r.Code != schemas.Unavailable {
			t.Errorf("%s: the dying worker answers %q", step.t, r.Code)
		}
		stop()
		stop = w.serve(nil)
		events := w.timeline(w.chat("group.g"))
		r := w.ask(step.t, step.by, "%s", step.members)
		stop()
		if now := w.timeline(w.chat("group.g")); len(now) != i+1 || len(events) != i+1 {
			t.Fatalf("%s: the log has %d events, and %d after the second try", step.t, len(events), len(now))
		}
		if r.Code != step.again || r.Code == "" && r.Seq != events[i].Seq {
			t.Errorf("%s: the second try got %q and seq %d, want %q, %d", step.t, r.Code, r.Seq, step.again, events[i].Seq)
		}
	}
}

func (w *world) user(name string) schemas.User {
	w.T.Helper()
	user, err := schemas.ParseUser(name)
	if err != nil {
		w.T.Fatal(err)
	}
	return user
}
