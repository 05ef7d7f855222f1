package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"parley/schemas"
)

func newID() string { return ulid.Make().String() }

func TestGroupFromItsCreationToItsEnd(t *testing.T) {
	t.Parallel()
	d := startDev(t, "")
	alice, bob, carol := d.talk(t, "alice"), d.talk(t, "bob"), d.talk(t, "carol")

	created := alice.done(`{"t":"create","id":"team","name":"The team","members":["bob"]}`)
	const chat = "group.team"
	if created.T != schemas.TCreated || created.Chat != chat {
		t.Fatalf("got %v", created)
	}
	if again := alice.done(`{"t":"create","id":"team","name":"Another"}`); again.Seq != created.Seq {
		t.Errorf("the same create again: %v, want seq %d", again, created.Seq)
	}
	if f := bob.ask(`{"t":"create","id":"team","name":"Mine"}`); f.Code != schemas.Conflict {
		t.Errorf("another's create: %v", f)
	}
	bob.await(func(f frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatAdded })
	bob.event(chat, created.Seq)

	hi := bob.send(chat, "hi")
	alice.event(chat, hi)
	if f := carol.ask(`{"t":"send","id":"x","chat":"%s","type":"message","body":{"kind":"text","text":"hi"}}`, chat); f.Code != schemas.NotMember {
		t.Errorf("a stranger: %v", f)
	}
	added := alice.done(`{"t":"add","chat":"%s","users":["carol","bob"]}`, chat)
	carol.await(func(f frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatAdded })
	if f := carol.event(chat, added.Seq); len(f.Event.Users) != 1 || f.Event.Users[0] != "carol" {
		t.Errorf("who was in already is not added: %v", f)
	}
	if page := carol.page(`{"t":"history","chat":"%s"}`, chat); len(page.Events) != 1 || page.Events[0].Seq != added.Seq || page.More {
		t.Errorf("carol reads %v from before she joined", page.Events)
	}

	removed := alice.done(`{"t":"remove","chat":"%s","users":["bob"]}`, chat)
	bob.event(chat, removed.Seq)
	bob.await(func(f frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatRemoved })
	after := alice.send(chat, "he is gone")
	carol.event(chat, after)
	if f := bob.ask(`{"t":"history","chat":"%s"}`, chat); f.Code != schemas.NotMember {
		t.Errorf("who was removed reads: %v", f)
	}
	for _, f := range bob.quiet() {
		if f.T == schemas.TEvent && f.Seq > removed.Seq {
			t.Errorf("who was removed heard %v", f)
		}
	}
	left := alice.done(`{"t":"leave","chat":"%s"}`, chat)
	carol.event(chat, left.Seq)
	carol.done(`{"t":"rename","chat":"%s","name":"Carol's"}`, chat)
	var members schemas.MembersPage
	carol.answer(&members, `{"t":"members","chat":"%s"}`, chat)
	eventually(t, "the members are stored", func() bool {
		carol.answer(&members, `{"t":"members","chat":"%s"}`, chat)
		return len(members.Members) == 1
	})
	if m := members.Members[0]; m.User != mustUser(t, "carol") || m.Role != schemas.Owner || m.Since != added.Seq {
		t.Errorf("left is %+v", m)
	}
}

func TestTimelineChanges(t *testing.T) {
	t.Parallel()
	d := startDev(t, "")
	alice, bob := d.talk(t, "alice"), d.talk(t, "bob")
	const chat = "direct.alice.bob"
	first, second := alice.send(chat, "frist"), alice.send(chat, "second")
	change := func(c *talker, typ string, target uint64, rest string) frame {
		t.Helper()
		return c.ask(`{"t":"send","id":"%s","chat":"%s","type":"%s","target":%d%s}`, newID(), chat, typ, target, rest)
	}
	edit := change(alice, "edit", first, `,"body":{"kind":"text","text":"first"}`)
	change(bob, "reaction", first, `,"emoji":"👍"`)
	change(alice, "reaction", first, `,"emoji":"👍"`)
	change(bob, "reaction", second, `,"emoji":"🎉"`)
	change(bob, "reaction", second, `,"emoji":"🎉","remove":true`)
	change(bob, "pin", first, "")
	deleted := change(alice, "delete", second, "")
	for what, f := range map[string]frame{
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
	check := func(page schemas.Page) {
		t.Helper()
		items := map[uint64]schemas.Item{}
		for _, item := range page.Events {
			items[item.Seq] = item
		}
		one, two := items[first], items[second]
		if !strings.Contains(string(one.JSON), `"text":"first"`) || one.Edited != edit.Seq || !one.Pinned {
			t.Errorf("the first message is %+v: %s", one, one.JSON)
		}
		if len(one.Reactions) != 1 || one.Reactions[0].Count != 2 || fmt.Sprint(one.Reactions[0].Users) != "[bob alice]" {
			t.Errorf("its reactions are %+v", one.Reactions)
		}
		if !two.Deleted || strings.Contains(string(two.JSON), "second") || len(two.Reactions) > 0 {
			t.Errorf("the second message is %+v: %s", two, two.JSON)
		}
	}
	check(bob.page(`{"t":"history","chat":"%s"}`, chat)) // from the log
	eventually(t, "all is stored", func() bool { return d.metric(t, "parley_persist_events_total") >= 9 })
	check(bob.page(`{"t":"history","chat":"%s"}`, chat))
	raw := alice.page(`{"t":"history","chat":"%s","raw":true}`, chat)
	if len(raw.Events[0].Former) != 1 || !strings.Contains(string(raw.Events[0].Former[0].Body), "frist") {
		t.Errorf("alice's former bodies are %+v", raw.Events[0].Former)
	}
	if raw := bob.page(`{"t":"history","chat":"%s","raw":true}`, chat); len(raw.Events[0].Former) > 0 {
		t.Errorf("bob reads alice's former bodies: %+v", raw.Events[0].Former)
	}
}

func TestChatList(t *testing.T) {
	t.Parallel()
	d := startDev(t, "")
	alice, bob := d.talk(t, "alice"), d.talk(t, "bob")
	alice.done(`{"t":"create","id":"team","name":"The team","members":["bob","carol"]}`)
	alice.send("direct.alice.bob", "one")
	alice.send("direct.alice.bob", "two")
	alice.send("group.team", "hello all")
	bob.send("direct.bob.bob", "a note")
	list := func(c *talker) (page schemas.ChatsPage) {
		c.answer(&page, `{"t":"chats"}`)
		return page
	}
	eventually(t, "bob's chats are stored", func() bool { return len(list(bob).Chats) == 3 })
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
	bob.send("direct.alice.bob", "I have read it")
	if got := list(bob).Chats[0]; got.Chat.String() != "direct.alice.bob" || got.Unread != 0 || got.Read != got.Last.Seq {
		t.Errorf("who sends has read: %+v", got)
	}
	bob.done(`{"t":"mute","chat":"group.team","on":true}`)
	bob.await(func(f frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatMuted })
	bob.done(`{"t":"pin","chat":"group.team","on":true}`)
	bob.done(`{"t":"archive","chat":"direct.bob.bob","on":true}`)
	for _, c := range list(bob).Chats {
		if team := c.Chat.String() == "group.team"; c.Muted != team || c.Pinned != team || c.Archived != (c.Chat.String() == "direct.bob.bob") {
			t.Errorf("settings: %+v", c)
		}
	}
	bob.done(`{"t":"leave","chat":"group.team"}`)
	eventually(t, "the group is gone from bob's list", func() bool { return len(list(bob).Chats) == 2 })
}

func TestUsersAndBlocks(t *testing.T) {
	t.Parallel()
	d := startDev(t, "")
	alice, bob := d.talk(t, "alice"), d.talk(t, "bob")
	alice.done(`{"t":"profile.set","name":"Alice A.","lang":"en-GB"}`)
	alice.done(`{"t":"profile.set","avatar":"01JD"}`)
	var profiles schemas.ProfilesPage
	bob.answer(&profiles, `{"t":"profile","users":["alice","nobody"]}`)
	if p := profiles.Profiles; len(p) != 2 || p[0].Name != "Alice A." || p[0].Lang != "en-GB" || p[0].Avatar != "01JD" || p[1].Name != "" {
		t.Errorf("profiles %+v", p)
	}
	alice.done(`{"t":"block","user":"bob","on":true}`)
	alice.await(func(f frame) bool { return f.T == schemas.TChat && f.Change == schemas.ChatBlocked })
	blocked := func(c *talker) bool {
		return c.ask(`{"t":"send","id":"%s","chat":"direct.alice.bob","type":"message","body":{"kind":"text","text":"hi"}}`, newID()).Code == schemas.Forbidden
	}
	eventually(t, "neither can send", func() bool { return blocked(alice) && blocked(bob) })
	carol := d.talk(t, "bob") // a new session knows of it too
	if !blocked(carol) {
		t.Error("a new session of who is blocked can send")
	}
	if status, body := d.post(t, "bob", "direct.alice.bob", "b1", `{"type":"message","body":{"kind":"text","text":"hi"}}`); status != http.StatusForbidden {
		t.Errorf("over HTTP: %d %s", status, body)
	}
	alice.done(`{"t":"block","user":"bob","on":false}`)
	eventually(t, "both can send", func() bool { return !blocked(alice) && !blocked(bob) })
	for _, f := range bob.quiet() {
		if f.T == schemas.TChat {
			t.Errorf("who is blocked was told: %v", f)
		}
	}
}
