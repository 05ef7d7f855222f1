package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"parley/schemas"
	"parley/workers/store"
)

// Create, Add, Remove, Leave and SetRole are what changes who is in a group.
func Create(chat schemas.Chat, owner string, history schemas.HistoryMode, members ...string) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.GroupEvent, From: User(owner), Change: schemas.Created, Name: "The Team",
		Members: users(members), Count: uint64(len(members)) + 1, History: history}}
}

func Add(chat schemas.Chat, by string, names ...string) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.MemberEvent, From: User(by), Change: schemas.Added, Users: users(names)}}
}

func Remove(chat schemas.Chat, by string, names ...string) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.MemberEvent, From: User(by), Change: schemas.Removed, Users: users(names)}}
}

func Leave(chat schemas.Chat, name, owner string) Message {
	m := Message{Chat: chat, Event: schemas.Event{Type: schemas.MemberEvent, From: User(name), Change: schemas.HasLeft, Users: users([]string{name})}}
	if owner != "" {
		heir := User(owner)
		m.Event.Owner = &heir
	}
	return m
}

func SetRole(chat schemas.Chat, by, name string, role schemas.Role) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.MemberEvent, From: User(by), Change: schemas.RoleChanged, Users: users([]string{name}), Role: role}}
}

// Rename gives a group another name.
func Rename(chat schemas.Chat, by, name string) Message {
	return Message{Chat: chat, Event: schemas.Event{Type: schemas.GroupEvent, From: User(by), Change: schemas.Renamed, Name: name}}
}

func users(names []string) (all []schemas.User) {
	for _, name := range names {
		all = append(all, User(name))
	}
	return all
}

func testGroups(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	team, open2 := GroupChat("team"), GroupChat("open")
	say := func(chat schemas.Chat, from string) Message {
		return Message{Chat: chat, Event: schemas.Event{From: User(from)}}
	}
	for _, batch := range [][]Message{
		{Create(team, "alice", schemas.HistoryJoined, "bob", "carol"), say(team, "bob"), Create(open2, "bob", schemas.HistoryAll, "alice")},
		{Add(team, "alice", "dave", "erin"), say(team, "carol"), SetRole(team, "alice", "bob", schemas.Admin), Rename(team, "bob", "it's \"ours\" 👍")},
		{Remove(team, "alice", "dave"), say(team, "alice"), Add(open2, "bob", "carol"), say(open2, "carol")},
		{Add(team, "bob", "dave"), SetRole(team, "alice", "bob", schemas.Owner), say(DirectChat("alice", "bob"), "bob")},
		{Leave(team, "bob", "alice"), Remove(team, "alice", "erin", "carol"), Leave(open2, "alice", "")},
		{Remove(team, "alice", "dave"), Add(team, "alice", "dave"), Remove(team, "alice", "dave"), say(team, "alice")},
	} {
		commit(t, s, l.Batch(batch...))
		wantAll(t, t, s, l)
	}
	for _, limit := range []int{-1, 0, 1, 2} {
		got, err := s.UserChats(t.Context(), User("alice"), store.AnyKind, limit)
		all := l.UserChats(User("alice"))
		want(t, fmt.Sprintf("%d chats of alice", limit), all[:min(max(limit, 0), len(all))], got, err)
	}
	for _, kind := range []schemas.ChatKind{schemas.Direct, schemas.Group} {
		got, err := s.UserChats(t.Context(), User("alice"), kind, 100)
		of := slices.DeleteFunc(l.UserChats(User("alice")), func(c store.UserChat) bool { return c.Chat.Kind() != kind })
		want(t, fmt.Sprintf("chats of alice of kind %s", kind), of, got, err)
	}
}

// testLargeGroup makes a group of 1,001 in one commit, and reads its members in pages.
func testLargeGroup(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	team := GroupChat("team")
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("%c-%03d", "Aa_z"[i%4], i))
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	commit(t, s, l.Batch(Create(team, "owner", schemas.HistoryJoined, names...), Message{Chat: team}), l.Batch(Remove(team, "owner", names[:300]...)))
	all := l.Members(team)
	for _, limit := range []int{1001, 2000, 400, 137} {
		var got []store.Member
		for after := (schemas.User{}); ; {
			page, err := s.Members(t.Context(), team, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page...)
			if len(page) < limit {
				break
			}
			after = page[limit-1].User
		}
		want(t, fmt.Sprintf("members in pages of %d", limit), all, got, nil)
	}
	for _, limit := range []int{-1, 0} {
		got, err := s.Members(t.Context(), team, schemas.User{}, limit)
		want(t, fmt.Sprintf("%d members", limit), nil, got, err)
	}
	for _, name := range []string{names[0], names[999], "owner"} {
		got, err := s.UserChats(t.Context(), User(name), store.AnyKind, 10)
		want(t, "chats of "+name, l.UserChats(User(name)), got, err)
	}
}

// testReads gives read marks late, and in the wrong order.
func testReads(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	chat := DirectChat("alice", "bob")
	var batches []store.Batch
	for i := range 6 {
		batches = append(batches, l.Batch(Message{Chat: chat, Event: schemas.Event{From: User([]string{"alice", "bob"}[i%2])}}))
	}
	slices.Reverse(batches)
	commit(t, s, batches...)
	wantAll(t, t, s, l)
	commit(t, s, batches[3], batches[0], batches[5])
	wantAll(t, t, s, l)
}

func testSummaries(t *testing.T, open Open) {
	s := opened(t, open)
	l := NewTimeline("0", 1<<40)
	chat, team := DirectChat("alice", "bob"), GroupChat("team")
	for _, m := range []Message{{Chat: chat}, Text(chat, 10*schemas.CutTextBytesMax), Edit(chat, "alice", l.first+1, strings.Repeat("é", schemas.BodyBytesMax/3)),
		exactly(chat, schemas.CutTextBytesMax), exactly(chat, schemas.CutTextBytesMax+1), Create(team, "alice", schemas.HistoryAll, "bob"), Rename(team, "alice", "Us")} {
		commit(t, s, l.Batch(m))
		chats := []schemas.Chat{team, chat, DirectChat("no", "body")}
		summaries, err := s.Summaries(t.Context(), chats)
		want(t, "summaries", l.Summaries(s.Clock.Now()), summaries, err)
	}
	if got := l.Summaries(s.Clock.Now())[team]; got.Name != "Us" || got.Members != 2 || got.History != schemas.HistoryAll {
		t.Errorf("the model has %+v", got)
	}
}
