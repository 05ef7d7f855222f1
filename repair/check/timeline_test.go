package check_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/repair/check"
	"parley/repair/replay"
	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/dead"
	"parley/workers/store/sqlite/sqlitetest"
	"parley/workers/workerstest"
)

func user(name string) schemas.User {
	u, err := schemas.ParseUser(name)
	if err != nil {
		panic(err)
	}
	return u
}

func team() schemas.Chat {
	id, err := schemas.ParseID("team")
	if err != nil {
		panic(err)
	}
	return schemas.GroupChat(id)
}

// say publishes an event and returns its seq. With a ttl the log forgets it.
func (w *world) say(chat schemas.Chat, ev schemas.Event) uint64 {
	w.T.Helper()
	w.said++
	ev.ID, _ = schemas.ParseID("e" + strconv.Itoa(w.said))
	if ev.Type == "" {
		ev.Type = schemas.Message
	}
	if ev.From.IsZero() {
		ev.From = user("alice")
	}
	if ev.Body == nil && (ev.Type == schemas.Message || ev.Type == schemas.Edit) {
		ev.Body = fmt.Appendf(nil, `{"kind":"text","text":"text %d"}`, w.said)
	}
	data, err := schemas.EncodeEvent(&ev)
	if err != nil {
		w.T.Fatal(err)
	}
	msg := &nats.Msg{Subject: w.Layout.Shard(chat).Timeline(chat), Data: data}
	if ev.TTL > 0 {
		msg.Header = nats.Header{jetstream.MsgTTLHeader: {strconv.FormatUint(ev.TTL, 10)}}
	}
	ack, err := w.EdgeJS.PublishMsg(w.T.Context(), msg)
	if err != nil {
		w.T.Fatal(err)
	}
	return ack.Sequence
}

func (w *world) edit(chat schemas.Chat, target uint64) uint64 {
	return w.say(chat, schemas.Event{Type: schemas.Edit, Target: target})
}

func (w *world) remove(chat schemas.Chat, target uint64) uint64 {
	return w.say(chat, schemas.Event{Type: schemas.Delete, Target: target})
}

func (w *world) pin(chat schemas.Chat, target uint64, remove bool) uint64 {
	return w.say(chat, schemas.Event{Type: schemas.Pin, Target: target, Remove: remove})
}

func (w *world) react(chat schemas.Chat, target uint64, from, emoji string, remove bool) uint64 {
	return w.say(chat, schemas.Event{Type: schemas.React, From: user(from), Target: target, Emoji: emoji, Remove: remove})
}

// talk says something of all types in a chat whose users are alice and another;
// messages[0] is edited, [1] deleted after an edit and edited after that, [2]
// pinned, [3] not any more, and [4] has reactions.
func (w *world) talk(chat schemas.Chat, other string) (messages []uint64) {
	for range 6 {
		messages = append(messages, w.say(chat, schemas.Event{}))
	}
	w.edit(chat, messages[0])
	w.edit(chat, messages[1])
	w.edit(chat, messages[0])
	w.remove(chat, messages[1])
	w.edit(chat, messages[1])
	w.pin(chat, messages[2], false)
	w.pin(chat, messages[3], false)
	w.pin(chat, messages[3], true)
	w.say(chat, schemas.Event{Type: schemas.Edit, From: user(other), Target: messages[2]}) // not its author
	w.edit(chat, messages[0]+10_000)                                                       // of nothing
	for _, emoji := range []string{"👍", "🎉"} {
		w.react(chat, messages[4], "alice", emoji, false)
		w.react(chat, messages[4], other, emoji, false)
	}
	w.react(chat, messages[4], "alice", "🎉", true)
	return messages
}

// change says a group's change.
func (w *world) change(chat schemas.Chat, ev schemas.Event) uint64 {
	ev.Type = schemas.MemberEvent
	if ev.Change == schemas.Created || ev.Change == schemas.Renamed {
		ev.Type, ev.Name = schemas.GroupEvent, "team"
	}
	return w.say(chat, ev)
}

// talked is a world with a direct chat and a group in which all types of events
// were said; all of it is persisted.
func talked(t *testing.T) (w *world, direct []uint64) {
	t.Helper()
	w = newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}})
	w.publish(150, func(i int) []byte { return message(fmt.Sprintf("m%d", i), 10) }, workerstest.ChatNo(0))
	w.change(team(), schemas.Event{Change: schemas.Created, Members: []schemas.User{user("bob"), user("carol")}, Count: 3, History: schemas.HistoryJoined})
	direct = w.talk(workerstest.ChatNo(0), "bob0")
	w.talk(team(), "bob")
	w.change(team(), schemas.Event{Change: schemas.Removed, Users: []schemas.User{user("carol")}, Count: 2})
	w.change(team(), schemas.Event{Change: schemas.Added, Users: []schemas.User{user("carol"), user("dave")}, Count: 4})
	w.change(team(), schemas.Event{Change: schemas.RoleChanged, Users: []schemas.User{user("bob")}, Role: schemas.Owner, Count: 4})
	w.persistAll()
	return w, direct
}

// TestDamageOfChangesIsFoundAndRepaired damages what later events made of earlier
// ones, one thing at a time.
func TestDamageOfChangesIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	w, direct := talked(t)
	original := sqlitetest.Dump(t, w.path)
	wantClean(t, w.check(t, w.path, nil))
	wantClean(t, w.check(t, w.path, func(c *check.Config) { c.WindowEvents = 1 }))
	at := func(format string, target int) string {
		return fmt.Sprintf(format, fmt.Sprintf("chat = '%s' AND seq = %d", workerstest.ChatNo(0), direct[target]))
	}
	of := func(target int) string {
		return fmt.Sprintf("chat = '%s' AND target = %d", workerstest.ChatNo(0), direct[target])
	}
	different := []check.Kind{check.Different}
	for _, damage := range []damage{
		{"an edit is lost", []string{at("UPDATE events SET edited = 0, body = '' WHERE %s", 0)}, different},
		{"an edit is half lost", []string{at("UPDATE events SET edited = edited - 1 WHERE %s", 0)}, different},
		{"a body is another", []string{at(`UPDATE events SET body = '{"kind":"text","text":"x"}' WHERE %s`, 0)}, different},
		{"a former body is lost", []string{"DELETE FROM edits WHERE " + of(0) + " AND seq = (SELECT min(seq) FROM edits WHERE " + of(0) + ")"}, different},
		{"a delete is lost", []string{at("UPDATE events SET deleted = 0 WHERE %s", 1)}, different},
		{"what was deleted is there again", []string{at(`UPDATE events SET event = replace(event, '"body":{}', '"body":{"kind":"text","text":"x"}') WHERE %s`, 1)}, different},
		{"what an edit said that was deleted is there again", []string{"UPDATE edits SET body = '{}' WHERE " + of(1)}, different},
		{"a pin is lost", []string{at("UPDATE events SET pinned = 0 WHERE %s", 2)}, different},
		{"a pin is there again", []string{at("UPDATE events SET pinned = 1 WHERE %s", 3)}, different},
		{"a reaction is lost", []string{"DELETE FROM reactions WHERE " + of(4) + " AND user = 'bob0'"}, different},
		{"a reaction is there again", []string{"UPDATE reactions SET is_on = 1 WHERE is_on = 0"}, different},
		{"a member is lost", []string{"DELETE FROM members_by_chat WHERE user = 'dave'"}, different},
		{"a member has another role", []string{"UPDATE members_by_chat SET role = 'admin' WHERE user = 'carol'"}, different},
		{"a member came in sooner", []string{"UPDATE members_by_chat SET since = since - 3, visible = 0 WHERE user = 'carol'"}, different},
		{"a group's creation is lost with its members", []string{"DELETE FROM members_by_chat", "DELETE FROM events WHERE type = 'group'"}, []check.Kind{check.Gap, check.Missing}},
		{"events are lost that change others", []string{"DELETE FROM events WHERE type IN ('delete', 'pin', 'reaction')"}, nil},
	} {
		t.Run(damage.name, func(t *testing.T) {
			path := w.damagedCopy(t, damage.statements)
			for _, window := range []int{1, 7, 1000} {
				damaged := w.check(t, path, func(c *check.Config) { c.WindowEvents = window })
				if kinds := slices.Sorted(maps.Keys(found(damaged))); damage.want != nil && !slices.Equal(kinds, damage.want) {
					t.Errorf("in windows of %d: found %v, want %v: %v", window, found(damaged), damage.want, damaged.Shards[0].Findings)
				}
			}
			w.rebuild(t, path)
			wantDump(t, path, original)
			wantClean(t, w.check(t, path, nil))
		})
	}
	// What was done to messages that are older than the log is not compared.
	w.purge(direct[0] + 3 - w.Layout.At(0).FirstSeq())
	wantClean(t, w.check(t, w.path, nil))
	t.Run("the head of a group is lost that is older than the log", func(t *testing.T) { testLostGroupHead(t, w) })
}

func testLostGroupHead(t *testing.T, w *world) {
	path := w.copyStore(t)
	sqlitetest.Exec(t, path, "DELETE FROM chats WHERE kind = 'group'")
	w.rebuild(t, path)
	ofGroup := func(line string) bool { return strings.Contains(line, team().String()) }
	if got, want := linesOf(t, path, ofGroup), linesOf(t, w.path, ofGroup); !slices.Equal(got, want) {
		t.Errorf("the group has %v, want %v", got, want)
	}
	wantClean(t, w.check(t, path, nil))
}

// linesOf returns the lines of a store's dump that are wanted.
func linesOf(t *testing.T, path string, wanted func(string) bool) (lines []string) {
	for _, line := range sqlitetest.Dump(t, path) {
		if wanted(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// What an event made that the log does not have is found too.
func TestWhatNoEventMadeIsFound(t *testing.T) {
	t.Parallel()
	w, direct := talked(t)
	const noBody = `replace(event, substr(event, instr(event, '"body"')), '"body":{}}')`
	for name, statement := range map[string]string{
		"an edit":     "UPDATE events SET edited = seq + 7, body = '{}' WHERE seq = %d",
		"a delete":    `UPDATE events SET deleted = seq + 7, event = ` + noBody + ` WHERE seq = %d`,
		"a pin":       "UPDATE events SET pinned = 1 WHERE seq = %d",
		"a reaction":  "INSERT INTO reactions SELECT chat, bucket, seq, '👍', 'bob0', seq + 7, 1, 0 FROM events WHERE seq = %d",
		"a member":    "INSERT INTO members_by_chat (chat, user, stamp, role, since) SELECT 'group.team', 'eve', seq, 'admin', seq FROM events WHERE seq = %d",
		"what it was": `UPDATE events SET event = ` + noBody + ` WHERE seq = %d`,
	} {
		t.Run(name, func(t *testing.T) {
			path := w.copyStore(t)
			if n := sqlitetest.Exec(t, path, fmt.Sprintf(statement, direct[5])); n != 1 {
				t.Fatalf("%s changes %d rows", statement, n)
			}
			if got := found(w.check(t, path, nil)); got[check.Different] != 1 {
				t.Errorf("found %v, want one that is different", got)
			}
		})
	}
}

// sayWhatDisappears talks in three chats, in two of which messages disappear, and
// returns when the last of them has.
func (w *world) sayWhatDisappears() (until time.Time) {
	chats := []schemas.Chat{workerstest.ChatNo(0), workerstest.ChatNo(1), workerstest.ChatNo(2)}
	for round := range 3 {
		for i, chat := range chats {
			stays := w.say(chat, schemas.Event{})
			if i == 2 {
				continue // in this one nothing disappears
			}
			goes := w.say(chat, schemas.Event{TTL: uint64(2 + round)})
			w.react(chat, goes, "alice", "👍", false)
			w.say(chat, schemas.Event{Type: schemas.Edit, Target: goes, TTL: uint64(2 + round)})
			w.edit(chat, stays)
			until = time.Now().Add(time.Duration(3+round) * time.Second)
		}
	}
	w.say(workerstest.ChatNo(1), schemas.Event{TTL: 1}) // its last
	return until
}

// TestWhatDisappearsIsNoFinding: before, while and after messages disappear from
// log and store, the check finds nothing; and a rebuild changes nothing.
func TestWhatDisappearsIsNoFinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}})
	until := w.sayWhatDisappears()
	w.persistAll()
	checks := 0
	for ; time.Now().Before(until) || checks < 3; checks++ {
		wantClean(t, w.check(t, w.path, func(c *check.Config) { c.Deep = checks%2 == 0 }))
	}
	t.Logf("%d checks while messages disappeared", checks)
	if n := sqlitetest.Exec(t, w.path, "UPDATE events SET expires = expires WHERE expires > 0"); n == 0 {
		t.Error("nothing had disappeared yet")
	}
	sqlitetest.Exec(t, w.path, fmt.Sprintf("DELETE FROM events WHERE expires > 0 AND expires < %d", time.Now().UnixNano()))
	path := w.copyStore(t)
	w.rebuild(t, path)
	wantClean(t, w.check(t, path, nil))
	isRow := func(line string) bool { return strings.HasPrefix(line, "events") }
	if got, want := linesOf(t, path, isRow), linesOf(t, w.path, isRow); !slices.Equal(got, want) {
		t.Errorf("the rebuild changed rows: %v, want %v", got, want)
	}
	// What nothing that disappeared explains is found there too.
	for kind, statement := range map[check.Kind]string{
		check.Head:    "UPDATE chats SET last_n = 1 WHERE chat = '%s'",
		check.Gap:     "UPDATE events SET prev = prev - 5 WHERE chat = '%s' AND seq = (SELECT max(seq) FROM events WHERE type = 'message' AND chat = '%[1]s')",
		check.Order:   "UPDATE events SET n = 1 WHERE chat = '%s' AND seq = (SELECT max(seq) FROM events WHERE type = 'message' AND chat = '%[1]s')",
		check.Missing: "DELETE FROM events WHERE chat = '%s' AND type = 'edit' AND seq = (SELECT max(seq) FROM events WHERE type = 'edit' AND chat = '%[1]s')",
	} {
		path := w.copyStore(t)
		if n := sqlitetest.Exec(t, path, fmt.Sprintf(statement, workerstest.ChatNo(1))); n != 1 {
			t.Fatalf("%s changes %d rows", statement, n)
		}
		if got := found(w.check(t, path, nil)); got[kind] == 0 {
			t.Errorf("found %v after %s, want %s", got, statement, kind)
		}
	}
	// Other chats are compared as strictly as ever.
	sqlitetest.Exec(t, path, fmt.Sprintf("DELETE FROM events WHERE chat = '%s' AND n = 2", workerstest.ChatNo(2)))
	if got := found(w.check(t, path, nil)); got[check.Gap] != 1 || got[check.Missing] != 1 {
		t.Errorf("found %v, want a gap and a row that is missing", got)
	}
}

// Changes that were given up and replayed are no fault, whether their targets were
// deleted or changed meanwhile.
func TestReplayedChangesAreNoFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}})
	st := openStore(t, w.path)
	defer closeStore(t, st)
	chat := workerstest.ChatNo(0)
	bad := func(ev schemas.Event) { // what the store refuses at first
		data, err := schemas.EncodeEvent(&ev)
		if err != nil {
			t.Fatal(err)
		}
		w.publish(1, func(int) []byte { return data }, chat)
	}
	id := func(n int) schemas.ID { id, _ := schemas.ParseID(fmt.Sprintf("bad%d", n)); return id }
	alice := user("alice")
	stop := workerstest.Persist(w.T, w.Env, &refusingStore{Store: st})
	m := w.talk(chat, "bob0")
	bad(schemas.Event{Type: schemas.Edit, ID: id(1), From: alice, Target: m[0], Body: []byte(`{"kind":"text","text":"later"}`)})
	bad(schemas.Event{Type: schemas.Edit, ID: id(2), From: alice, Target: m[1], Body: []byte(`{"kind":"text","text":"gone"}`)})
	bad(schemas.Event{Type: schemas.Edit, ID: id(3), From: alice, Target: m[2], Body: []byte(`{"kind":"text","text":"gone"}`)})
	w.remove(chat, m[2])
	bad(schemas.Event{Type: schemas.Delete, ID: id(4), From: alice, Target: m[3]})
	w.edit(chat, m[3])
	bad(schemas.Event{Type: schemas.Pin, ID: id(5), From: alice, Target: m[0]})
	bad(schemas.Event{Type: schemas.React, ID: id(6), From: alice, Target: m[5], Emoji: "👍"})
	bad(schemas.Event{Type: schemas.Message, ID: id(7), From: alice, Body: []byte(`{"kind":"text","text":"late"}`)})
	_, last := w.bounds(w.Layout.At(0))
	w.react(chat, last, "alice", "👍", false)
	w.waitStored(st)
	stop()
	config := func(c *check.Config) { c.Store = st }
	report := w.check(t, w.path, config)
	wantClean(t, report)
	if got := report.Shards[0].GivenUp; got != 7 {
		t.Errorf("%d are given up, want 7", got)
	}
	replayed := 0
	handlers := map[string]replay.Handler{streams.PersistConsumer: replay.New(st, w.Layout)}
	if err := replay.Letters(t.Context(), w.JetStream, "", handlers, func(l dead.Letter, err error) {
		if err != nil {
			t.Errorf("letter %d: %v", l.Seq, err)
		}
		replayed++
		wantClean(t, w.check(t, w.path, config))
	}); err != nil || replayed != 7 {
		t.Errorf("%d letters were replayed, %v", replayed, err)
	}
}

// TestLiveChangesAreClean checks again and again while messages are changed and
// disappear, and members come and go.
func TestLiveChangesAreClean(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streamstest.Options{Settings: streams.Settings{Shards: 1}})
	st := openStore(t, w.path)
	defer closeStore(t, st)
	stop := workerstest.Persist(w.T, w.Env, &steppingStore{Store: st})
	w.change(team(), schemas.Event{Change: schemas.Created, Members: []schemas.User{user("bob")}, Count: 2, History: schemas.HistoryAll})
	var working sync.WaitGroup
	var done atomic.Bool
	working.Go(func() {
		for i := 0; !done.Load(); i++ {
			w.talk(workerstest.ChatNo(i%3), fmt.Sprintf("bob%d", i%3))
			w.talk(team(), "bob")
			goes := w.say(workerstest.ChatNo(1), schemas.Event{TTL: 1})
			w.react(workerstest.ChatNo(1), goes, "alice", "👍", false)
			w.change(team(), schemas.Event{Change: schemas.Added, Users: []schemas.User{user("carol")}, Count: 3})
			w.change(team(), schemas.Event{Change: schemas.HasLeft, Users: []schemas.User{user("carol")}, Count: 2})
		}
	})
	compared, checks := uint64(0), 0
	for began := time.Now(); checks < 6 || compared < 5000 && time.Since(began) < time.Minute; checks++ {
		report := w.check(t, w.path, func(c *check.Config) { c.Store, c.Deep = st, checks%2 == 0 })
		wantClean(t, report)
		compared += report.Shards[0].Compared
	}
	done.Store(true)
	working.Wait()
	t.Logf("%d checks compared %d events while others came", checks, compared)
	w.waitStored(st)
	stop()
	wantClean(t, w.check(t, w.path, func(c *check.Config) { c.Store = st }))
}
