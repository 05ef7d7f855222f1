//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/edge/auth"
	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

// talk opens a session of a user.
func (p place) talk(t testing.TB, user string) *talker {
	t.Helper()
	return talkTo(t, p.url, p.token(t, user), user)
}

func (p place) token(t testing.TB, user string) string {
	t.Helper()
	token, err := auth.Mint(p.secret, mustUser(t, user), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// groupStore is what the tests of groups read in a store, whichever it is.
type groupStore interface {
	storeReader
	Members(ctx context.Context, chat schemas.Chat, after schemas.User, limit int) ([]store.Member, error)
	UserChats(ctx context.Context, user schemas.User, kind schemas.ChatKind, limit int) ([]store.UserChat, error)
	Summaries(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Summary, error)
}

func openGroupStore(t testing.TB, at string) (st groupStore) {
	t.Helper()
	path, file := strings.CutPrefix(storeURL(at), sqliteScheme)
	var err error
	if file {
		st, err = sqlite.OpenReader(t.Context(), path)
	} else {
		st, err = storeFlag{Store: at}.openMigrated(t.Context(), slog.New(slog.DiscardHandler))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// groupWorld is a server of two edges and as many workers, with users on both
// edges and some on neither.
type groupWorld struct {
	parts  *parts
	edges  []*edgeChild
	log    *streams.Log
	store  groupStore
	users  []string
	talks  map[string]*talker // of those who are connected
	at     map[string]int     // and the edge of each
	second *talker            // the first user's, on the other edge
	groups []*worldGroup

	counts groupCounts
}

// worldGroup is a group that was created in it.
type worldGroup struct {
	chat string

	mu   sync.Mutex
	said []uint64 // seqs of messages
}

// groupCounts stand beside the zeros.
type groupCounts struct {
	mu                                sync.Mutex
	asked, refused                    int // guarded by mu
	duels, races                      int
	groups, events, changes, late     int
	stays, heard, again, unheard, cut int
	views, rows                       int
}

func (c *groupCounts) String() string {
	return fmt.Sprintf("%d requests of which %d were refused, %d duels, %d races; %d groups with %d events, %d of them changes of members, 0 invalid; "+
		"%d stays of connected users, in which they heard %d events (%d twice, %d short stays not at all, %d in part), 0 missing, 0 out of order, 0 of others; "+
		"%d events of users who had just been taken out; %d views of members and %d rows compared: 0 differ",
		c.asked, c.refused, c.duels, c.races, c.groups, c.events, c.changes, c.stays, c.heard, c.again, c.unheard, c.cut, c.late, c.views, c.rows)
}

// startGroupWorld starts two workers and two edges, and connects all of users but
// the last two.
func startGroupWorld(t testing.TB, p *parts, users int) *groupWorld {
	t.Helper()
	for range 2 {
		p.startWorker(t, everyWorker)
	}
	w := newGroupWorld(t, p, p.startEdge(t, "edge-0"), p.startEdge(t, "edge-1"))
	w.populate(t, users)
	return w
}

// everyWorker is what a worker process runs here.
const everyWorker = "persist,query,chats,users"

func newGroupWorld(t testing.TB, p *parts, edges ...*edgeChild) *groupWorld {
	t.Helper()
	w := &groupWorld{parts: p, edges: edges, store: openGroupStore(t, p.store), talks: map[string]*talker{}, at: map[string]int{}}
	_, w.log = p.log(t)
	return w
}

// populate connects all of users but the last two, those with an odd number to the second edge.
func (w *groupWorld) populate(t testing.TB, users int) {
	t.Helper()
	for i := range users {
		user := fmt.Sprintf("u%d", i)
		w.users = append(w.users, user)
		if w.at[user] = i % len(w.edges); i < users-2 {
			w.connect(t, user)
		}
	}
	w.second = w.edges[1].talk(t, w.users[0])
}

func (w *groupWorld) connect(t testing.TB, user string) {
	t.Helper()
	w.talks[user] = w.edges[w.at[user]].talk(t, user)
}

// create has a user create a group, and returns when everybody who is connected
// and in it has been told.
func (w *groupWorld) create(t testing.TB, owner string, admins, members []string) *worldGroup {
	t.Helper()
	id := newID()
	g := &worldGroup{chat: "group." + id}
	all := append(slices.Clone(admins), members...)
	seq := w.talks[owner].done(`{"t":"create","id":"%s","name":"Begun","members":%s}`, id, userList(all)).Seq
	for _, admin := range admins {
		seq = w.talks[owner].done(`{"t":"role","chat":"%s","user":"%s","role":"admin"}`, g.chat, admin).Seq
	}
	for _, user := range append(all, owner) {
		if c := w.talks[user]; c != nil {
			c.awaitLast(g.chat, seq)
		}
	}
	w.groups = append(w.groups, g)
	return g
}

func userList(users []string) string { return `["` + strings.Join(users, `","`) + `"]` }

// awaitLast is event, and leaves the frame among what was heard.
func (c *talker) awaitLast(chat string, seq uint64) {
	c.t.Helper()
	c.awaitFrame(func(f frame) bool { return f.T == schemas.TEvent && f.Chat == chat && f.Seq == seq })
}

// awaitFrame is await, and leaves the frame among what was heard.
func (c *talker) awaitFrame(wanted func(frame) bool) {
	c.t.Helper()
	if !slices.ContainsFunc(c.early, wanted) {
		c.early = append(c.early, c.await(wanted))
	}
}

// atOnce has each talker act, all at once.
func atOnce(acts map[*talker]func()) {
	var acting sync.WaitGroup
	begin := make(chan struct{})
	for _, act := range acts {
		acting.Go(func() {
			<-begin
			act()
		})
	}
	close(begin)
	acting.Wait()
}

// act has a user do something random in one of groups.
func (w *groupWorld) act(t testing.TB, rng *rand.Rand, c *talker, groups []*worldGroup) {
	g := groups[rng.IntN(len(groups))]
	request := w.request(rng, g)
	f := c.ask("%s", request)
	w.counts.mu.Lock()
	defer w.counts.mu.Unlock()
	w.counts.asked++
	switch {
	case f.T == schemas.TAck && strings.Contains(request, `"type":"message"`):
		g.mu.Lock()
		g.said = append(g.said, f.Seq)
		g.mu.Unlock()
	case f.T == schemas.TAck, f.T == schemas.TDone:
	case slices.Contains([]schemas.Code{schemas.NotMember, schemas.Forbidden, schemas.Invalid, schemas.NotFound, schemas.Conflict}, f.Code):
		w.counts.refused++
	default:
		t.Errorf("%s: %s was answered with %v", c.user, request, f)
	}
}

func (w *groupWorld) request(rng *rand.Rand, g *worldGroup) string {
	user := func() string { return w.users[rng.IntN(len(w.users))] }
	some := func() string {
		if a, b := user(), user(); a != b {
			return userList([]string{a, b})
		}
		return userList([]string{user()})
	}
	about := func(typ, rest string) string {
		g.mu.Lock()
		defer g.mu.Unlock()
		target := uint64(1)
		if len(g.said) > 0 {
			target = g.said[rng.IntN(len(g.said))]
		}
		return fmt.Sprintf(`{"t":"send","id":"%s","chat":"%s","type":"%s","target":%d%s}`, newID(), g.chat, typ, target, rest)
	}
	switch n := rng.IntN(100); {
	case n < 35:
		return fmt.Sprintf(`{"t":"send","id":"%s","chat":"%s","type":"message","body":{"kind":"text","text":"hi"}}`, newID(), g.chat)
	case n < 42:
		return about("edit", `,"body":{"kind":"text","text":"other"}`)
	case n < 45:
		return about("delete", "")
	case n < 50:
		return about("reaction", fmt.Sprintf(`,"emoji":"👍","remove":%t`, rng.IntN(3) == 0))
	case n < 53:
		return about("pin", "")
	case n < 74:
		return fmt.Sprintf(`{"t":"add","chat":"%s","users":%s}`, g.chat, some())
	case n < 86:
		return fmt.Sprintf(`{"t":"remove","chat":"%s","users":%s}`, g.chat, some())
	case n < 89:
		return fmt.Sprintf(`{"t":"leave","chat":"%s"}`, g.chat)
	case n < 97:
		role := []schemas.Role{schemas.Admin, schemas.Admin, schemas.Member, schemas.Owner}[rng.IntN(4)]
		return fmt.Sprintf(`{"t":"role","chat":"%s","user":"%s","role":"%s"}`, g.chat, user(), role)
	default:
		return fmt.Sprintf(`{"t":"rename","chat":"%s","name":"Name %d"}`, g.chat, rng.IntN(10))
	}
}

// settle wants everybody to agree on all groups, and begins anew without them.
func (w *groupWorld) settle(t testing.TB) {
	t.Helper()
	for _, g := range w.groups {
		w.wantEdges(t, replayGroup(t, w.log, mustChat(t, g.chat)))
	}
	models := make([]*groupModel, len(w.groups))
	for i, g := range w.groups {
		m := replayGroup(t, w.log, mustChat(t, g.chat))
		models[i] = m
		w.counts.groups++
		w.counts.events += len(m.events)
		w.counts.changes += m.changes
		w.counts.late += m.late
		w.wantViews(t, m)
	}
	for _, m := range models {
		w.wantRows(t, m)
	}
	w.wantHeard(t, models)
	w.second.quiet()
	w.groups = nil
}

// wantEdges has who is in say something, and finds that nobody else may.
func (w *groupWorld) wantEdges(t testing.TB, m *groupModel) {
	t.Helper()
	for user, c := range w.talks {
		code := func() schemas.Code { return c.ask(`{"t":"typing","chat":"%s"}`, m.chat).Code }
		eventually(t, fmt.Sprintf("the edge of %s knows that it is in %s: %t", user, m.chat, m.isIn(user)), func() bool {
			return (code() == "") == m.isIn(user)
		})
		if m.isIn(user) {
			c.send(m.chat.String(), "it is over")
		} else if code := code(); code != schemas.NotMember {
			t.Errorf("%s is not in %s, and gets %q", user, m.chat, code)
		}
	}
}

// wantViews wants everybody who is in to see the same members, and others none.
func (w *groupWorld) wantViews(t testing.TB, m *groupModel) {
	t.Helper()
	var want []string
	for _, user := range m.in() {
		want = append(want, fmt.Sprintf("%s %s %d", user, m.members[user].role, m.members[user].since))
	}
	for user, c := range w.talks {
		w.counts.views++
		if !m.isIn(user) {
			if f := c.ask(`{"t":"members","chat":"%s"}`, m.chat); f.Code != schemas.NotMember {
				t.Errorf("%s is not in %s, and is shown %v", user, m.chat, f)
			}
			continue
		}
		var got []string
		for cursor := ""; ; {
			var page schemas.MembersPage
			c.answer(&page, `{"t":"members","chat":"%s","limit":3%s}`, m.chat, cursor)
			for _, member := range page.Members {
				got = append(got, fmt.Sprintf("%s %s %d", member.User, member.Role, member.Since))
			}
			if page.Cursor == "" {
				break
			}
			cursor = fmt.Sprintf(`,"cursor":%q`, page.Cursor)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s sees the members of %s as %q, want %q", user, m.chat, got, want)
		}
		w.wantHistory(t, m, user)
	}
}

// wantHistory wants a member to read all that it may of the group, and no more.
func (w *groupWorld) wantHistory(t testing.TB, m *groupModel, user string) {
	t.Helper()
	var got []uint64
	for after := uint64(0); ; {
		page := w.talks[user].page(`{"t":"history","chat":"%s","after":%d,"limit":200}`, m.chat, after)
		for _, item := range page.Events {
			got = append(got, item.Seq)
			after = item.Seq
		}
		if !page.More {
			break
		}
	}
	if want := m.seqs(m.members[user].from); !slices.Equal(got, want) {
		t.Errorf("%s reads %d events of %s, want %d: %v, want %v", user, len(got), m.chat, len(want), got, want)
	}
}

// wantRows wants the tables to say what the log does.
func (w *groupWorld) wantRows(t testing.TB, m *groupModel) {
	t.Helper()
	eventuallyWithin(t, childWithin, fmt.Sprintf("%s is stored", m.chat), func() bool {
		head, _, err := w.store.Head(t.Context(), m.chat)
		return err == nil && head.LastSeq >= m.last()
	})
	rows, err := w.store.Members(t.Context(), m.chat, schemas.User{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]modelMember{}
	for _, row := range rows {
		w.counts.rows++
		got[row.User.String()] = modelMember{row.Role, row.Since, row.From}
	}
	for _, user := range w.users {
		if got[user] != m.members[user] {
			t.Errorf("members_by_chat has %s in %s as %+v, want %+v", user, m.chat, got[user], m.members[user])
		}
		chats, err := w.store.UserChats(t.Context(), mustUser(t, user), store.AnyKind, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		listed := modelMember{}
		for _, row := range chats {
			if row.Chat == m.chat {
				listed = modelMember{row.Role, row.Since, row.From}
			}
		}
		w.counts.rows++
		if want := m.members[user]; m.isIn(user) && listed != want || !m.isIn(user) && listed != (modelMember{}) {
			t.Errorf("chats_by_user has %s of %s as %+v, want %+v", m.chat, user, listed, want)
		}
	}
	summaries, err := w.store.Summaries(t.Context(), []schemas.Chat{m.chat})
	if err != nil {
		t.Fatal(err)
	}
	if s := summaries[m.chat]; s.Name != m.name || s.Members != uint64(len(m.in())) || s.History != m.history {
		t.Errorf("chats has %s as %q with %d members, %s; want %q, %d, %s", m.chat, s.Name, s.Members, s.History, m.name, len(m.in()), m.history)
	}
}

// wantHeard compares what everybody was sent with what was said while it was in.
func (w *groupWorld) wantHeard(t testing.TB, models []*groupModel) {
	t.Helper()
	for user, c := range w.talks {
		for _, m := range models {
			if m.isIn(user) {
				c.awaitLast(m.chat.String(), m.last())
			}
		}
		heard := map[string][]uint64{}
		for _, f := range c.quiet() {
			if f.T == schemas.TEvent {
				heard[f.Chat] = append(heard[f.Chat], f.Seq)
			}
		}
		for _, m := range models {
			w.wantHeardOf(t, m, user, heard[m.chat.String()])
		}
	}
}

func (w *groupWorld) wantHeardOf(t testing.TB, m *groupModel, user string, sent []uint64) {
	t.Helper()
	var taken []uint64 // as a client takes it
	for _, seq := range sent {
		if !slices.ContainsFunc(m.stays[user], func(s stay) bool { return s.has(seq) }) {
			t.Errorf("%s heard %d of %s, and was in it at %v", user, seq, m.chat, m.stays[user])
		}
		if len(taken) > 0 && seq <= taken[len(taken)-1] {
			w.counts.again++
			continue
		}
		taken = append(taken, seq)
	}
	for _, stay := range m.stays[user] {
		w.counts.stays++
		within := func(seqs []uint64) []uint64 {
			return slices.DeleteFunc(slices.Clone(seqs), func(seq uint64) bool { return !stay.has(seq) })
		}
		got, want := within(taken), within(m.seqs(0))
		w.counts.heard += len(got)
		switch {
		case slices.Equal(got, want):
		case stay.to != 0 && len(got) == 0: // it was over before its edge had entered the group
			w.counts.unheard++
		case stay.to != 0 && (slices.Equal(got, want[:len(got)]) || slices.Equal(got, want[len(want)-len(got):])):
			w.counts.cut++ // the edge learned of its begin or its end when that was over
		default:
			t.Errorf("%s was in %s at %v, and heard %v of %v\n%s", user, m.chat, stay, got, want, m.told(stay, got))
		}
	}
}

// told shows what was not heard of a stay.
func (m *groupModel) told(s stay, got []uint64) string {
	var text strings.Builder
	for _, ev := range m.events {
		if s.has(ev.Seq) && !slices.Contains(got, ev.Seq) {
			fmt.Fprintf(&text, "not heard: %d at %s: %.200s\n", ev.Seq, ev.Time.Format("05.000000"), ev.JSON)
		}
	}
	return text.String()
}
