package chats_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/schemas"
	"parley/workers/chats"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

func TestListsAreAsTheLogMakesThem(t *testing.T) {
	t.Parallel()
	const rounds = 4
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(7, uint64(round)))
			w := newWorld(t)
			w.serve(nil)
			m := &listModel{world: w, events: make(map[schemas.Chat][]schemas.StoredEvent), stored: make(map[schemas.Chat]int), marks: make(map[markOf]store.Mark)}
			happen := func(n int) {
				for range n {
					m.happen(random)
				}
			}
			happen(150)
			m.check("nothing is stored")
			m.persist()
			m.check("all is stored")
			happen(60)
			m.check("with tails")
			m.persist()
			m.expire()
			m.check("the log has expired")
			happen(15)
			m.check("with tails of some")
		})
	}
}

// TestListFollowsItsUserThroughTheTail: out of a group, and in again, by events
// that are not stored.
func TestListFollowsItsUserThroughTheTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	chat := w.create("g", "olga", "bob")
	w.say(chat, "olga", "one")
	w.PersistAll()
	if list := w.list("bob", 5); len(list) != 1 || list[0].Unread != 1 || list[0].Role != schemas.Member {
		t.Errorf("stored: %+v", list)
	}
	w.done(schemas.TRemove, "olga", `"chat":%q,"users":["bob"]`, chat)
	if list := w.list("bob", 5); len(list) != 0 {
		t.Errorf("removed: %+v", list)
	}
	w.say(chat, "olga", "two")
	w.say(chat, "olga", "three")
	back := w.done(schemas.TAdd, "olga", `"chat":%q,"users":["bob"]`, chat).Seq
	w.done(schemas.TRole, "olga", `"chat":%q,"user":"bob","role":"admin"`, chat)
	w.say(chat, "olga", "four")
	list := w.list("bob", 5)
	if len(list) != 1 || list[0].Unread != 1 || list[0].Read != back || list[0].Role != schemas.Admin || list[0].Last.N != 4 {
		t.Errorf("in again: %+v", list)
	}
	w.done(schemas.TLeave, "bob", `"chat":%q`, chat)
	if list := w.list("bob", 5); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}

// hookedStore calls a hook once, behind the first read of a user's chats.
type hookedStore struct {
	*sqlite.Store
	hook func()
}

func (s *hookedStore) UserChats(ctx context.Context, user schemas.User, kind schemas.ChatKind, limit int) ([]store.UserChat, error) {
	rows, err := s.Store.UserChats(ctx, user, kind, limit)
	s.hook()
	return rows, err
}

// TestUnreadOfWhatIsStoredMeanwhile: marks are not older than the heads that they
// are counted from, and who leaves meanwhile is not in the list.
func TestUnreadOfWhatIsStoredMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hooked := &hookedStore{Store: w.Store}
	hooked.hook = sync.OnceFunc(w.PersistAll)
	chat, group := w.chat("direct.alice.bob"), w.chat("group.g")
	stop := w.serve(nil)
	w.create("g", "bob", "alice")
	w.say(chat, "bob", "one")
	w.PersistAll()
	w.say(chat, "alice", "two")
	w.say(chat, "bob", "three")
	w.done(schemas.TLeave, "alice", `"chat":%q`, group)
	stop()
	w.serve(func(cfg *chats.Config) { cfg.Store = hooked })
	if list := w.list("alice", 5); len(list) != 1 || list[0].Unread != 1 {
		t.Errorf("alice has %+v", list)
	}
}

// TestMarksAheadOfTheirTail: what the user has sent itself, and is not stored, does
// not take back what it has read after.
func TestMarksAheadOfTheirTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	chat := w.chat("direct.alice.bob")
	w.say(chat, "bob", "one")
	w.PersistAll()
	w.say(chat, "alice", "two")
	three := w.say(chat, "bob", "three")
	w.mark(store.Mark{Chat: chat, User: w.user("alice"), Read: three, ReadN: 3})
	four := w.say(chat, "bob", "four")
	w.mark(store.Mark{Chat: chat, User: w.user("alice"), Delivered: four})
	if c := w.list("alice", 5)[0]; c.Unread != 1 || c.Read != three || c.Delivered != four {
		t.Errorf("alice has %+v, want 1 unread, read %d, delivered %d", c, three, four)
	}
	if c := w.list("bob", 5)[0]; c.Unread != 0 || c.Read != four || c.Delivered != four {
		t.Errorf("bob has %+v, want all read and delivered", c)
	}
}

// TestUnreadWhileItIsStored: whenever it is asked, and wherever the store is by
// then, a list counts exactly. Of two who take turns nobody has more than one unread.
func TestUnreadWhileItIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	chat := w.chat("direct.alice.bob")
	w.say(chat, "bob", "hi")
	w.PersistAll()
	w.Persist()
	var talking sync.WaitGroup
	done := make(chan struct{})
	talking.Go(func() {
		defer close(done)
		for i := range 1500 {
			data := fmt.Sprintf(`{"type":"message","id":"t%d","from":%q,"body":{"kind":"text","text":"x"}}`, i, []string{"alice", "bob"}[i%2])
			if _, err := w.EdgeJS.Publish(t.Context(), w.Layout.Shard(chat).Timeline(chat), []byte(data)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	asked, wrong, last := 0, 0, uint64(0)
	for more := true; more; asked++ {
		select {
		case <-done:
			more = false
		default:
		}
		c := w.list("alice", 1)[0]
		ev, err := schemas.DecodeEvent(c.Last.JSON)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]uint64{"alice": 0, "bob": 1}[ev.From.String()]; c.Unread != want || c.Last.Seq < last {
			if wrong++; wrong < 5 {
				t.Errorf("list %d: the last is %s of %s, the mark %d, and unread %d", asked, c.Last.JSON, chat, c.Read, c.Unread)
			}
		}
		last = c.Last.Seq
	}
	talking.Wait()
	t.Logf("%d lists, %d wrong", asked, wrong)
}

// TestLongTextIsCutAndLongNamesHaveCursors: what is long has room in answers and cursors.
func TestLongTextIsCutAndLongNamesHaveCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(nil)
	long := strings.Repeat("x", schemas.TokenBytesMax-1)
	me := "a" + long
	for i := range 3 {
		chat := schemas.DirectChat(w.user(me), w.user(fmt.Sprintf("%c%s", 'b'+i, long)))
		w.say(chat, me, strings.Repeat("y", 5000))
	}
	w.PersistAll()
	for _, when := range []string{"in the log", "in the store"} {
		list := w.list(me, 1)
		if len(list) != 3 {
			t.Fatalf("%s: %d chats", when, len(list))
		}
		for i, c := range list {
			if a, b, _ := c.Chat.Users(); b.String()[0] != 'd'-byte(i) && a.String() != me {
				t.Errorf("%s: chat %d is %s", when, i, c.Chat)
			}
			if !c.Last.Cut || len(c.Last.JSON) > schemas.CutTextBytesMax+300 || !bytes.Contains(c.Last.JSON, []byte("yyyy")) {
				t.Errorf("%s: last of %s has %d bytes, cut is %v", when, c.Chat, len(c.Last.JSON), c.Last.Cut)
			}
		}
		w.expire()
	}
}

func TestSettingsInLists(t *testing.T) {
	t.Parallel()
	var clock clock
	w := newWorld(t)
	w.serve(func(cfg *chats.Config) { cfg.Now = clock.now })
	a, b := w.chat("direct.alice.bob"), w.chat("direct.alice.carol")
	w.say(a, "bob", "hi")
	w.say(b, "carol", "hi")
	w.PersistAll()
	w.done(schemas.TMute, "alice", `"chat":%q,"on":true,"until":%q`, a, time.Now().Add(time.Hour).Format(time.RFC3339))
	w.done(schemas.TMute, "alice", `"chat":%q,"on":true`, b)
	w.done(schemas.TPin, "alice", `"chat":%q,"on":true`, a)
	w.done(schemas.TArchive, "alice", `"chat":%q,"on":true`, b)
	list := w.list("alice", 10) // carol's is first
	if !list[1].Muted || list[1].MutedUntil.IsZero() || !list[1].Pinned || list[1].Archived || !list[0].Muted || list[0].Pinned || !list[0].Archived {
		t.Errorf("the list is %+v", list)
	}
	clock.advance(2 * time.Hour)
	if list = w.list("alice", 10); list[1].Muted || !list[1].MutedUntil.IsZero() || !list[0].Muted {
		t.Errorf("two hours later the list is %+v", list)
	}
	for _, c := range w.list("bob", 10) {
		if c.Muted || c.Pinned {
			t.Errorf("bob's list has alice's settings: %+v", c)
		}
	}
}

// TestDisappearedMessagesAreNotShown, whether they were stored or not, as the last of a chat.
func TestDisappearedMessagesAreNotShown(t *testing.T) {
	t.Parallel()
	var clock clock
	w := newWorld(t)
	w.serve(func(cfg *chats.Config) { cfg.Now = clock.now })
	w.storeExpired(w.chat("direct.alice.bob"), 3, 1)   // of three messages the first stays
	w.storeExpired(w.chat("direct.alice.carol"), 2, 0) // none stays
	tail := w.chat("direct.alice.dave")
	stays := w.say(tail, "dave", "stays")
	w.PersistAll()
	// The log still has it: its limit per message is that of the edge's publication.
	gone := w.put(tail, `"from":"dave","body":{"kind":"text","text":"secret"},"ttl":60`)
	check := func(when string, wantTail uint64) {
		t.Helper()
		byChat := make(map[string]schemas.ListChat)
		for _, c := range w.list("alice", 2) {
			byChat[c.Chat.String()] = c
			if c.Last.Seq != gone && bytes.Contains(c.Last.JSON, []byte("secret")) {
				t.Errorf("%s: %s shows %s", when, c.Chat, c.Last.JSON)
			}
		}
		if c := byChat["direct.alice.bob"]; c.Last.Seq != 1 || c.Last.N != 1 || c.Last.Deleted || c.Unread != 3 {
			t.Errorf("%s: of one that stays: %+v, unread %d", when, c.Last, c.Unread)
		}
		c := byChat["direct.alice.carol"]
		if c.Last.Seq != 2 || c.Last.N != 2 || !c.Last.Deleted || c.Unread != 2 {
			t.Errorf("%s: of none that stays: %+v, unread %d", when, c.Last, c.Unread)
		}
		if ev, err := schemas.DecodeEvent(c.Last.JSON); err != nil || string(ev.Body) != "{}" || ev.From != w.user("carol") {
			t.Errorf("%s: of none that stays: %s (%v)", when, c.Last.JSON, err)
		}
		if c := byChat[tail.String()]; c.Last.Seq != wantTail || c.Unread != 2 {
			t.Errorf("%s: of one in the log: %+v, unread %d, want last %d", when, c.Last, c.Unread, wantTail)
		}
	}
	check("while the last is there", gone)
	clock.advance(2 * time.Minute)
	check("when it has disappeared", stays)
}

// storeExpired puts n messages into a direct chat's rows, of an hour ago, of which
// all but the first few have disappeared.
func (w *world) storeExpired(chat schemas.Chat, n, stay int) {
	w.T.Helper()
	a, b, _ := chat.Users()
	at := time.Now().Add(-time.Hour)
	c := store.ChatBatch{Chat: chat, Opened: true, Buckets: []store.Bucket{{FirstSeq: 1}}}
	for i := range n {
		id, err := schemas.ParseID(fmt.Sprintf("m%d", i))
		if err != nil {
			w.T.Fatal(err)
		}
		ev := store.Event{
			Seq: uint64(i + 1), Prev: uint64(i), N: uint64(i + 1), Time: at, Type: schemas.Message, Author: b, ID: id,
			JSON: fmt.Appendf(nil, `{"type":"message","id":%q,"from":%q,"body":{"kind":"text","text":"%s"}}`, id, b, []string{"secret", "hi"}[min(max(stay-i, 0), 1)]),
		}
		if i >= stay {
			ev.Expires = at.Add(time.Minute)
		}
		c.Events = append(c.Events, ev)
	}
	c.Roles = []store.Role{{User: a, Role: schemas.Member, Seq: 1, Joins: true}, {User: b, Role: schemas.Member, Seq: 1, Joins: true}}
	c.Head = store.Head{Created: at, LastSeq: uint64(n), LastN: uint64(n), LastTime: at, BucketEvents: int64(n), BucketBytes: 1}
	if err := w.Store.Commit(w.T.Context(), store.Batch{Shard: "old", Committed: uint64(n), Chats: []store.ChatBatch{c}}); err != nil {
		w.T.Fatal(err)
	}
}
