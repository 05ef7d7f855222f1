package e2e

import (
	"testing"
	"time"

	"parley/clients/parley"
	"parley/schemas"
	"parley/tests/harness"
)

// TestGoClientInGroups has the Go client do to the whole server what an application
// of groups does.
func TestGoClientInGroups(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	ctx := t.Context()
	bobHears := make(chan parley.Event, 64)
	bobsChats := make(chan schemas.ChatFrame, 64)
	alice := d.Dial(t, "alice", parley.Options{})
	bob := d.Dial(t, "bob", parley.Options{
		OnEvent: func(ev parley.Event) { bobHears <- ev },
		OnChat:  func(frame schemas.ChatFrame) { bobsChats <- frame },
	})
	must := func(seq uint64, err error) uint64 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	say := func(ack schemas.Ack, err error) uint64 { t.Helper(); return must(ack.Seq, err) }
	change := func(done schemas.Done, err error) uint64 { t.Helper(); return must(done.Seq, err) }
	hear := func(seq uint64, typ schemas.EventType) parley.Event {
		t.Helper()
		ev := receive(t, bobHears)
		if ev.Seq != seq || ev.Type != typ {
			t.Fatalf("bob heard %s %d, want %s %d", ev.Type, ev.Seq, typ, seq)
		}
		return ev
	}

	created, err := alice.Create(ctx, schemas.Create{ID: harness.MustID(t, "team"), Name: "The team"})
	must(created.Seq, err)
	team := created.Chat
	added := change(alice.Add(ctx, team, harness.MustUser(t, "bob")))
	if frame := receive(t, bobsChats); frame.Change != schemas.ChatAdded || frame.Chat != team || frame.Seq != added {
		t.Fatalf("bob was told %+v", frame)
	}
	hear(added, schemas.MemberEvent)
	first := say(alice.Send(ctx, team, harness.MustID(t, "a1"), parley.Text("frist")))
	hear(first, schemas.Message)
	reply := say(bob.Say(ctx, schemas.Send{Chat: team, ID: harness.MustID(t, "b1"), Body: parley.Text("?"), ReplyTo: first, Mentions: []string{"alice"}, TTL: new(uint64(3600))}))
	if ev := hear(reply, schemas.Message); ev.ReplyTo != first || ev.TTL != 3600 || len(ev.Mentions) != 1 {
		t.Errorf("bob heard %+v", ev)
	}
	edited := say(alice.Edit(ctx, team, harness.MustID(t, "a2"), first, parley.Text("first")))
	hear(edited, schemas.Edit)
	hear(say(bob.React(ctx, team, harness.MustID(t, "b2"), first, "👍", true)), schemas.React)
	hear(say(alice.PinMessage(ctx, team, harness.MustID(t, "a3"), first, true)), schemas.Pin)
	hear(say(bob.Delete(ctx, team, harness.MustID(t, "b3"), reply)), schemas.Delete)
	hear(change(alice.Rename(ctx, team, "Us")), schemas.GroupEvent)
	hear(change(alice.SetRole(ctx, team, harness.MustUser(t, "bob"), schemas.Admin)), schemas.MemberEvent)

	page, err := bob.History(ctx, schemas.History{Chat: team, Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	items := map[uint64]schemas.Item{}
	for _, item := range page.Events {
		items[item.Seq] = item
	}
	if one := items[first]; one.Edited != edited || !one.Pinned || len(one.Reactions) != 1 || len(one.Former) != 1 {
		t.Errorf("the first message is %+v", one)
	}
	if !items[reply].Deleted {
		t.Errorf("the reply is %+v", items[reply])
	}

	changeSettings(t, alice, bob, team, bobsChats)

	removed := change(alice.Remove(ctx, team, harness.MustUser(t, "bob")))
	hear(removed, schemas.MemberEvent)
	if frame := receive(t, bobsChats); frame.Change != schemas.ChatRemoved {
		t.Errorf("bob was told %+v", frame)
	}
	if held := bob.Held(); len(held) != 0 {
		t.Errorf("bob holds %v of what he is not in", held)
	}
	change(alice.Leave(ctx, team))
}

// changeSettings has alice and bob change what is their own, and wants bob to be told of
// what concerns him.
func changeSettings(t *testing.T, alice, bob *parley.Client, team schemas.Chat, bobsChats <-chan schemas.ChatFrame) {
	t.Helper()
	ctx := t.Context()
	must := func(_ uint64, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{bob.Mute(ctx, schemas.Mute{Chat: team, On: true}), bob.Pin(ctx, team, true), bob.Archive(ctx, team, true)} {
		must(0, err)
	}
	for _, want := range []schemas.ChatChange{schemas.ChatMuted, schemas.ChatPinned, schemas.ChatArchived} {
		if frame := receive(t, bobsChats); frame.Change != want {
			t.Errorf("bob was told %+v, want %s", frame, want)
		}
	}
	harness.Eventually(t, "all is stored", func() bool {
		chats, err := bob.Chats(ctx, schemas.Chats{})
		members, failed := alice.Members(ctx, schemas.Members{Chat: team})
		return err == nil && failed == nil && len(chats.Chats) == 1 && chats.Chats[0].Name == "Us" && chats.Chats[0].Muted &&
			chats.Chats[0].Role == schemas.Admin && len(members.Members) == 2
	})
	name := "Alice A."
	must(0, alice.SetProfile(ctx, schemas.SetProfile{Name: &name}))
	if profiles, err := bob.Profiles(ctx, harness.MustUser(t, "alice"), harness.MustUser(t, "bob")); err != nil || len(profiles) != 2 || profiles[0].Name != name {
		t.Errorf("profiles %+v: %v", profiles, err)
	}
	must(0, alice.Block(ctx, harness.MustUser(t, "bob"), true))
	must(0, alice.Block(ctx, harness.MustUser(t, "bob"), false))
}

// receive waits for what a callback hands on.
func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(harness.FrameWithin):
		t.Fatal("no callback came")
	}
	return *new(T)
}
