package main

import (
	"fmt"
	"testing"
	"time"

	"parley/schemas"
)

// shows waits for a frame that shows a user so.
func (c *talker) shows(user string, status schemas.Status) frame {
	c.t.Helper()
	return c.await(func(f frame) bool {
		for name, is := range f.Users {
			if f.T == schemas.TPresence && name.String() == user && is.Status == status {
				return true
			}
		}
		return false
	})
}

// presenceOf asks for one user's.
func (c *talker) presenceOf(user string) schemas.Presence {
	c.t.Helper()
	for _, is := range c.done(`{"t":"presence","users":[%q]}`, user).Users {
		return is
	}
	c.t.Fatalf("%s is not told of %s", c.user, user)
	return schemas.Presence{}
}

func TestPresenceOfUsersAndTheirSessions(t *testing.T) {
	onBothStores(t, presenceOfUsersAndTheirSessions)
}

func presenceOfUsersAndTheirSessions(t *testing.T, d *devServer) {
	alice := d.talk(t, "alice")
	if f := alice.done(`{"t":"watch","users":["bob","carol","alice"]}`); len(f.Users) != 3 || alice.presenceOf("bob") != (schemas.Presence{Status: schemas.Offline}) {
		t.Errorf("got %v", f)
	}
	eventually(t, "alice is online herself", func() bool { return alice.presenceOf("alice").Status == schemas.Online })
	before := time.Now().Add(-time.Second)
	phone := d.talk(t, "bob")
	alice.shows("bob", schemas.Online)
	laptop := d.talk(t, "bob")
	phone.hangUp()
	if is := alice.presenceOf("bob"); is.Status != schemas.Online {
		t.Errorf("bob with one session left is %v", is)
	}

	// What a user chooses holds for all its sessions, and for later ones.
	laptop.done(`{"t":"status","status":"away"}`)
	alice.shows("bob", schemas.Away)
	laptop.done(`{"t":"status","status":"invisible"}`)
	f := alice.shows("bob", schemas.Offline)
	for _, is := range f.Users {
		if is.LastSeen.Before(before) || is.LastSeen.After(time.Now().Add(time.Second)) {
			t.Errorf("bob was last seen at %s", is.LastSeen)
		}
	}
	tablet := d.talk(t, "bob")
	laptop.hangUp()
	tablet.done(`{"t":"ping"}`)
	if is := alice.presenceOf("bob"); is.Status != schemas.Offline || is.LastSeen.IsZero() {
		t.Errorf("bob, invisible, is %v", is)
	}
	for _, f := range alice.quiet() {
		for user := range f.Users {
			if user.String() == "bob" {
				t.Errorf("alice is told of who is invisible: %v", f)
			}
		}
	}
	tablet.done(`{"t":"status","status":"online"}`)
	alice.shows("bob", schemas.Online)
	alice.done(`{"t":"unwatch","users":["bob"]}`)
	tablet.hangUp()
	eventually(t, "bob is offline", func() bool { return alice.presenceOf("bob").Status == schemas.Offline })
	for _, f := range alice.quiet() {
		for user := range f.Users {
			if user.String() == "bob" {
				t.Errorf("alice is told of whom she does not watch: %v", f)
			}
		}
	}
}

// TestBlockedUsersDoNotSeeEachOther: they look offline to each other, and when one was
// seen last is not told.
func TestBlockedUsersDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	d := startDev(t, "")
	alice, bob := d.talk(t, "alice"), d.talk(t, "bob")
	eventually(t, "bob is online", func() bool { return alice.presenceOf("bob").Status == schemas.Online })
	alice.done(`{"t":"watch","users":["bob"]}`)
	bob.done(`{"t":"block","user":"alice","on":true}`)
	alice.shows("bob", schemas.Offline)
	if is := alice.presenceOf("bob"); is != (schemas.Presence{Status: schemas.Offline}) {
		t.Errorf("bob, who blocks her, is %v", is)
	}
	if is := bob.presenceOf("alice"); is != (schemas.Presence{Status: schemas.Offline}) {
		t.Errorf("alice, whom he blocks, is %v", is)
	}
	bob.hangUp()
	bob = d.talk(t, "bob")
	if early := alice.quiet(); len(early) > 0 {
		t.Errorf("alice heard %v", early)
	}
	bob.done(`{"t":"block","user":"alice","on":false}`)
	alice.shows("bob", schemas.Online)
}

func TestPresenceRequestsHaveBounds(t *testing.T) {
	t.Parallel()
	d := startDev(t, "")
	alice := d.talk(t, "alice")
	users := func(from, to int) (list string) {
		for i := from; i < to; i++ {
			list += fmt.Sprintf(`,"u%d"`, i)
		}
		return "[" + list[1:] + "]"
	}
	if f := alice.done(`{"t":"presence","users":%s}`, users(0, 500)); len(f.Users) != 500 {
		t.Errorf("%d of 500 users are told", len(f.Users))
	}
	alice.done(`{"t":"watch","users":%s}`, users(0, 300))
	alice.done(`{"t":"watch","users":%s}`, users(200, 500)) // 100 of them again
	for _, wrong := range []string{
		`{"t":"presence","users":` + users(0, 501) + `}`,
		`{"t":"watch","users":["one-more"]}`,
		`{"t":"watch","users":[]}`, `{"t":"unwatch"}`, `{"t":"presence","users":["a.b"]}`,
		`{"t":"status"}`, `{"t":"status","status":"offline"}`, `{"t":"status","status":"busy"}`,
	} {
		if f := alice.ask("%s", wrong); f.Code != schemas.Invalid {
			t.Errorf("%.60s: got %v, want %s", wrong, f, schemas.Invalid)
		}
	}
	alice.done(`{"t":"unwatch","users":["u1","nobody"]}`)
	alice.done(`{"t":"watch","users":["one-more"]}`)
}
