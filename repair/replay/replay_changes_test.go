package replay_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/schemas"
	"parley/workers/store"
	"parley/workers/workerstest"
)

// event publishes ev with an id and returns its seq.
func (w world) event(chat schemas.Chat, id string, ev schemas.Event) uint64 {
	w.T.Helper()
	ev.ID, _ = schemas.ParseID(id)
	if ev.From.IsZero() {
		ev.From = workerstest.User("alice")
	}
	if ev.Type == schemas.Message || ev.Type == schemas.Edit {
		ev.Body = fmt.Appendf(nil, `{"kind":"text","text":"%s"}`, id)
	}
	data, err := schemas.EncodeEvent(&ev)
	if err != nil {
		w.T.Fatal(err)
	}
	return w.Publish(chat, data)
}

// What an event does that was given up, it does when it is replayed; unless it was
// done, undone or taken back since.
func TestReplayedChangesAreApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chat := workerstest.ChatNo(0)
	m := make([]uint64, 7)
	for i := range m {
		m[i] = w.event(chat, fmt.Sprint("m", i), schemas.Event{Type: schemas.Message})
	}
	about := func(kind schemas.EventType, id string, target uint64, remove bool) uint64 {
		ev := schemas.Event{Type: kind, Target: target, Remove: remove}
		if kind == schemas.React {
			ev.Emoji = "👍"
		}
		return w.event(chat, id, ev)
	}
	edited := about(schemas.Edit, "late-edit", m[0], false)
	about(schemas.Edit, "old-edit", m[1], false)
	newer := about(schemas.Edit, "newer", m[1], false)
	former := about(schemas.Edit, "former", m[2], false)
	deleted := about(schemas.Delete, "late-delete", m[2], false)
	tooLate := about(schemas.Edit, "secret", m[3], false)
	deletedBefore := about(schemas.Delete, "delete", m[3], false)
	about(schemas.Pin, "late-pin", m[4], false)
	about(schemas.Pin, "old-pin", m[5], false)
	about(schemas.Pin, "unpin", m[5], true)
	reacted := about(schemas.React, "late-reaction", m[4], false)
	about(schemas.React, "old-reaction", m[5], false)
	about(schemas.React, "taken-back", m[5], true)
	w.persistRefusing("late-edit", "old-edit", "late-delete", "secret", "late-pin", "old-pin", "late-reaction", "old-reaction")
	for range 2 { // the second time finds no letters
		if refused := w.replay(w.Store); len(refused) > 0 {
			t.Errorf("refused: %v", refused)
		}
	}

	rows, err := w.Store.Events(t.Context(), chat, append(m[:6:6], former, tooLate))
	if err != nil || len(rows) != 8 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	body := func(id string) []byte { return fmt.Appendf(nil, `{"kind":"text","text":"%s"}`, id) }
	var states []store.State
	for i := range rows {
		states = append(states, rows[i].State)
		gone := i == 2 || i == 3 || i >= 6
		if blank := bytes.Contains(rows[i].JSON, []byte(`"body":{}`)); blank != gone {
			t.Errorf("row %d is %s; want it blank: %t", i, rows[i].JSON, gone)
		}
	}
	want := []store.State{
		{Edited: edited, Body: body("late-edit")}, {Edited: newer, Body: body("newer")}, {Edited: former, Deleted: deleted}, {Deleted: deletedBefore},
		{Pinned: true}, {}, {Deleted: deleted}, {},
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Errorf("states; -want +got:\n%s", diff)
	}
	reactions, err := w.Store.Reactions(t.Context(), chat, rows)
	wantReactions := map[uint64][]store.Reactions{m[4]: {{Emoji: "👍", First: reacted, Count: 1, Users: []schemas.User{workerstest.User("alice")}}}}
	if diff := cmp.Diff(wantReactions, reactions, cmp.AllowUnexported(schemas.User{})); diff != "" || err != nil {
		t.Errorf("reactions: %v; -want +got:\n%s", err, diff)
	}
	edits, err := w.Store.Edits(t.Context(), chat, rows)
	for _, edit := range edits {
		if len(edit.Body) > 0 && edit.Target == m[2] || edit.Target == m[3] {
			t.Errorf("edit %d of %d still says %s", edit.Seq, edit.Target, edit.Body)
		}
	}
	if err != nil || len(edits) != 4 {
		t.Errorf("%d edits, %v; want 4", len(edits), err)
	}
}

// A change of a group that was given up is applied when it is replayed, and yields
// to later ones; who came in by it has read what came before, and no more.
func TestReplayedMemberEventsAreApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := schemas.ParseID("team")
	chat := schemas.GroupChat(id)
	users := func(names ...string) (users []schemas.User) {
		for _, name := range names {
			users = append(users, workerstest.User(name))
		}
		return users
	}
	member := func(id string, change schemas.GroupChange, role schemas.Role, names ...string) uint64 {
		return w.event(chat, id, schemas.Event{Type: schemas.MemberEvent, Change: change, Users: users(names...), Role: role, Count: 3})
	}
	created := w.event(chat, "created", schemas.Event{Type: schemas.GroupEvent, Change: schemas.Created, Name: "team",
		Members: users("bob", "carol"), Count: 3, History: schemas.HistoryJoined})
	w.event(chat, "m0", schemas.Event{Type: schemas.Message})
	joined := member("late-add", schemas.Added, "", "dave", "eve")
	member("late-role", schemas.RoleChanged, schemas.Admin, "bob")
	member("late-remove", schemas.Removed, "", "carol")
	w.event(chat, "m1", schemas.Event{Type: schemas.Message})
	rejoined := member("add", schemas.Added, "", "carol")
	member("remove", schemas.Removed, "", "eve")
	w.event(chat, "m2", schemas.Event{Type: schemas.Message})
	w.persistRefusing("late-add", "late-role", "late-remove")
	if refused := w.replay(w.Store); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	got, err := w.Store.Members(t.Context(), chat, schemas.User{}, 100)
	want := []store.Member{
		{User: workerstest.User("alice"), Role: schemas.Owner, Since: created, From: created},
		{User: workerstest.User("bob"), Role: schemas.Admin, Since: created, From: created},
		{User: workerstest.User("carol"), Role: schemas.Member, Since: rejoined, From: rejoined},
		{User: workerstest.User("dave"), Role: schemas.Member, Since: joined, From: joined},
		{User: workerstest.User("eve"), Role: schemas.Left, Since: joined, From: joined},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(schemas.User{})); diff != "" || err != nil {
		t.Errorf("members: %v; -want +got:\n%s", err, diff)
	}
	chats, err := w.Store.UserChats(t.Context(), workerstest.User("dave"), schemas.Group, 10)
	if err != nil || len(chats) != 1 || chats[0].Read != joined || chats[0].ReadN != 1 {
		t.Errorf("dave's chats are %v, %v; want the one with 1 message read", chats, err)
	}
	if head, _, err := w.Store.Head(t.Context(), chat); err != nil || head.LastN != 3 || head.Name != "team" {
		t.Errorf("the head is %v, %v", head, err)
	}
}
