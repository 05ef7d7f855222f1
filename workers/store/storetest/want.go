package storetest

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"parley/schemas"
	"parley/workers/store"
)

// fataler is a test, or one check of a property.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// want compares one answer of a store; none is as good as an empty list.
func want[T any](t fataler, what string, want T, got T, err error) {
	t.Helper()
	if err == nil && isEmpty(want) && isEmpty(got) {
		return
	}
	if diff := gocmp.Diff(want, got, byName); diff != "" || err != nil {
		t.Fatalf("%s: %v; -want +got:\n%s", what, err, diff)
	}
}

func isEmpty(v any) bool {
	r := reflect.ValueOf(v)
	return (r.Kind() == reflect.Slice || r.Kind() == reflect.Map) && r.Len() == 0
}

// wantAll reads all that a store knows of l's chats and compares it with what l made.
func wantAll(t *testing.T, f fataler, s Subject, l *Timeline) {
	f.Helper()
	now := s.Clock.Now()
	var chats []schemas.Chat
	users := map[schemas.User]bool{}
	for chat := range l.Events {
		chats = append(chats, chat)
		for user := range l.states[chat].users {
			users[user] = true
		}
		wantChat(t, f, s, l, chat, now)
	}
	for user := range users {
		got, err := s.UserChats(t.Context(), user, store.AnyKind, 100)
		want(f, "chats of "+user.String(), l.UserChats(user), got, err)
	}
	heads, err := s.Heads(t.Context(), chats)
	want(f, "heads", l.Heads(), heads, err)
	summaries, err := s.Summaries(t.Context(), chats)
	want(f, "summaries", l.Summaries(now), summaries, err)
}

// wantChat compares one chat.
func wantChat(t *testing.T, f fataler, s Subject, l *Timeline, chat schemas.Chat, now time.Time) {
	f.Helper()
	rows := there(l.Events[chat], now)
	page, more := wantPage(rows, everything)
	events, gotMore, err := s.Page(t.Context(), chat, everything)
	want(f, "page of "+chat.String(), page, events, err)
	if more != gotMore {
		f.Fatalf("page of %s: more %t, want %t", chat, gotMore, more)
	}
	var seqs []uint64
	for seq := range l.seq + 3 - l.first {
		seqs = append(seqs, l.first+seq)
	}
	slices.Reverse(seqs)
	events, err = s.Events(t.Context(), chat, seqs)
	want(f, "events of "+chat.String(), rows, events, err)
	edits, err := s.Edits(t.Context(), chat, rows)
	want(f, "edits of "+chat.String(), l.Edits(chat, rows), edits, err)
	reactions, err := s.Reactions(t.Context(), chat, rows)
	want(f, "reactions of "+chat.String(), l.Reactions(chat, rows), reactions, err)
	receipts, err := s.Receipts(t.Context(), chat, slices.Collect(maps.Keys(l.stateOf(chat).users)))
	want(f, "receipts of "+chat.String(), l.Receipts(chat), receipts, err)
	if chat.Kind() == schemas.Group {
		members, err := s.Members(t.Context(), chat, schemas.User{}, 1000)
		want(f, "members of "+chat.String(), l.Members(chat), members, err)
	}
}

// there are the rows that have not disappeared.
func there(rows []store.Event, now time.Time) []store.Event {
	return slices.DeleteFunc(slices.Clone(rows), func(e store.Event) bool { return isOver(e.Expires, now) })
}

func isOver(expires, now time.Time) bool { return !expires.IsZero() && !now.Before(expires) }

// seqsOf are those of events.
func seqsOf(events []store.Event) (seqs []uint64) {
	for i := range events {
		seqs = append(seqs, events[i].Seq)
	}
	slices.SortFunc(seqs, cmp.Compare)
	return seqs
}
