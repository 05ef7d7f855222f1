package chats_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/schemas"
	"parley/workers/chats"
	"parley/workers/store"
)

// first is the seq of a group's first event, and 0 for a direct chat: what was said
// before a member came in, it has.
func (w *world) first(chat schemas.Chat) uint64 {
	w.T.Helper()
	if chat.Kind() == schemas.Direct {
		return 0
	}
	return w.timeline(chat)[0].Seq
}

// wantReceipts checks what a user is told of a chat, as "user delivered/read" from the
// chat's first seq on.
func (w *world) wantReceipts(when string, chat schemas.Chat, by string, want ...string) {
	w.T.Helper()
	first := w.first(chat)
	for _, limit := range []int{1, 1000} {
		var got []string
		for _, r := range w.receipts(chat, by, limit) {
			got = append(got, fmt.Sprintf("%s %d/%d", r.User, r.Delivered-first, r.Read-first))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.T.Errorf("%s: receipts of %s for %s in pages of %d (-want +got):\n%s", when, chat, by, limit, diff)
		}
	}
}

func TestReceiptsOfDirectChats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	chat, alice, bob := w.chat("direct.alice.bob"), w.user("alice"), w.user("bob")
	w.wantReceipts("nobody has told anything", chat, "alice", "alice 0/0", "bob 0/0")
	w.mark(store.Mark{Chat: chat, User: bob, Delivered: 7})
	w.wantReceipts("delivered", chat, "alice", "alice 0/0", "bob 7/0")
	w.mark(store.Mark{Chat: chat, User: bob, Read: 9, ReadN: 2, Told: true})
	w.mark(store.Mark{Chat: chat, User: alice, Delivered: 12, Read: 11, ReadN: 3}) // which it hides
	w.wantReceipts("what was read was delivered", chat, "alice", "alice 12/0", "bob 9/9")
	w.wantReceipts("to the other", chat, "bob", "alice 12/0", "bob 9/9")
	w.mark(store.Mark{Chat: w.chat("direct.bob.bob"), User: bob, Read: 3, ReadN: 1, Told: true})
	w.wantReceipts("notes to oneself", w.chat("direct.bob.bob"), "bob", "bob 3/3")
}

func TestReceiptsOfGroupsByPages(t *testing.T) {
	t.Parallel()
	var clock clock
	w := newWorld(t)
	w.serve(func(cfg *chats.Config) { cfg.Now = clock.now })
	var names []string
	for i := range schemas.DeliveredMembersMax - 1 {
		names = append(names, fmt.Sprintf("u%02d", i))
	}
	chat := w.create("g", "olga", names...)
	first := w.first(chat)
	all := append([]string{"olga"}, names...)
	// Every second has told something, the last ones but what was delivered.
	want := func(left, large bool) (lines []string) {
		for i, name := range all {
			delivered, read := uint64(0), uint64(0)
			if i%2 > 0 {
				if delivered = uint64(100 + i); i < 20 {
					read = uint64(50 + i)
				}
			}
			if large {
				delivered = read
			}
			if !left || name != "u07" {
				lines = append(lines, fmt.Sprintf("%s %d/%d", name, delivered, read))
			}
		}
		return lines
	}
	for i, name := range all {
		if i%2 == 0 {
			continue
		}
		m := store.Mark{Chat: chat, User: w.user(name), Delivered: first + uint64(100+i)}
		if i < 20 {
			m.Read, m.ReadN, m.Told = first+uint64(50+i), 1, true
		}
		w.mark(m)
	}
	w.mark(store.Mark{Chat: chat, User: w.user("gone"), Delivered: 5})
	for _, by := range []string{"olga", "u00", "u07"} {
		w.wantReceipts("as many members as are told all", chat, by, want(false, false)...)
	}
	since := w.done(schemas.TAdd, "olga", `"chat":%q,"users":["zoe"]`, chat).Seq - first
	w.wantReceipts("one more", chat, "u07", append(want(false, true), fmt.Sprintf("zoe %d/%d", since, since))...)
	w.done(schemas.TRemove, "olga", `"chat":%q,"users":["zoe","u07"]`, chat)
	w.wantReceipts("two fewer", chat, "u01", want(true, false)...)

	if r := w.done(schemas.TReceipts, "u01", `"chat":%q`, chat); len(r.Receipts) != len(all)-1 || r.Cursor != "" {
		t.Errorf("without a limit there are %d, and the cursor %q", len(r.Receipts), r.Cursor)
	}
	cursor := w.done(schemas.TReceipts, "olga", `"chat":%q,"limit":3`, chat).Cursor
	clock.advance(schemas.CursorFor + time.Second)
	for _, old := range []string{cursor, cursor[1:]} {
		if r := w.ask(schemas.TReceipts, "olga", `"chat":%q,"limit":3,"cursor":%q`, chat, old); r.Code != schemas.Invalid {
			t.Errorf("cursor %.40s, too old or none: %q", old, r.Code)
		}
	}
}

// TestReceiptsKeepToWhatUsersHide: who tells nobody what it has read is not told
// either, and between two who do not talk there is nothing.
func TestReceiptsKeepToWhatUsersHide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	on, off, now := true, false, time.Now()
	names := []string{"alice", "bob", "carol"}
	chat := w.create("g", names[0], names[1:]...)
	first := w.first(chat)
	for i, name := range names {
		w.mark(store.Mark{Chat: chat, User: w.user(name), Delivered: first + uint64(20+i), Read: first + uint64(10+i), ReadN: 1, Told: true})
	}
	w.mark(store.Mark{Chat: chat, User: w.user("carol"), Read: first + 30, ReadN: 2, Told: true})
	w.wantReceipts("all is told", chat, "alice", "alice 20/10", "bob 21/11", "carol 30/30")

	set := func(receipts *bool) {
		t.Helper()
		now = now.Add(time.Second)
		if err := w.Store.SetProfile(t.Context(), w.user("alice"), schemas.SetProfile{ReadReceipts: receipts}, now); err != nil {
			t.Fatal(err)
		}
	}
	set(&off)
	w.wantReceipts("alice hides", chat, "alice", "alice 20/10", "bob 21/0", "carol 30/0")
	w.wantReceipts("alice has told before", chat, "bob", "alice 20/10", "bob 21/11", "carol 30/30")
	set(&on)

	for _, block := range []struct{ by, other string }{{"alice", "bob"}, {"carol", "alice"}} {
		if err := w.Store.SetBlock(t.Context(), w.user(block.by), w.user(block.other), true, now); err != nil {
			t.Fatal(err)
		}
	}
	w.wantReceipts("of whom alice blocks, and who blocks her", chat, "alice", "alice 20/10", "bob 0/0", "carol 0/0")
	w.wantReceipts("to the blocked one", chat, "bob", "alice 0/0", "bob 21/11", "carol 30/30")

	var more []string
	for i := range schemas.DeliveredMembersMax {
		more = append(more, fmt.Sprintf("m%d", i))
	}
	set(&off)
	added := w.done(schemas.TAdd, "alice", `"chat":%q,"users":%s`, chat, quoted(more)).Seq
	for _, r := range w.receipts(chat, "alice", 100) {
		if own := r.User == w.user("alice"); own && r.Read != first+10 || r.Delivered != r.Read || !own && r.Read != first && r.Read != added {
			t.Errorf("alice hides, in a large group: %+v", r)
		}
	}
}

func TestReceiptsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	chat := w.create("g", "olga", "bob", "eve")
	w.done(schemas.TLeave, "eve", `"chat":%q`, chat)
	for _, c := range []struct {
		by, members string
		want        schemas.Code
	}{
		{"carol", `"chat":"group.g"`, schemas.NotMember},
		{"eve", `"chat":"group.g"`, schemas.NotMember},
		{"carol", `"chat":"group.none"`, schemas.NotMember},
		{"carol", `"chat":"direct.alice.bob"`, schemas.NotMember},
		{"bob", `"limit":5`, schemas.Invalid},
		{"bob", `"chat":"group.g","limit":0`, schemas.Invalid},
		{"bob", `"chat":"group.g","cursor":"` + strings.Repeat("x", schemas.CursorBytesMax+1) + `"`, schemas.Invalid},
	} {
		if r := w.ask(schemas.TReceipts, c.by, "%s", c.members); r.Code != c.want {
			t.Errorf("%s, %.50s: %q, want %q", c.by, c.members, r.Code, c.want)
		}
	}
	w.Store.Close()
	for _, chat := range []string{"group.g", "direct.bob.olga"} {
		if r := w.ask(schemas.TReceipts, "bob", `"chat":%q`, chat); r.Code != schemas.Unavailable {
			t.Errorf("without a store, %s: %q", chat, r.Code)
		}
	}
}
