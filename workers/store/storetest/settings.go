package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// orders are those in which three calls may come, and come again.
var orders = [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0, 1}, {0, 2, 1, 0, 2}, {2, 0, 1, 2, 0}}

func testSettings(t *testing.T, open Open) {
	s := opened(t, open)
	all := map[schemas.User]map[schemas.Chat]store.Setting{}
	for i, order := range orders {
		user, chat, other := User(fmt.Sprintf("user%d", i)), DirectChat("alice", "bob"), GroupChat("team")
		until := Start.Add(time.Hour)
		at := func(n int) time.Time { return Start.Add(time.Duration(n) * time.Microsecond) }
		steps := []func() error{
			func() error {
				return errors.Join(
					s.Set(t.Context(), user, store.Setting{Chat: chat, Muted: true, Pinned: true}, store.MutedSetting, at(1)),
					s.Set(t.Context(), user, store.Setting{Chat: chat}, store.ArchivedSetting, at(1)))
			},
			func() error {
				return errors.Join(
					s.Set(t.Context(), user, store.Setting{Chat: chat, Pinned: true}, store.PinnedSetting, at(5)),
					s.Set(t.Context(), user, store.Setting{Chat: chat, Muted: true, MutedUntil: until}, store.MutedSetting, at(2)))
			},
			func() error {
				return errors.Join(
					s.Set(t.Context(), user, store.Setting{Chat: chat}, store.PinnedSetting, at(4)),
					s.Set(t.Context(), user, store.Setting{Chat: other, Archived: true}, store.ArchivedSetting, at(3)),
					s.Set(t.Context(), user, store.Setting{Chat: chat, Archived: true}, store.ArchivedSetting, at(3)))
			},
		}
		for _, step := range order {
			if err := steps[step](); err != nil {
				t.Fatal(err)
			}
		}
		all[user] = map[schemas.Chat]store.Setting{
			chat:  {Chat: chat, Muted: true, MutedUntil: until, Pinned: true, Archived: true},
			other: {Chat: other, Archived: true},
		}
	}
	for user, settings := range all {
		got, err := s.Settings(t.Context(), user)
		want(t, "settings of "+user.String(), settings, got, err)
	}
	before := s.Dump()
	alice, setting := User("alice"), store.Setting{Chat: GroupChat("team")}
	for name, err := range map[string]error{
		"no user": s.Set(t.Context(), schemas.User{}, setting, store.MutedSetting, Start),
		"no chat": s.Set(t.Context(), alice, store.Setting{}, store.MutedSetting, Start),
		"no kind": s.Set(t.Context(), alice, setting, "color", Start),
		"no time": s.Set(t.Context(), alice, setting, store.MutedSetting, time.Time{}),
		"ancient": s.Set(t.Context(), alice, store.Setting{Chat: setting.Chat, Muted: true, MutedUntil: time.Unix(-5, 0)}, store.MutedSetting, Start),
	} {
		if !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
	}
	wantDump(t, s, before)
}

func testProfiles(t *testing.T, open Open) {
	s := opened(t, open)
	profiles := map[schemas.User]store.Profile{}
	text := func(s string) *string { return &s }
	for i, order := range orders {
		user := User(fmt.Sprintf("user%d", i))
		steps := []schemas.SetProfile{
			{Name: text("Al"), Avatar: text("file-1"), Lang: text("en")},
			{Name: text("Älice \"O'Hara\" 👩‍👩‍👧")},
			{Avatar: text("")},
		}
		for _, step := range order {
			if err := s.SetProfile(t.Context(), user, steps[step], Start.Add(time.Duration(step)*time.Microsecond)); err != nil {
				t.Fatal(err)
			}
		}
		profiles[user] = store.Profile{User: user, Name: *steps[1].Name, Lang: "en"}
	}
	asked := []schemas.User{User("nobody"), User("empty")}
	for user := range profiles {
		asked = append(asked, user)
	}
	if err := s.SetProfile(t.Context(), User("empty"), schemas.SetProfile{}, Start); err != nil {
		t.Error(err)
	}
	got, err := s.Profiles(t.Context(), asked)
	want(t, "profiles", profiles, got, err)
	for name, err := range map[string]error{
		"no user": s.SetProfile(t.Context(), schemas.User{}, schemas.SetProfile{Lang: text("en")}, Start),
		"no time": s.SetProfile(t.Context(), User("alice"), schemas.SetProfile{Lang: text("en")}, time.Time{}),
	} {
		if !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
	}
}

func testBlocks(t *testing.T, open Open) {
	s := opened(t, open)
	for i, order := range orders {
		name := func(s string) schemas.User { return User(fmt.Sprintf("%s%d", s, i)) }
		alice, bob, carol, dave := name("alice"), name("bob"), name("carol"), name("dave")
		at := func(n int) time.Time { return Start.Add(time.Duration(n) * time.Microsecond) }
		steps := []func() error{
			func() error {
				return errors.Join(s.SetBlock(t.Context(), alice, bob, true, at(1)), s.SetBlock(t.Context(), alice, dave, true, at(1)))
			},
			func() error {
				return errors.Join(s.SetBlock(t.Context(), bob, alice, true, at(2)), s.SetBlock(t.Context(), carol, alice, true, at(2)))
			},
			func() error {
				return errors.Join(s.SetBlock(t.Context(), alice, bob, false, at(3)), s.SetBlock(t.Context(), alice, dave, false, at(3)))
			},
		}
		for _, step := range order {
			if err := steps[step](); err != nil {
				t.Fatal(err)
			}
		}
		for user, others := range map[schemas.User][]schemas.User{alice: {bob, carol}, bob: {alice}, carol: {alice}, dave: nil} {
			got, err := s.Blocks(t.Context(), user)
			want(t, fmt.Sprintf("blocks of %s after %v", user, order), others, got, err)
		}
	}
	for i := range 30 {
		if err := s.SetBlock(t.Context(), User("zoe"), User(fmt.Sprintf("u%d", i*7%30)), true, Start); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Blocks(t.Context(), User("zoe"))
	if err != nil || len(got) != 30 || !slices.IsSortedFunc(got, func(a, b schemas.User) int { return compareNames(a, b) }) {
		t.Errorf("zoe blocks %v, %v, want 30 by rising name", got, err)
	}
	for name, err := range map[string]error{
		"nobody":  s.SetBlock(t.Context(), User("alice"), schemas.User{}, true, Start),
		"herself": s.SetBlock(t.Context(), User("alice"), User("alice"), true, Start),
		"no time": s.SetBlock(t.Context(), User("alice"), User("bob"), true, time.Time{}),
	} {
		if !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, err)
		}
	}
}
