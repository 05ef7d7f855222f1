package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/schemas"
	"parley/workers/store"
)

// mark gives a store marks, one call for all.
func mark(t *testing.T, s Store, marks ...store.Mark) {
	t.Helper()
	if err := s.Mark(t.Context(), marks); err != nil {
		t.Fatal(err)
	}
}

// testMarks gives each kind of mark, lower ones later, and the same again.
func testMarks(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	chat, team := DirectChat("alice", "bob"), GroupChat("team")
	commit(t, s, l.Batch(Message{Chat: chat}, Message{Chat: chat}, Message{Chat: chat}, Create(team, "alice", schemas.HistoryAll, "bob")))
	at := func(n uint64) uint64 { return l.first + n }
	for _, m := range []store.Mark{
		{Chat: chat, User: User("bob"), Delivered: at(2)},
		{Chat: chat, User: User("bob"), Read: at(1), ReadN: 1, Told: true},
		{Chat: chat, User: User("bob"), Delivered: at(1), Read: at(2), ReadN: 2}, // private, and delivered long before
		{Chat: chat, User: User("bob"), Read: at(1), ReadN: 1, Told: true},
		{Chat: chat, User: User("alice"), Delivered: at(1), Read: at(1), ReadN: 1, Told: true}, // below what alice has sent
		{Chat: team, User: User("bob"), Read: at(4)},
		{Chat: chat, User: User("bob"), Delivered: at(3), Read: at(3), ReadN: 3, Told: true},
	} {
		mark(t, s, l.Mark(m))
		wantAll(t, t, s, l)
		before := s.Dump()
		mark(t, s, m, m)
		wantDump(t, s, before)
	}
	// A user twice for a chat, the lower mark last; and the largest that there is.
	bob := User("bob")
	mark(t, s, l.Mark(store.Mark{Chat: team, User: bob, Delivered: at(4), Told: true}),
		l.Mark(store.Mark{Chat: chat, User: bob, Delivered: schemas.SeqMax, Read: schemas.SeqMax, ReadN: schemas.SeqMax, Told: true}),
		l.Mark(store.Mark{Chat: chat, User: bob, Delivered: at(2), Read: at(2), ReadN: 2, Told: true}))
	wantAll(t, t, s, l)
	if got := l.Receipts(chat)[bob]; got.Read != schemas.SeqMax {
		t.Fatalf("the model has %+v", got)
	}
}

// testMarkOrders has users of their own mark chats, before anything is stored of
// those and after: each order ends in what the model has.
func testMarkOrders(t *testing.T, open Open) {
	s := opened(t, open)
	check := 0
	rapid.Check(t, func(rt *rapid.T) {
		check++
		l := NewTimeline(fmt.Sprint(check), 1<<40)
		names := []string{fmt.Sprintf("u%d-a", check), fmt.Sprintf("u%d-b", check)}
		chats := []schemas.Chat{DirectChat(names[0], names[1]), GroupChat(fmt.Sprintf("g%d", check))}
		var steps []func() error
		give := func(b store.Batch) {
			steps = append(steps, func() error { return s.Commit(t.Context(), b) })
		}
		give(l.Batch(Create(chats[1], names[0], schemas.HistoryAll, names[1])))
		for range rapid.IntRange(1, 3).Draw(rt, "batches") {
			from := rapid.SampledFrom(names).Draw(rt, "from")
			give(l.Batch(Message{Chat: chats[0], Event: schemas.Event{From: User(from)}}, Message{Chat: chats[1], Event: schemas.Event{From: User(from)}}))
		}
		batches := len(steps)
		for range rapid.IntRange(1, 4).Draw(rt, "calls") {
			var marks []store.Mark
			for range rapid.IntRange(1, 4).Draw(rt, "marks") {
				marks = append(marks, l.Mark(drawMark(rt, l, names, chats)))
			}
			steps = append(steps, func() error { return s.Mark(t.Context(), marks) })
		}
		var all []int
		for i := range steps {
			all = append(all, i)
		}
		again := rapid.SliceOfN(rapid.SampledFrom(all), 0, 4).Draw(rt, "again")
		order := rapid.Permutation(all).Draw(rt, "order")
		next := 0
		for at, step := range order { // the batches in their turn, the first time
			if step < batches {
				order[at], next = next, next+1
			}
		}
		for _, i := range append(order, again...) {
			if err := steps[i](); err != nil {
				rt.Fatal(err)
			}
		}
		wantAll(t, rt, s, l)
	})
	t.Logf("%d orders", check)
}

// drawMark draws a mark at an event, or nearly: what persist makes of who speaks
// itself has the same n at the same seq.
func drawMark(rt *rapid.T, l *Timeline, names []string, chats []schemas.Chat) store.Mark {
	m := store.Mark{Chat: rapid.SampledFrom(chats).Draw(rt, "chat"), User: User(rapid.SampledFrom(names).Draw(rt, "user")), Told: rapid.Bool().Draw(rt, "told")}
	event := rapid.SampledFrom(l.Events[m.Chat])
	if rapid.Bool().Draw(rt, "is read") {
		e := event.Draw(rt, "read")
		m.Read, m.ReadN = e.Seq, e.N
	}
	if m.Read == 0 || rapid.Bool().Draw(rt, "is delivered") {
		m.Delivered = event.Draw(rt, "delivered").Seq
	}
	return m
}

// testReceipts has more users than a store reads at once, of whom some have none.
func testReceipts(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	team, other := GroupChat("team"), GroupChat("other")
	var asked []schemas.User
	var marks []store.Mark
	for i := range 300 {
		user := User(fmt.Sprintf("%c-%03d", "Aa_z"[i%4], i))
		asked = append(asked, user)
		if i%3 > 0 {
			marks = append(marks, l.Mark(store.Mark{Chat: team, User: user, Delivered: l.first + uint64(i), Read: l.first + uint64(i%7) + 1, Told: i%3 == 1}))
			marks = append(marks, l.Mark(store.Mark{Chat: other, User: user, Delivered: 9}))
		}
	}
	mark(t, s, marks...)
	got, err := s.Receipts(t.Context(), team, asked)
	want(t, "receipts", l.Receipts(team), got, err)
	if len(got) != 200 || got[asked[1]].Read == 0 || got[asked[2]].Read != 0 {
		t.Errorf("%d receipts, of two users %+v and %+v: the test misses its point", len(got), got[asked[1]], got[asked[2]])
	}
	some := []schemas.User{asked[4], User("nobody"), asked[3], asked[2]}
	got, err = s.Receipts(t.Context(), team, some)
	want(t, "receipts of some", map[schemas.User]store.Receipt{asked[4]: l.Receipts(team)[asked[4]], asked[2]: l.Receipts(team)[asked[2]]}, got, err)
}

// testFaultyMarks breaks one rule at a time in the second of three marks.
func testFaultyMarks(t *testing.T, open Open) {
	s := opened(t, open)
	chat := DirectChat("alice", "bob")
	mark(t, s, store.Mark{Chat: chat, User: User("alice"), Delivered: 1})
	before := s.Dump()
	for name, spoil := range map[string]func(*store.Mark){
		"no chat":              func(m *store.Mark) { m.Chat = schemas.Chat{} },
		"no user":              func(m *store.Mark) { m.User = schemas.User{} },
		"nothing":              func(m *store.Mark) { m.Delivered, m.Read = 0, 0 },
		"delivered beyond all": func(m *store.Mark) { m.Delivered = schemas.SeqMax + 1 },
		"read beyond all":      func(m *store.Mark) { m.Read = 1 << 63 },
		"n beyond all":         func(m *store.Mark) { m.ReadN = schemas.SeqMax + 1 },
	} {
		marks := slices.Repeat([]store.Mark{{Chat: chat, User: User("bob"), Delivered: 7, Read: 5, ReadN: 1, Told: true}}, 3)
		spoil(&marks[1])
		if err := s.Mark(t.Context(), marks); !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
		wantDump(t, s, before)
	}
}

// testShown has users switch receipts off and on, and choose what they are shown as.
func testShown(t *testing.T, open Open) {
	s := opened(t, open)
	on, off := true, false
	name := "Al"
	profiles := map[schemas.User]store.Profile{}
	var asked []schemas.User
	for i, order := range orders {
		user := User(fmt.Sprintf("user%d", i))
		at := func(n int) time.Time { return Start.Add(time.Duration(n) * time.Microsecond) }
		steps := []func() error{
			func() error {
				return errors.Join(s.SetProfile(t.Context(), user, schemas.SetProfile{ReadReceipts: &on}, at(1)), s.SetStatus(t.Context(), user, schemas.Away, at(3)))
			},
			func() error {
				return errors.Join(s.SetProfile(t.Context(), user, schemas.SetProfile{ReadReceipts: &off, Name: &name}, at(2)), s.SetStatus(t.Context(), user, schemas.Online, at(1)))
			},
			func() error {
				return errors.Join(s.SetProfile(t.Context(), user, schemas.SetProfile{Name: &name}, at(3)), s.SetStatus(t.Context(), user, schemas.Invisible, at(2)))
			},
		}
		for _, step := range order {
			if err := steps[step](); err != nil {
				t.Fatal(err)
			}
		}
		profiles[user] = store.Profile{User: user, Name: name, HidesReads: true, Status: schemas.Away}
		asked = append(asked, user)
	}
	again := User("again") // switched on again, and nothing else
	for n, set := range []*bool{&off, &on} {
		if err := s.SetProfile(t.Context(), again, schemas.SetProfile{ReadReceipts: set}, Start.Add(time.Duration(n)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	profiles[again] = store.Profile{User: again}
	got, err := s.Profiles(t.Context(), append(asked, again))
	want(t, "profiles", profiles, got, err)
	before := s.Dump()
	for what, err := range map[string]error{
		"no user":   s.SetStatus(t.Context(), schemas.User{}, schemas.Away, Start),
		"no time":   s.SetStatus(t.Context(), again, schemas.Away, time.Time{}),
		"no status": s.SetStatus(t.Context(), again, "", Start),
		"offline":   s.SetStatus(t.Context(), again, schemas.Offline, Start),
	} {
		if !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", what, err)
		}
	}
	wantDump(t, s, before)
}

func testSeen(t *testing.T, open Open) {
	s := opened(t, open)
	at := func(n int) time.Time { return Start.Add(time.Duration(n) * time.Microsecond) }
	seen := map[schemas.User]time.Time{}
	asked := []schemas.User{User("nobody"), User("zoe")}
	for i, order := range orders {
		user := User(fmt.Sprintf("user%d", i))
		for _, step := range order {
			if err := s.SetSeen(t.Context(), map[schemas.User]time.Time{user: at(step)}); err != nil {
				t.Fatal(err)
			}
		}
		asked, seen[user] = append(asked, user), at(2)
	}
	// Many at once, some of them earlier than before; what is finer is cut off.
	many := map[schemas.User]time.Time{User("user0"): at(1), User("user1"): at(9).Add(999).In(time.FixedZone("", 3600))}
	seen[User("user1")] = at(9)
	for i := range 300 {
		user := User(fmt.Sprintf("many%d", i))
		many[user], seen[user] = at(i), at(i)
		asked = append(asked, user)
	}
	if err := s.SetSeen(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	// Who has set something was not seen for that, nor the other way round.
	if err := s.SetStatus(t.Context(), User("zoe"), schemas.Away, Start); err != nil {
		t.Fatal(err)
	}
	got, err := s.Seen(t.Context(), asked)
	want(t, "seen", seen, got, err)
	profiles, err := s.Profiles(t.Context(), []schemas.User{User("user0")})
	if p := profiles[User("user0")]; err != nil || p.Name+p.Avatar+p.Lang+string(p.Status) != "" || p.HidesReads {
		t.Errorf("of who was only seen there is %+v, %v", p, err)
	}
	before := s.Dump()
	for name, bad := range map[string]map[schemas.User]time.Time{
		"no user": {User("user0"): at(100), {}: at(100)},
		"no time": {User("user0"): at(100), User("user1"): {}},
	} {
		if err := s.SetSeen(t.Context(), bad); !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
	}
	wantDump(t, s, before)
}
