package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"parley/schemas"
	"parley/tests/harness"
)

func TestGroupFromItsCreationToItsEnd(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	alice, bob, carol := d.Talk(t, "alice"), d.Talk(t, "bob"), d.Talk(t, "carol")

	created := alice.Do(`{"t":"create","id":"team","name":"The team","members":["bob"]}`)
	const chat = "group.team"
	if created.T != schemas.TCreated || created.Chat != chat {
		t.Fatalf("got %v", created)
	}
	if again := alice.Do(`{"t":"create","id":"team","name":"Another"}`); again.Seq != created.Seq {
		t.Errorf("the same create again: %v, want seq %d", again, created.Seq)
	}
	if f := bob.Ask(`{"t":"create","id":"team","name":"Mine"}`); f.Code != schemas.Conflict {
		t.Errorf("another's create: %v", f)
	}
	bob.Await(func(f harness.Frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatAdded })
	bob.AwaitEvent(chat, created.Seq)

	hi := bob.Send(chat, "hi")
	alice.AwaitEvent(chat, hi)
	if f := carol.Ask(`{"t":"send","id":"x","chat":"%s","type":"message","body":{"kind":"text","text":"hi"}}`, chat); f.Code != schemas.NotMember {
		t.Errorf("a stranger: %v", f)
	}
	added := alice.Do(`{"t":"add","chat":"%s","users":["carol","bob"]}`, chat)
	carol.Await(func(f harness.Frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatAdded })
	if f := carol.AwaitEvent(chat, added.Seq); len(f.Event.Users) != 1 || f.Event.Users[0] != "carol" {
		t.Errorf("who was in already is not added: %v", f)
	}
	if page := carol.Page(`{"t":"history","chat":"%s"}`, chat); len(page.Events) != 1 || page.Events[0].Seq != added.Seq || page.More {
		t.Errorf("carol reads %v from before she joined", page.Events)
	}

	removed := alice.Do(`{"t":"remove","chat":"%s","users":["bob"]}`, chat)
	bob.AwaitEvent(chat, removed.Seq)
	bob.Await(func(f harness.Frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatRemoved })
	after := alice.Send(chat, "he is gone")
	carol.AwaitEvent(chat, after)
	if f := bob.Ask(`{"t":"history","chat":"%s"}`, chat); f.Code != schemas.NotMember {
		t.Errorf("who was removed reads: %v", f)
	}
	for _, f := range bob.Quiet() {
		if f.T == schemas.TEvent && f.Seq > removed.Seq {
			t.Errorf("who was removed heard %v", f)
		}
	}
	left := alice.Do(`{"t":"leave","chat":"%s"}`, chat)
	carol.AwaitEvent(chat, left.Seq)
	carol.Do(`{"t":"rename","chat":"%s","name":"Carol's"}`, chat)
	var members schemas.MembersPage
	carol.Answer(&members, `{"t":"members","chat":"%s"}`, chat)
	harness.Eventually(t, "the members are stored", func() bool {
		carol.Answer(&members, `{"t":"members","chat":"%s"}`, chat)
		return len(members.Members) == 1
	})
	if m := members.Members[0]; m.User != harness.MustUser(t, "carol") || m.Role != schemas.Owner || m.Since != added.Seq {
		t.Errorf("left is %+v", m)
	}
}

func TestTimelineChanges(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	alice, bob := d.Talk(t, "alice"), d.Talk(t, "bob")
	const chat = "direct.alice.bob"
	first, second := alice.Send(chat, "frist"), alice.Send(chat, "second")
	change := func(c *harness.Talker, typ string, target uint64, rest string) harness.Frame {
		t.Helper()
		return c.Ask(`{"t":"send","id":"%s","chat":"%s","type":"%s","target":%d%s}`, harness.NewID(), chat, typ, target, rest)
	}
	edit := change(alice, "edit", first, `,"body":{"kind":"text","text":"first"}`)
	change(bob, "reaction", first, `,"emoji":"👍"`)
	change(alice, "reaction", first, `,"emoji":"👍"`)
	change(bob, "reaction", second, `,"emoji":"🎉"`)
	change(bob, "reaction", second, `,"emoji":"🎉","remove":true`)
	change(bob, "pin", first, "")
	deleted := change(alice, "delete", second, "")
	for what, f := range map[string]harness.Frame{
		"bob edits alice's":            change(bob, "edit", first, `,"body":{"kind":"text","text":"x"}`),
		"bob deletes alice's":          change(bob, "delete", first, ""),
		"alice edits what she deleted": change(alice, "edit", second, `,"body":{"kind":"text","text":"x"}`),
		"a reaction to an edit":        change(bob, "reaction", edit.Seq, `,"emoji":"👍"`),
		"a reaction to nothing":        change(bob, "reaction", deleted.Seq+100, `,"emoji":"👍"`),
	} {
		want := map[string]schemas.Code{"bob edits alice's": schemas.Forbidden, "bob deletes alice's": schemas.Forbidden,
			"alice edits what she deleted": schemas.NotFound, "a reaction to an edit": schemas.Invalid, "a reaction to nothing": schemas.NotFound}[what]
		if f.Code != want {
			t.Errorf("%s: %v, want %s", what, f, want)
		}
	}
	wantChanged(t, first, second, edit.Seq, bob.Page(`{"t":"history","chat":"%s"}`, chat)) // from the log
	harness.Eventually(t, "all is stored", func() bool { return d.Metric(t, "parley_persist_events_total") >= 9 })
	wantChanged(t, first, second, edit.Seq, bob.Page(`{"t":"history","chat":"%s"}`, chat))
	raw := alice.Page(`{"t":"history","chat":"%s","raw":true}`, chat)
	if len(raw.Events[0].Former) != 1 || !strings.Contains(string(raw.Events[0].Former[0].Body), "frist") {
		t.Errorf("alice's former bodies are %+v", raw.Events[0].Former)
	}
	if raw := bob.Page(`{"t":"history","chat":"%s","raw":true}`, chat); len(raw.Events[0].Former) > 0 {
		t.Errorf("bob reads alice's former bodies: %+v", raw.Events[0].Former)
	}
}

// wantChanged wants a page to show the first message edited, pinned and with two reactions,
// and the second deleted.
func wantChanged(t *testing.T, first, second, edited uint64, page schemas.Page) {
	t.Helper()
	items := map[uint64]schemas.Item{}
	for _, item := range page.Events {
		items[item.Seq] = item
	}
	one, two := items[first], items[second]
	if !strings.Contains(string(one.JSON), `"text":"first"`) || one.Edited != edited || !one.Pinned {
		t.Errorf("the first message is %+v: %s", one, one.JSON)
	}
	if len(one.Reactions) != 1 || one.Reactions[0].Count != 2 || fmt.Sprint(one.Reactions[0].Users) != "[bob alice]" {
		t.Errorf("its reactions are %+v", one.Reactions)
	}
	if !two.Deleted || strings.Contains(string(two.JSON), "second") || len(two.Reactions) > 0 {
		t.Errorf("the second message is %+v: %s", two, two.JSON)
	}
}

func TestChatList(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	alice, bob := d.Talk(t, "alice"), d.Talk(t, "bob")
	alice.Do(`{"t":"create","id":"team","name":"The team","members":["bob","carol"]}`)
	alice.Send("direct.alice.bob", "one")
	alice.Send("direct.alice.bob", "two")
	alice.Send("group.team", "hello all")
	bob.Send("direct.bob.bob", "a note")
	list := func(c *harness.Talker) (page schemas.ChatsPage) {
		c.Answer(&page, `{"t":"chats"}`)
		return page
	}
	harness.Eventually(t, "bob's chats are stored", func() bool { return len(list(bob).Chats) == 3 })
	want := []string{"direct.bob.bob 0", "group.team 1 The team 3 member", "direct.alice.bob 2"}
	show := func(page schemas.ChatsPage) (texts []string) {
		for _, c := range page.Chats {
			text := fmt.Sprintf("%s %d", c.Chat, c.Unread)
			if c.Name != "" {
				text += fmt.Sprintf(" %s %d %s", c.Name, c.Members, c.Role)
			}
			texts = append(texts, text)
		}
		return texts
	}
	if got := show(list(bob)); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("bob's chats are %q, want %q", got, want)
	}
	bob.Send("direct.alice.bob", "I have read it")
	if got := list(bob).Chats[0]; got.Chat.String() != "direct.alice.bob" || got.Unread != 0 || got.Read != got.Last.Seq {
		t.Errorf("who sends has read: %+v", got)
	}
	bob.Do(`{"t":"mute","chat":"group.team","on":true}`)
	bob.Await(func(f harness.Frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatMuted })
	bob.Do(`{"t":"pin","chat":"group.team","on":true}`)
	bob.Do(`{"t":"archive","chat":"direct.bob.bob","on":true}`)
	for _, c := range list(bob).Chats {
		if team := c.Chat.String() == "group.team"; c.Muted != team || c.Pinned != team || c.Archived != (c.Chat.String() == "direct.bob.bob") {
			t.Errorf("settings: %+v", c)
		}
	}
	bob.Do(`{"t":"leave","chat":"group.team"}`)
	harness.Eventually(t, "the group is gone from bob's list", func() bool { return len(list(bob).Chats) == 2 })
}

func TestUsersAndBlocks(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	alice, bob := d.Talk(t, "alice"), d.Talk(t, "bob")
	alice.Do(`{"t":"profile.set","name":"Alice A.","lang":"en-GB"}`)
	alice.Do(`{"t":"profile.set","avatar":"01JD"}`)
	var profiles schemas.ProfilesPage
	bob.Answer(&profiles, `{"t":"profile","users":["alice","nobody"]}`)
	if p := profiles.Profiles; len(p) != 2 || p[0].Name != "Alice A." || p[0].Lang != "en-GB" || p[0].Avatar != "01JD" || p[1].Name != "" {
		t.Errorf("profiles %+v", p)
	}
	alice.Do(`{"t":"block","user":"bob","on":true}`)
	alice.Await(func(f harness.Frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatBlocked })
	blocked := func(c *harness.Talker) bool {
		return c.Ask(`{"t":"send","id":"%s","chat":"direct.alice.bob","type":"message","body":{"kind":"text","text":"hi"}}`, harness.NewID()).Code == schemas.Forbidden
	}
	harness.Eventually(t, "neither can send", func() bool { return blocked(alice) && blocked(bob) })
	carol := d.Talk(t, "bob") // a new session knows of it too
	if !blocked(carol) {
		t.Error("a new session of who is blocked can send")
	}
	if status, body := d.Post(t, "bob", "direct.alice.bob", "b1", `{"type":"message","body":{"kind":"text","text":"hi"}}`); status != http.StatusForbidden {
		t.Errorf("over HTTP: %d %s", status, body)
	}
	alice.Do(`{"t":"block","user":"bob","on":false}`)
	harness.Eventually(t, "both can send", func() bool { return !blocked(alice) && !blocked(bob) })
	for _, f := range bob.Quiet() {
		if f.T == schemas.TChat {
			t.Errorf("who is blocked was told: %v", f)
		}
	}
}
