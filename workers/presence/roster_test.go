package presence

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/schemas"
	"parley/streams"
)

func testUser(name string) schemas.User {
	user, err := schemas.ParseUser(name)
	if err != nil {
		panic(err)
	}
	return user
}

func testID(name string) schemas.ID {
	id, err := schemas.ParseID(name)
	if err != nil {
		panic(err)
	}
	return id
}

func TestStatusOfSeveralSessions(t *testing.T) {
	t.Parallel()
	for want, sessions := range map[schemas.Status][][]schemas.Status{
		schemas.Offline: {{}, {schemas.Invisible}, {schemas.Online, schemas.Invisible}, {schemas.Invisible, schemas.Away}},
		schemas.Online:  {{schemas.Online}, {schemas.Away, schemas.Online}, {schemas.Online, schemas.Away, schemas.Away}},
		schemas.Away:    {{schemas.Away}, {schemas.Away, schemas.Away}},
	} {
		for _, are := range sessions {
			e := entry{}
			for i, is := range are {
				e.sessions = append(e.sessions, session{id: testID(fmt.Sprintf("s%d", i)), status: is})
			}
			if got := e.status(); got != want {
				t.Errorf("%v: %s, want %s", are, got, want)
			}
		}
	}
}

// TestRosterTellsEachChangeOnce: whatever happens to sessions, who follows the changes
// that are told knows how every user is, and is told nothing that it knows.
func TestRosterTellsEachChangeOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r, now := newRoster(), time.Unix(1_800_000_000, 0)
		told := map[schemas.User]schemas.Status{}
		sessions := map[schemas.User]map[schemas.ID]schemas.Status{}
		apply := func(c change, changed bool) {
			if !changed {
				return
			}
			if before, known := told[c.user]; before == c.Status || !known && c.Status == schemas.Offline {
				t.Fatalf("%s is told to be %s again", c.user, c.Status)
			}
			if (c.Status == schemas.Offline) == c.LastSeen.IsZero() {
				t.Fatalf("%s is told to be %s, seen at %v", c.user, c.Status, c.LastSeen)
			}
			told[c.user] = c.Status
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				count, users := 0, 0
				for user, of := range sessions {
					e := entry{}
					for id, is := range of {
						e.sessions = append(e.sessions, session{id: id, status: is})
					}
					want := e.status()
					if got, known := told[user]; got != want && (known || want != schemas.Offline) {
						t.Fatalf("%s with %v was told to be %q", user, of, got)
					}
					shown, _ := r.shown([]schemas.User{user})
					if got := shown[user].Status; got != want {
						t.Fatalf("%s with %v is shown as %s", user, of, got)
					}
					count += len(of)
					users += min(len(of), 1)
				}
				if s, u := r.size(); s != count || u != users {
					t.Fatalf("%d sessions of %d users are counted, want %d of %d", s, u, count, users)
				}
			},
			"put": func(t *rapid.T) {
				key := streams.SessionKey{
					User:    testUser(rapid.SampledFrom([]string{"ann", "bea", "cid"}).Draw(t, "user")),
					Session: testID(rapid.SampledFrom([]string{"s1", "s2", "s3"}).Draw(t, "session")),
					Status:  rapid.SampledFrom([]schemas.Status{schemas.Online, schemas.Away, schemas.Invisible}).Draw(t, "status"),
					Stored:  now,
				}
				if sessions[key.User] == nil {
					sessions[key.User] = map[schemas.ID]schemas.Status{}
				}
				sessions[key.User][key.Session] = key.Status
				apply(r.put(key, now.Add(time.Minute)))
			},
			"end": func(t *rapid.T) {
				user := testUser(rapid.SampledFrom([]string{"ann", "bea", "cid"}).Draw(t, "user"))
				id := testID(rapid.SampledFrom([]string{"s1", "s2", "s3"}).Draw(t, "session"))
				delete(sessions[user], id)
				c, changed, last := r.end(user, id, now)
				if last && len(sessions[user]) > 0 {
					t.Fatalf("the last session of %s was ended, and it has %v", user, sessions[user])
				}
				apply(c, changed)
				if last {
					apply(r.settle(user, now))
				}
			},
		})
	})
}

func TestSessionsAreLookedForWhenTheirTimeIsOver(t *testing.T) {
	t.Parallel()
	r, now := newRoster(), time.Unix(1_800_000_000, 0)
	ann, bea := testUser("ann"), testUser("bea")
	r.put(streams.SessionKey{User: ann, Session: testID("s1"), Status: schemas.Online}, now.Add(10*time.Second))
	r.put(streams.SessionKey{User: bea, Session: testID("s2"), Status: schemas.Online}, now.Add(20*time.Second))
	due := func(after time.Duration) int { return len(r.due(now.Add(after))) }
	if n := due(10*time.Second + lapseAfter - time.Millisecond); n != 0 {
		t.Errorf("%d are due before their time", n)
	}
	if n := due(10*time.Second + lapseAfter); n != 1 {
		t.Errorf("%d are due, want ann", n)
	}
	r.lapse(bea, testID("s2"), now) // word of its end has come
	if n := due(confirmAfter); n != 1 {
		t.Errorf("%d are due, want bea", n)
	}
	r.put(streams.SessionKey{User: bea, Session: testID("s2"), Status: schemas.Online}, now.Add(20*time.Second))
	if n := due(confirmAfter); n != 0 {
		t.Errorf("%d are due who were put again", n)
	}
}
