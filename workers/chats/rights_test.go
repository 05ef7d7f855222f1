package chats_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"parley/schemas"
	"parley/streams"
)

// Who asks in TestRights, in a group of olga, its owner, the admins ada and abe,
// the members max and mia, and lee, who has left. stan never was in it.
var askers = []string{"olga", "ada", "max", "lee", "stan"}

// cells are what each of askers gets to a request: changed by an event, done without one, or a code.
var cells = []struct {
	request schemas.Type
	members string // beside chat
	want    [5]string
}{
	// asker:                                                owner      admin        member       left          stranger
	{schemas.TAdd, `"users":["new"]`, [5]string{"changed", "changed", "forbidden", "not_member", "not_member"}},
	{schemas.TAdd, `"users":["lee","lee"]`, [5]string{"changed", "changed", "forbidden", "not_member", "not_member"}},
	{schemas.TAdd, `"users":["max","olga"]`, [5]string{"done", "done", "forbidden", "not_member", "not_member"}},
	{schemas.TAdd, `"users":["max","new"]`, [5]string{"changed", "changed", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["mia"]`, [5]string{"changed", "changed", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["mia","lee","mia"]`, [5]string{"changed", "changed", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["abe"]`, [5]string{"changed", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["mia","abe"]`, [5]string{"changed", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["olga"]`, [5]string{"invalid", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["ada"]`, [5]string{"changed", "invalid", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["lee"]`, [5]string{"done", "done", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["new"]`, [5]string{"invalid", "invalid", "forbidden", "not_member", "not_member"}},
	{schemas.TRemove, `"users":["mia","new"]`, [5]string{"invalid", "invalid", "forbidden", "not_member", "not_member"}},
	{schemas.TLeave, ``, [5]string{"changed", "changed", "changed", "not_member", "not_member"}},
	{schemas.TRole, `"user":"max","role":"admin"`, [5]string{"changed", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRole, `"user":"max","role":"member"`, [5]string{"done", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRole, `"user":"ada","role":"member"`, [5]string{"changed", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRole, `"user":"max","role":"owner"`, [5]string{"changed", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRole, `"user":"olga","role":"owner"`, [5]string{"done", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRole, `"user":"olga","role":"member"`, [5]string{"invalid", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRole, `"user":"lee","role":"member"`, [5]string{"invalid", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRole, `"user":"new","role":"admin"`, [5]string{"invalid", "forbidden", "forbidden", "not_member", "not_member"}},
	{schemas.TRename, `"name":"Another"`, [5]string{"changed", "changed", "forbidden", "not_member", "not_member"}},
	{schemas.TRename, `"name":"The same"`, [5]string{"done", "done", "forbidden", "not_member", "not_member"}},
	{schemas.TMembers, ``, [5]string{"done", "done", "done", "not_member", "not_member"}},
	{schemas.TMute, `"on":true`, [5]string{"done", "done", "done", "not_member", "not_member"}},
	{schemas.TPin, `"on":true`, [5]string{"done", "done", "done", "not_member", "not_member"}},
	{schemas.TArchive, `"on":false`, [5]string{"done", "done", "done", "not_member", "not_member"}},
}

// after is what those become whom a request changes.
func after(request schemas.Type, members, by string) map[string]schemas.Role {
	named := func(role schemas.Role, skip string) map[string]schemas.Role {
		roles := make(map[string]schemas.Role)
		for _, name := range []string{"new", "lee", "mia", "abe", "ada"} {
			if strings.Contains(members, `"`+name+`"`) && name != skip {
				roles[name] = role
			}
		}
		return roles
	}
	switch {
	case request == schemas.TAdd:
		return named(schemas.Member, "")
	case request == schemas.TRemove:
		return named(schemas.Left, "")
	case request == schemas.TLeave && by == "olga":
		return map[string]schemas.Role{"olga": schemas.Left, "abe": schemas.Owner} // before ada by name
	case request == schemas.TLeave:
		return map[string]schemas.Role{by: schemas.Left}
	case strings.Contains(members, `"owner"`):
		return map[string]schemas.Role{"olga": schemas.Admin, "max": schemas.Owner}
	case strings.Contains(members, `"admin"`):
		return map[string]schemas.Role{"max": schemas.Admin}
	case request == schemas.TRole:
		return map[string]schemas.Role{"ada": schemas.Member}
	}
	return nil
}

func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	checked := 0
	for i, cell := range cells {
		for j, by := range askers {
			chat := w.group(fmt.Sprintf("g%d-%d", i, j))
			before, roles := w.timeline(chat), w.standing(chat)
			members := fmt.Sprintf(`"chat":%q`, chat)
			if cell.members != "" {
				members += "," + cell.members
			}
			r := w.ask(cell.request, by, "%s", members)
			events := w.timeline(chat)
			got := string(r.Code)
			switch {
			case got == "" && len(events) > len(before):
				got = "changed"
				maps.Copy(roles, after(cell.request, cell.members, by))
				maps.DeleteFunc(roles, func(_ string, role schemas.Role) bool { return !role.In() })
			case got == "":
				got = "done"
			case len(events) > len(before):
				t.Errorf("%s %s of %s: refused with %s, and the log has %s", cell.request, cell.members, by, got, events[len(events)-1].JSON)
			}
			checked++
			if got != cell.want[j] {
				t.Errorf("%s %s of %s: %s, want %s", cell.request, cell.members, by, got, cell.want[j])
				continue
			}
			w.checkAnswer(cell.request, r, got, chat, events, roles)
		}
	}
	t.Logf("%d cells of rights", checked)
}

// checkAnswer checks that a change's answer names its event, and what the log and
// the service know of the group after it.
func (w *world) checkAnswer(request schemas.Type, r reply, got string, chat schemas.Chat, events []schemas.StoredEvent, roles map[string]schemas.Role) {
	w.T.Helper()
	last := events[len(events)-1]
	changes := got == "changed" || got == "done" && request != schemas.TMembers && request != schemas.TMute && request != schemas.TPin && request != schemas.TArchive
	if changes && (r.Seq != last.Seq || r.Chat != chat) {
		w.T.Errorf("%s in %s is %s by %d of %s, want the log's last, %d", request, chat, got, r.Seq, r.Chat, last.Seq)
	}
	if now := w.standing(chat); !maps.Equal(now, roles) {
		w.T.Errorf("%s in %s: the log makes %v, want %v", request, chat, now, roles)
	}
	if ev, err := schemas.DecodeEvent(last.JSON); err != nil || ev.Count != uint64(len(roles)) {
		w.T.Errorf("%s in %s: the last event counts other than %d members: %s (%v)", request, chat, len(roles), last.JSON, err)
	}
	var answer schemas.StandingAnswer
	if code := w.request(streams.StandingSubject, fmt.Sprintf(`{"chat":%q,"users":["olga","ada","abe","max","mia","lee","stan","new"]}`, chat), &answer); code != "" {
		w.T.Errorf("standing in %s: %s", chat, code)
	}
	told := make(map[string]schemas.Role)
	for _, m := range answer.Members {
		told[m.User.String()] = m.Role
	}
	if !maps.Equal(told, roles) {
		w.T.Errorf("%s in %s: standing tells %v, want %v", request, chat, told, roles)
	}
}

// group makes the group of TestRights.
func (w *world) group(id string) schemas.Chat {
	w.T.Helper()
	chat := w.done(schemas.TCreate, "olga", `"id":%q,"name":"The same","members":["ada","abe","max","mia","lee","olga"]`, id).Chat
	w.done(schemas.TRole, "olga", `"chat":%q,"user":"ada","role":"admin"`, chat)
	w.done(schemas.TRole, "olga", `"chat":%q,"user":"abe","role":"admin"`, chat)
	w.done(schemas.TLeave, "lee", `"chat":%q`, chat)
	return chat
}

func TestNoSuchGroupAnswersAsThoseOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	for _, cell := range cells {
		members := `"chat":"group.nowhere"`
		if cell.members != "" {
			members += "," + cell.members
		}
		if r := w.ask(cell.request, "olga", "%s", members); r.Code != schemas.NotMember {
			t.Errorf("%s in no group: %q", cell.request, r.Code)
		}
	}
	for _, request := range []schemas.Type{schemas.TMembers, schemas.TMute, schemas.TPin, schemas.TArchive} {
		if r := w.ask(request, "carol", `"chat":"direct.alice.bob","on":true`); r.Code != schemas.NotMember {
			t.Errorf("%s in a chat of others: %q", request, r.Code)
		}
	}
}

// TestRequestsAreChecked: an operator may ask without an edge.
func TestRequestsAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	many := strings.Repeat(`"u",`, schemas.UsersMax) + `"u"`
	for subject, requests := range map[string][]string{
		streams.AskSubject(schemas.TCreate): {``, `[]`, `{}`, `{"by":"alice"}`, `{"by":"a b","id":"g","name":"x"}`, `{"by":"alice","id":"g","name":""}`,
			`{"by":"alice","id":"g","name":"a\u0000b"}`, `{"by":"alice","id":"g","name":"` + strings.Repeat("x", 10_000) + `"}`,
			`{"by":"alice","id":"g","name":"x","members":[` + many + `]}`, `{"by":"alice","id":"g","name":"x","history":"none"}`},
		streams.AskSubject(schemas.TAdd):     {`{"by":"alice","chat":"group.g"}`, `{"by":"alice","chat":"direct.alice.bob","users":["bob"]}`, `{"by":"alice","chat":"group.g","users":[]}`},
		streams.AskSubject(schemas.TRole):    {`{"by":"alice","chat":"group.g","user":"bob","role":"left"}`},
		streams.AskSubject(schemas.TChats):   {`{"by":"alice","limit":0}`, `{"by":"alice","cursor":"x"}`, `{"by":"alice","cursor":"e30"}`},
		streams.AskSubject(schemas.TMute):    {`{"by":"alice","chat":"direct.alice.bob"}`, `{"by":"alice","chat":"direct.alice.bob","on":1}`},
		streams.JoinedSubject:                {``, `{}`, `{"user":""}`},
		streams.StandingSubject:              {``, `{}`, `{"users":["a"]}`, `{"chat":"group.g","users":[` + many + `]}`},
		streams.AskSubject(schemas.TMembers): {`{"by":"alice","chat":"direct.bob.alice"}`},
	} {
		for _, request := range requests {
			var nothing reply
			if code := w.request(subject, request, &nothing); code != schemas.Invalid {
				t.Errorf("%s %.100s: %q", subject, request, code)
			}
		}
	}
}
