package e2e

import (
	"fmt"
	"testing"
	"time"

	"parley/schemas"
	"parley/tests/harness"
)

func TestPresenceOfUsersAndTheirSessions(t *testing.T) {
	onBothStores(t, presenceOfUsersAndTheirSessions)
}

func presenceOfUsersAndTheirSessions(t *testing.T, d *harness.DevServer) {
	alice := d.Talk(t, "alice")
	if f := alice.Do(`{"t":"watch","users":["bob","carol","alice"]}`); len(f.Users) != 3 || alice.PresenceOf("bob") != (schemas.Presence{Status: schemas.Offline}) {
		t.Errorf("got %v", f)
	}
	harness.Eventually(t, "alice is online herself", func() bool { return alice.PresenceOf("alice").Status == schemas.Online })
	before := time.Now().Add(-time.Second)
	phone := d.Talk(t, "bob")
	alice.AwaitShown("bob", schemas.Online)
	laptop := d.Talk(t, "bob")
	phone.HangUp()
	if is := alice.PresenceOf("bob"); is.Status != schemas.Online {
		t.Errorf("bob with one session left is %v", is)
	}

	// What a user chooses holds for all its sessions, and for later ones.
	laptop.Do(`{"t":"status","status":"away"}`)
	alice.AwaitShown("bob", schemas.Away)
	laptop.Do(`{"t":"status","status":"invisible"}`)
	f := alice.AwaitShown("bob", schemas.Offline)
	for _, is := range f.Users {
		if is.LastSeen.Before(before) || is.LastSeen.After(time.Now().Add(time.Second)) {
			t.Errorf("bob was last seen at %s", is.LastSeen)
		}
	}
	tablet := d.Talk(t, "bob")
	laptop.HangUp()
	tablet.Do(`{"t":"ping"}`)
	if is := alice.PresenceOf("bob"); is.Status != schemas.Offline || is.LastSeen.IsZero() {
		t.Errorf("bob, invisible, is %v", is)
	}
	wantNoPresenceOf(t, alice, "bob", "who is invisible")
	tablet.Do(`{"t":"status","status":"online"}`)
	alice.AwaitShown("bob", schemas.Online)
	alice.Do(`{"t":"unwatch","users":["bob"]}`)
	tablet.HangUp()
	harness.Eventually(t, "bob is offline", func() bool { return alice.PresenceOf("bob").Status == schemas.Offline })
	wantNoPresenceOf(t, alice, "bob", "whom she does not watch")
}

// wantNoPresenceOf checks that no frame that a talker has received shows a user.
func wantNoPresenceOf(t *testing.T, talker *harness.Talker, user, why string) {
	t.Helper()
	for _, f := range talker.Quiet() {
		for shown := range f.Users {
			if shown.String() == user {
				t.Errorf("a frame shows %s, %s: %v", user, why, f)
			}
		}
	}
}

// TestBlockedUsersDoNotSeeEachOther: they look offline to each other, and when one was
// seen last is not told.
func TestBlockedUsersDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	alice, bob := d.Talk(t, "alice"), d.Talk(t, "bob")
	harness.Eventually(t, "bob is online", func() bool { return alice.PresenceOf("bob").Status == schemas.Online })
	alice.Do(`{"t":"watch","users":["bob"]}`)
	bob.Do(`{"t":"block","user":"alice","on":true}`)
	alice.AwaitShown("bob", schemas.Offline)
	if is := alice.PresenceOf("bob"); is != (schemas.Presence{Status: schemas.Offline}) {
		t.Errorf("bob, who blocks her, is %v", is)
	}
	if is := bob.PresenceOf("alice"); is != (schemas.Presence{Status: schemas.Offline}) {
		t.Errorf("alice, whom he blocks, is %v", is)
	}
	bob.HangUp()
	bob = d.Talk(t, "bob")
	if early := alice.Quiet(); len(early) > 0 {
		t.Errorf("alice heard %v", early)
	}
	bob.Do(`{"t":"block","user":"alice","on":false}`)
	alice.AwaitShown("bob", schemas.Online)
}

func TestPresenceRequestsHaveBounds(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	alice := d.Talk(t, "alice")
	users := func(from, to int) (list string) {
		for i := from; i < to; i++ {
			list += fmt.Sprintf(`,"u%d"`, i)
		}
		return "[" + list[1:] + "]"
	}
	if f := alice.Do(`{"t":"presence","users":%s}`, users(0, 500)); len(f.Users) != 500 {
		t.Errorf("%d of 500 users are told", len(f.Users))
	}
	alice.Do(`{"t":"watch","users":%s}`, users(0, 300))
	alice.Do(`{"t":"watch","users":%s}`, users(200, 500)) // 100 of them again
	for _, wrong := range []string{
		`{"t":"presence","users":` + users(0, 501) + `}`,
		`{"t":"watch","users":["one-more"]}`,
		`{"t":"watch","users":[]}`, `{"t":"unwatch"}`, `{"t":"presence","users":["a.b"]}`,
		`{"t":"status"}`, `{"t":"status","status":"offline"}`, `{"t":"status","status":"busy"}`,
	} {
		if f := alice.Ask("%s", wrong); f.Code != schemas.Invalid {
			t.Errorf("%.60s: got %v, want %s", wrong, f, schemas.Invalid)
		}
	}
	alice.Do(`{"t":"unwatch","users":["u1","nobody"]}`)
	alice.Do(`{"t":"watch","users":["one-more"]}`)
}
