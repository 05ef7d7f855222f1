package main

import (
	"fmt"
	"testing"

	"parley/schemas"
	"parley/tests/cassandra/cassandratest"
)

// onBothStores runs a test on a server with each of the permanent stores.
func onBothStores(t *testing.T, test func(*testing.T, *devServer)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, startDev(t, "", "--user-rate=0"))
	})
	t.Run("Cassandra", func(t *testing.T) {
		t.Parallel()
		address := cassandratest.Shared(t)
		test(t, startDev(t, "", "--user-rate=0", "--store=cql://"+address+"/"+cassandratest.Keyspace(t, address)))
	})
}

// marked waits for a receipt frame of a chat that names a user with at least these
// marks; delivered may have come as read, which implies it.
func (c *talker) marked(chat, user string, delivered, read uint64) frame {
	c.t.Helper()
	return c.await(func(f frame) bool {
		if f.T != schemas.TReceipt || f.Chat != chat {
			return false
		}
		for _, m := range f.Marks {
			if m.User.String() == user && max(m.Delivered, m.Read) >= delivered && m.Read >= read {
				return true
			}
		}
		return false
	})
}

// receipts asks how far the members of a chat, who came in at since, have got, until
// they are as wanted: they may lag by a second.
func (c *talker) receipts(chat string, since uint64, want map[string]schemas.Receipt) {
	c.t.Helper()
	var page schemas.ReceiptsPage
	eventually(c.t, fmt.Sprintf("receipts of %s are as wanted", chat), func() bool {
		c.answer(&page, `{"t":"receipts","chat":%q}`, chat)
		for _, got := range page.Receipts {
			is := want[got.User.String()]
			is.Delivered, is.Read = max(is.Delivered, since), max(is.Read, since)
			if got.Delivered != is.Delivered || got.Read != is.Read {
				return false
			}
		}
		return len(page.Receipts) == len(want)
	})
}

// listed waits until a chat is in the list with these marks.
func (c *talker) listed(chat string, unread, read, delivered uint64) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%s lists %s as read", c.user, chat), func() bool {
		var page schemas.ChatsPage
		c.answer(&page, `{"t":"chats"}`)
		for _, is := range page.Chats {
			if is.Chat.String() == chat {
				return is.Unread == unread && is.Read == read && is.Delivered == delivered
			}
		}
		return false
	})
}

func TestReceiptsFromTheFrameToTheRow(t *testing.T) { onBothStores(t, receiptsFromTheFrameToTheRow) }

func receiptsFromTheFrameToTheRow(t *testing.T, d *devServer) {
	alice, phone, laptop := d.talk(t, "alice"), d.talk(t, "bob"), d.talk(t, "bob")
	const chat = "direct.alice.bob"
	first, second := alice.send(chat, "one"), alice.send(chat, "two")
	phone.event(chat, second)
	laptop.event(chat, second)
	phone.listed(chat, 2, 0, 0)

	if f := phone.done(`{"t":"delivered","chat":%q,"seq":%d}`, chat, second); f.T != schemas.TDone {
		t.Errorf("got %v", f)
	}
	if f := alice.marked(chat, "bob", second, 0); f.Marks[0].Read != 0 {
		t.Errorf("what was delivered is told as read: %v", f)
	}
	laptop.marked(chat, "bob", second, 0)
	phone.done(`{"t":"read","chat":%q,"seq":%d}`, chat, first)
	alice.marked(chat, "bob", 0, first)
	laptop.marked(chat, "bob", 0, first)
	phone.listed(chat, 1, first, second)
	alice.receipts(chat, 0, map[string]schemas.Receipt{"alice": {}, "bob": {Delivered: second, Read: first}})

	// A lower mark, of another session even, changes nothing; the highest is told.
	laptop.done(`{"t":"read","chat":%q,"seq":%d}`, chat, second)
	alice.marked(chat, "bob", 0, second)
	phone.marked(chat, "bob", 0, second)
	laptop.done(`{"t":"delivered","chat":%q,"seq":%d}`, chat, first)
	phone.listed(chat, 0, second, second)
	alice.receipts(chat, 0, map[string]schemas.Receipt{"alice": {}, "bob": {Delivered: second, Read: second}})

	// Sending moves the own mark, and tells nobody.
	answer := phone.send(chat, "three")
	alice.event(chat, answer)
	phone.listed(chat, 0, answer, answer)
	alice.receipts(chat, 0, map[string]schemas.Receipt{"alice": {}, "bob": {Delivered: second, Read: second}})

	for _, wrong := range []struct {
		code   schemas.Code
		format string
		args   []any
	}{
		{schemas.Invalid, `{"t":"read","chat":%q,"seq":%d}`, []any{chat, answer + 1}},
		{schemas.Invalid, `{"t":"delivered","chat":%q,"seq":%d}`, []any{"direct.bob.zoe", 7}},
		{schemas.Invalid, `{"t":"read","chat":%q}`, []any{chat}},
		{schemas.Invalid, `{"t":"read","chat":%q,"seq":0}`, []any{chat}},
		{schemas.NotMember, `{"t":"read","chat":"direct.alice.zoe","seq":1}`, nil},
		{schemas.NotMember, `{"t":"read","chat":"group.nowhere","seq":1}`, nil},
		{schemas.NotMember, `{"t":"receipts","chat":"direct.alice.zoe"}`, nil},
		{schemas.NotMember, `{"t":"receipts","chat":"group.nowhere"}`, nil},
	} {
		if f := phone.ask(wrong.format, wrong.args...); f.Code != wrong.code {
			t.Errorf("%s %v: got %v, want %s", wrong.format, wrong.args, f, wrong.code)
		}
	}
}

// TestReadReceiptsAreSwitchedOffBothWays: who hides what it has read is not told what
// others have; its own sessions and its unread counts go on.
func TestReadReceiptsAreSwitchedOffBothWays(t *testing.T) {
	onBothStores(t, readReceiptsAreSwitchedOffBothWays)
}

func readReceiptsAreSwitchedOffBothWays(t *testing.T, d *devServer) {
	alice, bob, laptop := d.talk(t, "alice"), d.talk(t, "bob"), d.talk(t, "bob")
	const chat = "direct.alice.bob"
	bob.done(`{"t":"profile.set","readReceipts":false}`)
	eventually(t, "bob's profile tells it to bob alone", func() bool {
		var own, others schemas.ProfilesPage
		bob.answer(&own, `{"t":"profile","users":["bob"]}`)
		alice.answer(&others, `{"t":"profile","users":["bob"]}`)
		return own.Profiles[0].ReadReceipts != nil && !*own.Profiles[0].ReadReceipts && others.Profiles[0].ReadReceipts == nil
	})
	said := alice.send(chat, "hi")
	bob.event(chat, said)
	bob.done(`{"t":"read","chat":%q,"seq":%d}`, chat, said)
	if f := alice.marked(chat, "bob", said, 0); f.Marks[0].Read != 0 {
		t.Errorf("alice is told %v", f)
	}
	laptop.marked(chat, "bob", 0, said)
	bob.listed(chat, 0, said, said)
	alice.receipts(chat, 0, map[string]schemas.Receipt{"alice": {}, "bob": {Delivered: said}})

	answer := bob.send(chat, "hello")
	alice.event(chat, answer)
	alice.done(`{"t":"read","chat":%q,"seq":%d}`, chat, answer)
	for _, session := range []*talker{bob, laptop} {
		if f := session.marked(chat, "alice", answer, 0); f.Marks[0].Read != 0 {
			t.Errorf("bob is told %v", f)
		}
	}
	bob.receipts(chat, 0, map[string]schemas.Receipt{"alice": {Delivered: answer}, "bob": {Delivered: said}})

	bob.done(`{"t":"profile.set","readReceipts":true}`)
	bob.receipts(chat, 0, map[string]schemas.Receipt{"alice": {Delivered: answer, Read: answer}, "bob": {Delivered: said}})
	bob.done(`{"t":"read","chat":%q,"seq":%d}`, chat, answer)
	alice.marked(chat, "bob", 0, answer)
	for _, f := range alice.quiet() {
		if f.T == schemas.TChat {
			t.Errorf("alice heard %v", f)
		}
	}
}

// TestLargeGroupsTellLess: over 32 members not what was delivered, over 256 nothing
// live; what was read is kept in all of them.
func TestLargeGroupsTellLess(t *testing.T) { onBothStores(t, largeGroupsTellLess) }

func largeGroupsTellLess(t *testing.T, d *devServer) {
	alice, bob, laptop := d.talk(t, "alice"), d.talk(t, "bob"), d.talk(t, "bob")
	for _, group := range []struct {
		id                     string
		members                int // beside alice and bob
		delivered, live, reads bool
	}{
		{"small", schemas.DeliveredMembersMax - 2, true, true, true},
		{"middle", schemas.DeliveredMembersMax - 1, false, true, true},
		{"wide", schemas.ReadMembersMax - 2, false, true, true},
		{"large", schemas.ReadMembersMax - 1, false, false, false},
	} {
		chat := "group." + group.id
		members := `"bob"`
		for i := range group.members {
			members += fmt.Sprintf(`,"m%d"`, i)
		}
		alice.done(`{"t":"create","id":%q,"name":"x","members":[%s]}`, group.id, members)
		bob.await(func(f frame) bool { return f.T == schemas.TChat && f.Chat == chat })
		said := alice.send(chat, "hi all")
		bob.event(chat, said)
		bob.done(`{"t":"delivered","chat":%q,"seq":%d}`, chat, said)
		if group.delivered {
			alice.marked(chat, "bob", said, 0)
		}
		bob.done(`{"t":"read","chat":%q,"seq":%d}`, chat, said)
		if group.live {
			alice.marked(chat, "bob", 0, said)
		}
		laptop.marked(chat, "bob", 0, said) // also where nobody else is told
		bob.listed(chat, 0, said, said)
		for _, f := range alice.quiet() {
			if f.T == schemas.TReceipt && (!group.live || !group.delivered && f.Marks[0].Read == 0) {
				t.Errorf("%s: alice is told %v", group.id, f)
			}
		}
		var page schemas.ReceiptsPage
		alice.answer(&page, `{"t":"receipts","chat":%q,"limit":1000}`, chat)
		if len(page.Receipts) != group.members+2 {
			t.Errorf("%s: %d receipts, want %d", group.id, len(page.Receipts), group.members+2)
		}
		for _, r := range page.Receipts {
			if r.User.String() == "bob" && (r.Read == said) != group.reads {
				t.Errorf("%s: bob's receipt is %+v", group.id, r)
			}
		}
	}
}

// TestBlockedUsersTellEachOtherNothing: neither receipts nor typing, in groups too.
func TestBlockedUsersTellEachOtherNothing(t *testing.T) {
	t.Parallel()
	d := startDev(t, "")
	alice, bob, carol := d.talk(t, "alice"), d.talk(t, "bob"), d.talk(t, "carol")
	const direct, group = "direct.alice.bob", "group.team"
	created := alice.done(`{"t":"create","id":"team","name":"The team","members":["bob","carol"]}`).Seq
	for _, c := range []*talker{bob, carol} {
		c.await(func(f frame) bool { return f.T == schemas.TChat && f.Chat == group })
	}
	said, toAll := alice.send(direct, "hi"), alice.send(group, "hi all")
	bob.event(direct, said)
	bob.event(group, toAll)
	carol.event(group, toAll)
	bob.done(`{"t":"block","user":"alice","on":true}`)
	eventually(t, "the block is in force", func() bool {
		f := alice.ask(`{"t":"send","id":%q,"chat":%q,"type":"message","body":{"kind":"text","text":"?"}}`, newID(), direct)
		said = max(said, f.Seq)
		return f.Code == schemas.Forbidden
	})
	for chat, seq := range map[string]uint64{direct: said, group: toAll} {
		bob.done(`{"t":"read","chat":%q,"seq":%d}`, chat, seq)
		bob.done(`{"t":"typing","chat":%q}`, chat)
	}
	bob.listed(direct, 0, said, said)
	bob.listed(group, 0, toAll, toAll)
	carol.marked(group, "bob", 0, toAll)
	carol.await(func(f frame) bool { return f.T == schemas.TTyping })
	carol.done(`{"t":"read","chat":%q,"seq":%d}`, group, toAll)
	alice.marked(group, "carol", 0, toAll)
	for _, f := range alice.quiet() {
		if f.T == schemas.TTyping {
			t.Errorf("alice is told %v", f)
		}
		for _, m := range f.Marks {
			if m.User.String() == "bob" {
				t.Errorf("alice is told %v", f)
			}
		}
	}
	alice.receipts(group, created, map[string]schemas.Receipt{"alice": {}, "bob": {}, "carol": {Delivered: toAll, Read: toAll}})
}
