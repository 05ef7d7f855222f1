package e2e

import (
	"fmt"
	"testing"

	"parley/schemas"
	"parley/tests/cassandra/cassandratest"
	"parley/tests/harness"
)

// onBothStores runs a test on a server with each of the permanent stores.
func onBothStores(t *testing.T, test func(*testing.T, *harness.DevServer)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, harness.StartDev(t, "", "--user-rate=0"))
	})
	t.Run("Cassandra", func(t *testing.T) {
		t.Parallel()
		address := cassandratest.Shared(t)
		test(t, harness.StartDev(t, "", "--user-rate=0", "--store=cql://"+address+"/"+cassandratest.Keyspace(t, address)))
	})
}

func TestReceiptsFromTheFrameToTheRow(t *testing.T) { onBothStores(t, receiptsFromTheFrameToTheRow) }

func receiptsFromTheFrameToTheRow(t *testing.T, d *harness.DevServer) {
	alice, phone, laptop := d.Talk(t, "alice"), d.Talk(t, "bob"), d.Talk(t, "bob")
	const chat = "direct.alice.bob"
	first, second := alice.Send(chat, "one"), alice.Send(chat, "two")
	phone.AwaitEvent(chat, second)
	laptop.AwaitEvent(chat, second)
	phone.WantListed(chat, 2, 0, 0)

	if f := phone.Do(`{"t":"delivered","chat":%q,"seq":%d}`, chat, second); f.T != schemas.TDone {
		t.Errorf("got %v", f)
	}
	if f := alice.AwaitMark(chat, "bob", second, 0); f.Marks[0].Read != 0 {
		t.Errorf("what was delivered is told as read: %v", f)
	}
	laptop.AwaitMark(chat, "bob", second, 0)
	phone.Do(`{"t":"read","chat":%q,"seq":%d}`, chat, first)
	alice.AwaitMark(chat, "bob", 0, first)
	laptop.AwaitMark(chat, "bob", 0, first)
	phone.WantListed(chat, 1, first, second)
	alice.WantReceipts(chat, 0, map[string]schemas.Receipt{"alice": {}, "bob": {Delivered: second, Read: first}})

	// A lower mark, of another session even, changes nothing; the highest is told.
	laptop.Do(`{"t":"read","chat":%q,"seq":%d}`, chat, second)
	alice.AwaitMark(chat, "bob", 0, second)
	phone.AwaitMark(chat, "bob", 0, second)
	laptop.Do(`{"t":"delivered","chat":%q,"seq":%d}`, chat, first)
	phone.WantListed(chat, 0, second, second)
	alice.WantReceipts(chat, 0, map[string]schemas.Receipt{"alice": {}, "bob": {Delivered: second, Read: second}})

	// Sending moves the own mark, and tells nobody.
	answer := phone.Send(chat, "three")
	alice.AwaitEvent(chat, answer)
	phone.WantListed(chat, 0, answer, answer)
	alice.WantReceipts(chat, 0, map[string]schemas.Receipt{"alice": {}, "bob": {Delivered: second, Read: second}})

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
		if f := phone.Ask(wrong.format, wrong.args...); f.Code != wrong.code {
			t.Errorf("%s %v: got %v, want %s", wrong.format, wrong.args, f, wrong.code)
		}
	}
}

// TestReadReceiptsAreSwitchedOffBothWays: who hides what it has read is not told what
// others have; its own sessions and its unread counts go on.
func TestReadReceiptsAreSwitchedOffBothWays(t *testing.T) {
	onBothStores(t, readReceiptsAreSwitchedOffBothWays)
}

func readReceiptsAreSwitchedOffBothWays(t *testing.T, d *harness.DevServer) {
	alice, bob, laptop := d.Talk(t, "alice"), d.Talk(t, "bob"), d.Talk(t, "bob")
	const chat = "direct.alice.bob"
	bob.Do(`{"t":"profile.set","readReceipts":false}`)
	harness.Eventually(t, "bob's profile tells it to bob alone", func() bool {
		var own, others schemas.ProfilesPage
		bob.Answer(&own, `{"t":"profile","users":["bob"]}`)
		alice.Answer(&others, `{"t":"profile","users":["bob"]}`)
		return own.Profiles[0].ReadReceipts != nil && !*own.Profiles[0].ReadReceipts && others.Profiles[0].ReadReceipts == nil
	})
	said := alice.Send(chat, "hi")
	bob.AwaitEvent(chat, said)
	bob.Do(`{"t":"read","chat":%q,"seq":%d}`, chat, said)
	if f := alice.AwaitMark(chat, "bob", said, 0); f.Marks[0].Read != 0 {
		t.Errorf("alice is told %v", f)
	}
	laptop.AwaitMark(chat, "bob", 0, said)
	bob.WantListed(chat, 0, said, said)
	alice.WantReceipts(chat, 0, map[string]schemas.Receipt{"alice": {}, "bob": {Delivered: said}})

	answer := bob.Send(chat, "hello")
	alice.AwaitEvent(chat, answer)
	alice.Do(`{"t":"read","chat":%q,"seq":%d}`, chat, answer)
	for _, session := range []*harness.Talker{bob, laptop} {
		if f := session.AwaitMark(chat, "alice", answer, 0); f.Marks[0].Read != 0 {
			t.Errorf("bob is told %v", f)
		}
	}
	bob.WantReceipts(chat, 0, map[string]schemas.Receipt{"alice": {Delivered: answer}, "bob": {Delivered: said}})

	bob.Do(`{"t":"profile.set","readReceipts":true}`)
	bob.WantReceipts(chat, 0, map[string]schemas.Receipt{"alice": {Delivered: answer, Read: answer}, "bob": {Delivered: said}})
	bob.Do(`{"t":"read","chat":%q,"seq":%d}`, chat, answer)
	alice.AwaitMark(chat, "bob", 0, answer)
	for _, f := range alice.Quiet() {
		if f.T == schemas.TChat {
			t.Errorf("alice heard %v", f)
		}
	}
}

// TestLargeGroupsTellLess: over 32 members not what was delivered, over 256 nothing
// live; what was read is kept in all of them.
func TestLargeGroupsTellLess(t *testing.T) { onBothStores(t, largeGroupsTellLess) }

func largeGroupsTellLess(t *testing.T, d *harness.DevServer) {
	alice, bob, laptop := d.Talk(t, "alice"), d.Talk(t, "bob"), d.Talk(t, "bob")
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
		alice.Do(`{"t":"create","id":%q,"name":"x","members":[%s]}`, group.id, members)
		bob.Await(func(f harness.Frame) bool { return f.T == schemas.TChat && f.Chat == chat })
		said := alice.Send(chat, "hi all")
		bob.AwaitEvent(chat, said)
		bob.Do(`{"t":"delivered","chat":%q,"seq":%d}`, chat, said)
		if group.delivered {
			alice.AwaitMark(chat, "bob", said, 0)
		}
		bob.Do(`{"t":"read","chat":%q,"seq":%d}`, chat, said)
		if group.live {
			alice.AwaitMark(chat, "bob", 0, said)
		}
		laptop.AwaitMark(chat, "bob", 0, said) // also where nobody else is told
		bob.WantListed(chat, 0, said, said)
		for _, f := range alice.Quiet() {
			if f.T == schemas.TReceipt && (!group.live || !group.delivered && f.Marks[0].Read == 0) {
				t.Errorf("%s: alice is told %v", group.id, f)
			}
		}
		var page schemas.ReceiptsPage
		alice.Answer(&page, `{"t":"receipts","chat":%q,"limit":1000}`, chat)
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
	d := harness.StartDev(t, "")
	alice, bob, carol := d.Talk(t, "alice"), d.Talk(t, "bob"), d.Talk(t, "carol")
	const direct, group = "direct.alice.bob", "group.team"
	created := alice.Do(`{"t":"create","id":"team","name":"The team","members":["bob","carol"]}`).Seq
	for _, c := range []*harness.Talker{bob, carol} {
		c.Await(func(f harness.Frame) bool { return f.T == schemas.TChat && f.Chat == group })
	}
	said, toAll := alice.Send(direct, "hi"), alice.Send(group, "hi all")
	bob.AwaitEvent(direct, said)
	bob.AwaitEvent(group, toAll)
	carol.AwaitEvent(group, toAll)
	bob.Do(`{"t":"block","user":"alice","on":true}`)
	harness.Eventually(t, "the block is in force", func() bool {
		f := alice.Ask(`{"t":"send","id":%q,"chat":%q,"type":"message","body":{"kind":"text","text":"?"}}`, harness.NewID(), direct)
		said = max(said, f.Seq)
		return f.Code == schemas.Forbidden
	})
	for chat, seq := range map[string]uint64{direct: said, group: toAll} {
		bob.Do(`{"t":"read","chat":%q,"seq":%d}`, chat, seq)
		bob.Do(`{"t":"typing","chat":%q}`, chat)
	}
	bob.WantListed(direct, 0, said, said)
	bob.WantListed(group, 0, toAll, toAll)
	carol.AwaitMark(group, "bob", 0, toAll)
	carol.Await(func(f harness.Frame) bool { return f.T == schemas.TTyping })
	carol.Do(`{"t":"read","chat":%q,"seq":%d}`, group, toAll)
	alice.AwaitMark(group, "carol", 0, toAll)
	for _, f := range alice.Quiet() {
		if f.T == schemas.TTyping {
			t.Errorf("alice is told %v", f)
		}
		for _, m := range f.Marks {
			if m.User.String() == "bob" {
				t.Errorf("alice is told %v", f)
			}
		}
	}
	alice.WantReceipts(group, created, map[string]schemas.Receipt{"alice": {}, "bob": {}, "carol": {Delivered: toAll, Read: toAll}})
}
