package chats_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"parley/schemas"
	"parley/streams"
	"parley/workers/chats"
	"parley/workers/store"
)

func TestTheSameCreateIsTheSameGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.serve(nil)
	made := w.done(schemas.TCreate, "alice", `"id":"g","name":"First","members":["bob","alice","bob"],"history":"all"`)
	chat := made.Chat
	check := func(when string) {
		t.Helper()
		if again := w.done(schemas.TCreate, "alice", `"id":"g","name":"Second","members":["carol"]`); again.Seq != made.Seq || again.Chat != chat {
			t.Errorf("%s: the same create is %d of %s, want %d", when, again.Seq, again.Chat, made.Seq)
		}
		for _, by := range []string{"bob", "carol"} { // a member, and a stranger
			if r := w.ask(schemas.TCreate, by, `"id":"g","name":"Mine"`); r.Code != schemas.Conflict {
				t.Errorf("%s: the create of %s: %q", when, by, r.Code)
			}
		}
		if len(w.members(chat, "bob", 10)) != 2 {
			t.Errorf("%s: the members are %v", when, w.members(chat, "bob", 10))
		}
	}
	check("at once")
	events := w.timeline(chat)
	if len(events) != 1 {
		t.Fatalf("the log has %d events", len(events))
	}
	ev, err := schemas.DecodeEvent(events[0].JSON)
	if err != nil || ev.Name != "First" || ev.History != schemas.HistoryAll || ev.Count != 2 || len(ev.Members) != 1 || ev.From != w.user("alice") {
		t.Errorf("the log has %s (%v)", events[0].JSON, err)
	}
	w.say(chat, "bob", "hi")
	check("with a message behind it")
	w.PersistAll()
	check("stored")
	w.expire()
	check("expired from the log")
	stop()
	w.serve(nil)
	check("expired, for a new service")
	if got := w.timeline(chat); len(got) != 0 {
		t.Errorf("the log has %d events of a group that was there", len(got))
	}
}

// TestColdStart: a service that starts when the log has expired knows what the
// store does, and folds what comes then.
func TestColdStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.serve(nil)
	chat := w.create("g", "olga", "ada", "max", "lee")
	w.done(schemas.TRole, "olga", `"chat":%q,"user":"ada","role":"admin"`, chat)
	last := w.done(schemas.TRemove, "ada", `"chat":%q,"users":["lee"]`, chat).Seq
	w.PersistAll()
	w.expire()
	stop()
	stop = w.serve(nil)
	if r := w.done(schemas.TRemove, "ada", `"chat":%q,"users":["lee"]`, chat); r.Seq != last {
		t.Errorf("what is so already is done by %d, want %d", r.Seq, last)
	}
	if r := w.ask(schemas.TAdd, "max", `"chat":%q,"users":["lee"]`, chat); r.Code != schemas.Forbidden {
		t.Errorf("a member adds: %q", r.Code)
	}
	back := w.done(schemas.TAdd, "ada", `"chat":%q,"users":["lee"]`, chat).Seq
	stop()
	w.serve(nil) // part of the group is in the store, part in the log
	want := []string{"ada admin", "lee member", "max member", "olga owner"}
	var got []string
	for _, m := range w.members(chat, "lee", 2) {
		got = append(got, m.User.String()+" "+string(m.Role))
		if m.User.String() == "lee" && m.Since != back {
			t.Errorf("lee is in since %d, want %d", m.Since, back)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w.done(schemas.TLeave, "olga", `"chat":%q`, chat)
	if roles := w.standing(chat); roles["ada"] != schemas.Owner {
		t.Errorf("the group is %v", roles)
	}
}

// movingLog is a log whose streams are laid anew while a service uses it.
type movingLog struct{ atomic.Pointer[streams.Log] }

func (l *movingLog) Layout() streams.Layout { return l.Load().Layout() }
func (l *movingLog) Last(ctx context.Context, chat schemas.Chat) (uint64, bool, error) {
	return l.Load().Last(ctx, chat)
}
func (l *movingLog) LastEvents(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]schemas.StoredEvent, error) {
	return l.Load().LastEvents(ctx, chats)
}
func (l *movingLog) After(ctx context.Context, chat schemas.Chat, after uint64, limit, bytesMax int) ([]schemas.StoredEvent, bool, error) {
	return l.Load().After(ctx, chat, after, limit, bytesMax)
}
func (l *movingLog) Sequence(ctx context.Context, shard streams.Shard, seq uint64) (*jetstream.RawStreamMsg, error) {
	return l.Load().Sequence(ctx, shard, seq)
}

// TestALostShardTakesItsChangesAlong: what was lost with a shard's stream and was
// not stored has not happened, also for a service that knew of it.
func TestALostShardTakesItsChangesAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var log movingLog
	log.Store(w.Log())
	w.serve(func(cfg *chats.Config) { cfg.Log = &log })
	chat := w.create("g", "olga", "bob")
	w.PersistAll()
	w.done(schemas.TAdd, "olga", `"chat":%q,"users":["carol"]`, chat)
	w.Lose(w.Layout.Shard(chat))
	log.Store(w.Log())
	if members := w.members(chat, "bob", 10); len(members) != 2 {
		t.Errorf("the members are %+v", members)
	}
	again := w.done(schemas.TAdd, "olga", `"chat":%q,"users":["carol"]`, chat).Seq
	if events := w.timeline(chat); len(events) != 1 || events[0].Seq != again {
		t.Errorf("the log has %d events, and carol is in by %d", len(events), again)
	}
}

// TestTheOwnerIsFollowed by an admin, then by a member; the last one to leave hands
// over to nobody, and nobody comes in again.
func TestTheOwnerIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	chat := w.create("g", "olga", "zoe")
	w.done(schemas.TAdd, "olga", `"chat":%q,"users":["ben"]`, chat)
	w.done(schemas.TAdd, "olga", `"chat":%q,"users":["abe","ada"]`, chat)
	w.done(schemas.TRole, "olga", `"chat":%q,"user":"ada","role":"admin"`, chat)
	w.done(schemas.TRole, "olga", `"chat":%q,"user":"ben","role":"admin"`, chat)
	for _, step := range []struct{ leaves, next string }{
		{"olga", "ben"}, // an admin, in longer than ada though an admin later
		{"ben", "ada"},  // the admin that is left
		{"ada", "zoe"},  // in longest of the members
		{"zoe", "abe"},
	} {
		w.done(schemas.TLeave, step.leaves, `"chat":%q`, chat)
		roles := w.standing(chat)
		if roles[step.next] != schemas.Owner || roles[step.leaves] != "" {
			t.Errorf("%s has left, and the group is %v: want %s the owner", step.leaves, roles, step.next)
		}
	}
	w.done(schemas.TLeave, "abe", `"chat":%q`, chat)
	if roles := w.standing(chat); len(roles) > 0 {
		t.Errorf("all have left, and the group is %v", roles)
	}
	for _, by := range []string{"abe", "olga"} {
		if r := w.ask(schemas.TAdd, by, `"chat":%q,"users":["olga"]`, chat); r.Code != schemas.NotMember {
			t.Errorf("%s adds to a group without members: %q", by, r.Code)
		}
	}
	w.checkTimelineButEnd(chat)
}

// checkTimelineButEnd checks a group's timeline whose last event leaves nobody.
func (w *world) checkTimelineButEnd(chat schemas.Chat) {
	w.T.Helper()
	events := w.timeline(chat)
	ev, err := schemas.DecodeEvent(events[len(events)-1].JSON)
	if err != nil || ev.Count != 0 || ev.Owner != nil {
		w.T.Errorf("the last to leave: %s (%v)", events[len(events)-1].JSON, err)
	}
}

func TestMembersByPages(t *testing.T) {
	t.Parallel()
	var clock clock
	w := newWorld(t)
	w.serve(func(cfg *chats.Config) { cfg.Now = clock.now })
	var names []string
	for i := range 57 {
		names = append(names, fmt.Sprintf("u%02d", i))
	}
	chat := w.create("g", "olga", names...)
	w.done(schemas.TRemove, "olga", `"chat":%q,"users":["u00","u07","u56"]`, chat)
	want := append(slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return name == "u00" || name == "u07" || name == "u56"
	}), "olga")
	slices.Sort(want)
	for _, limit := range []int{1, 7, 55, 200} {
		var got []string
		for _, m := range w.members(chat, "u01", limit) {
			got = append(got, m.User.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	w.done(schemas.TAdd, "olga", `"chat":%q,"users":["u00"]`, chat)
	if all := w.members(chat, "olga", 1000); len(all) != len(want)+1 || all[1].User != w.user("u00") {
		t.Errorf("u00, who was added since, is not the second of %d", len(all))
	}
	cursor := w.done(schemas.TMembers, "olga", `"chat":%q,"limit":3`, chat).Cursor
	clock.advance(schemas.CursorFor - 10*time.Second)
	if r := w.ask(schemas.TMembers, "olga", `"chat":%q,"limit":3,"cursor":%q`, chat, cursor); r.Code != "" || len(r.Members) != 3 {
		t.Errorf("a cursor in its last seconds: %+v", r)
	}
	clock.advance(11 * time.Second)
	for _, old := range []string{cursor, cursor[1:], cursor + "x", strings.Repeat("A", 256)} {
		if r := w.ask(schemas.TMembers, "olga", `"chat":%q,"limit":3,"cursor":%q`, chat, old); r.Code != schemas.Invalid {
			t.Errorf("cursor %.40s, too old or none: %q", old, r.Code)
		}
	}
	if direct := w.members(w.chat("direct.bob.bob"), "bob", 5); len(direct) != 1 || direct[0].User != w.user("bob") {
		t.Errorf("notes to oneself are of %v", direct)
	}
}

// wantHeard begins to listen to the personal events of everybody; want wants exactly
// these lines since it was called last.
func (w *world) wantHeard() (want func(when string, lines ...string)) {
	heard := w.listen()
	return func(when string, lines ...string) {
		w.T.Helper()
		slices.Sort(lines)
		if diff := cmp.Diff(lines, heard()); diff != "" {
			w.T.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
}

func TestUsersAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	want := w.wantHeard()
	made := w.done(schemas.TCreate, "alice", `"id":"g","name":"g","members":["bob"]`)
	added := func(user, role string, seq uint64) string {
		return fmt.Sprintf(`%s {"t":"chat","chat":"group.g","change":"added","seq":%d,"role":%q,"from":%d}`, user, seq, role, seq)
	}
	want("created", added("alice", "owner", made.Seq), added("bob", "member", made.Seq))
	more := w.done(schemas.TAdd, "alice", `"chat":"group.g","users":["bob","carol","dave"]`)
	want("added", added("carol", "member", more.Seq), added("dave", "member", more.Seq))
	w.done(schemas.TCreate, "alice", `"id":"g","name":"g","members":["bob"]`)
	w.done(schemas.TAdd, "alice", `"chat":"group.g","users":["bob"]`)
	w.done(schemas.TRole, "alice", `"chat":"group.g","user":"bob","role":"admin"`)
	w.done(schemas.TRename, "bob", `"chat":"group.g","name":"G"`)
	w.done(schemas.TRemove, "alice", `"chat":"group.g","users":["bob"]`)
	w.done(schemas.TLeave, "carol", `"chat":"group.g"`)
	want("nobody came in")

	all := w.done(schemas.TCreate, "alice", `"id":"all","name":"g","history":"all"`)
	want("a group whose members read all", fmt.Sprintf(`alice {"t":"chat","chat":"group.all","change":"added","seq":%d,"role":"owner"}`, all.Seq))
}

func TestSessionsAreToldOfSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	w.create("g", "alice", "bob", "dave")
	want := w.wantHeard()
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	w.done(schemas.TMute, "alice", `"chat":"group.g","on":true,"until":%q`, until)
	w.done(schemas.TMute, "alice", `"chat":"direct.alice.bob","on":true`)
	w.done(schemas.TMute, "alice", `"chat":"direct.alice.bob","on":false,"until":"2001-01-01T00:00:00Z"`)
	want("muted",
		`alice {"t":"chat","chat":"group.g","change":"muted","until":"`+until+`"}`,
		`alice {"t":"chat","chat":"direct.alice.bob","change":"muted"}`,
		`alice {"t":"chat","chat":"direct.alice.bob","change":"unmuted"}`)
	for _, on := range []string{"true", "false"} {
		w.done(schemas.TPin, "alice", `"chat":"group.g","on":%s`, on)
		w.done(schemas.TArchive, "dave", `"chat":"group.g","on":%s`, on)
	}
	want("pinned and archived",
		`alice {"t":"chat","chat":"group.g","change":"pinned"}`, `alice {"t":"chat","chat":"group.g","change":"unpinned"}`,
		`dave {"t":"chat","chat":"group.g","change":"archived"}`, `dave {"t":"chat","chat":"group.g","change":"unarchived"}`)
	for _, until := range []string{"2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"} {
		if r := w.ask(schemas.TMute, "alice", `"chat":"group.g","on":true,"until":%q`, until); r.Code != schemas.Invalid {
			t.Errorf("muted until %s: %q", until, r.Code)
		}
	}
	want("what was refused")
}

func TestSettingsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	chat := w.create("g", "alice")
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	w.done(schemas.TMute, "alice", `"chat":%q,"on":true,"until":%q`, chat, until.Format(time.RFC3339))
	w.done(schemas.TPin, "alice", `"chat":%q,"on":true`, chat)
	w.done(schemas.TArchive, "alice", `"chat":%q,"on":true`, chat)
	w.done(schemas.TArchive, "alice", `"chat":%q,"on":false`, chat)
	settings, err := w.Store.Settings(t.Context(), w.user("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(store.Setting{Chat: chat, Muted: true, MutedUntil: until, Pinned: true}, settings[chat],
		cmp.Comparer(func(a, b schemas.Chat) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestJoinedTellsHowFarItKnows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	a := w.create("a", "olga", "bob")
	seq := w.done(schemas.TCreate, "olga", `"id":"b","name":"b","members":["bob"],"history":"all"`).Seq
	w.create("c", "olga", "bob")
	w.done(schemas.TRole, "olga", `"chat":%q,"user":"bob","role":"admin"`, a)
	w.done(schemas.TLeave, "bob", `"chat":"group.c"`)
	w.say(w.chat("direct.alice.bob"), "alice", "hi")
	w.PersistAll()
	w.create("d", "olga", "bob") // not stored
	var got schemas.JoinedAnswer
	if code := w.request(streams.JoinedSubject, `{"user":"bob"}`, &got); code != "" {
		t.Fatal(code)
	}
	shards, err := w.Store.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := w.timeline(a)[0].Seq
	want := schemas.JoinedAnswer{Stored: shards, Groups: []schemas.JoinedGroup{
		{Chat: a, Role: schemas.Admin, Since: first, From: first}, {Chat: w.chat("group.b"), Role: schemas.Member, Since: seq},
	}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b schemas.Chat) bool { return a == b })); diff != "" || len(shards) == 0 {
		t.Error(diff)
	}
	var standing schemas.StandingAnswer // which knows what is not stored, too
	if code := w.request(streams.StandingSubject, `{"chat":"group.d","users":["bob","eve"]}`, &standing); code != "" || len(standing.Members) != 1 || standing.Count != 2 {
		t.Errorf("standing in group.d: %q, %+v", code, standing)
	}
	if code := w.request(streams.StandingSubject, `{"chat":"group.none","users":[]}`, &standing); code != "" || standing.Count != 0 {
		t.Errorf("standing in a group that there is not: %q, %+v", code, standing)
	}
}

// TestOperatorsSeeTheService as `nats micro info chats` shows it.
func TestOperatorsSeeTheService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	operator := w.Connect(t, streams.OperatorComponent)
	msg, err := operator.RequestMsg(nats.NewMsg("$SRV.INFO.chats"), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(msg.Data, &info); err != nil || info.Description == "" || len(info.Endpoints) != 14 {
		t.Errorf("info: %v, %s", err, msg.Data)
	}
	for _, e := range info.Endpoints {
		if e.Metadata["description"] == "" || !strings.HasPrefix(e.Subject, "svc.chats.") {
			t.Errorf("endpoint %+v", e)
		}
	}
	msg, err = operator.Request(streams.AskSubject(schemas.TCreate), []byte(`{"by":"alice","id":"ops","name":"made by hand"}`), 5*time.Second)
	if err != nil || !strings.HasPrefix(string(msg.Data), `{"chat":"group.ops","seq":`) {
		t.Errorf("an operator's create: %v, %s", err, msg.Data)
	}
}
