//go:build unix

package presence

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/schemas"
	"parley/tests/harness"
)

var (
	presenceHeartbeat = flag.Duration("presence-heartbeat", 4*time.Second*slowness, "the edges' heartbeat: a key lives for 2.5 of them")
	presenceCut       = flag.Duration("presence-cut", 6*time.Second*slowness, "how long NATS is cut off: 60s at a heartbeat of 30s")
	presenceSessions  = flag.Int("presence-sessions", 1000, "sessions of the edge that is killed")
)

// presenceTTL is how long a key lives that nobody writes again.
func presenceTTL() time.Duration { return *presenceHeartbeat * 5 / 2 }

// presenceWorld is two edges, a worker that says who is online, and one for the rest,
// each with a cable of its own to NATS.
type presenceWorld struct {
	parts         *harness.Parts
	cables        map[string]*harness.Cable
	first, second *harness.EdgeChild
	presence      *harness.WorkerChild
}

func newPresenceWorld(t *testing.T) *presenceWorld {
	t.Helper()
	w := &presenceWorld{parts: harness.StartParts(t, 2), cables: map[string]*harness.Cable{}}
	w.through(t, "rest").StartWorker(t, "persist,receipts,query,chats,users")
	w.startPresence(t)
	w.first, w.second = w.startEdge(t, "edge-1"), w.startEdge(t, "edge-2")
	return w
}

// through is the parts as a process knows them that reaches NATS by a cable.
func (w *presenceWorld) through(t *testing.T, name string) *harness.Parts {
	t.Helper()
	if w.cables[name] == nil {
		w.cables[name] = harness.StartCable(t, strings.TrimPrefix(w.parts.URLs[0], "nats://"))
	}
	p := *w.parts
	p.URLs = []string{"nats://" + w.cables[name].Address}
	return &p
}

func (w *presenceWorld) startEdge(t *testing.T, node string) *harness.EdgeChild {
	t.Helper()
	return w.through(t, node).StartEdge(t, node, "--heartbeat="+presenceHeartbeat.String())
}

func (w *presenceWorld) startPresence(t *testing.T) {
	t.Helper()
	w.presence = w.through(t, "presence").StartWorker(t, "presence")
}

// shown is what a session that watches users was told of them, and when.
type shown struct {
	mu      sync.Mutex
	status  map[string]schemas.Status
	changes map[string][]shownAt
}

type shownAt struct {
	status schemas.Status
	at     time.Time
}

// watch has a session at an edge follow users, and waits until all are shown as online.
func watch(t *testing.T, at harness.Place, name string, users []string) *shown {
	t.Helper()
	s := &shown{status: map[string]schemas.Status{}, changes: map[string][]shownAt{}}
	for i, some := range slices.Collect(slices.Chunk(users, schemas.PresenceUsersMax)) {
		c := at.Talk(t, fmt.Sprintf("%s-%d", name, i))
		c.Say(`{"t":"watch","users":["` + strings.Join(some, `","`) + `"]}`)
		go func() {
			for f := range c.Heard {
				s.take(f)
			}
		}()
	}
	harness.Eventually(t, "all users are shown as online", func() bool { return s.count(users, schemas.Online) == len(users) })
	return s
}

func (s *shown) take(f harness.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for user, is := range f.Users {
		name := user.String()
		if s.status[name] != is.Status {
			s.changes[name] = append(s.changes[name], shownAt{is.Status, time.Now()})
		}
		s.status[name] = is.Status
	}
}

func (s *shown) count(users []string, status schemas.Status) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, user := range users {
		if s.status[user] == status {
			n++
		}
	}
	return n
}

// wentAt returns when users were first shown as offline, of those who were.
func (s *shown) wentAt(users []string) (at []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, user := range users {
		for _, change := range s.changes[user] {
			if change.status == schemas.Offline && len(s.changes[user]) > 1 {
				at = append(at, change.at)
				break
			}
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// wantNoFlicker checks that users who were there all the time were never shown as offline.
func (s *shown) wantNoFlicker(t *testing.T, users []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, user := range users {
		online := false
		for _, change := range s.changes[user] {
			if online && change.status != schemas.Online {
				t.Errorf("%s, who was there all the time, was shown as %v", user, s.changes[user])
				break
			}
			online = online || change.status == schemas.Online
		}
	}
}

// wantGone waits until users are shown as offline, and tells how long after since it took.
func (s *shown) wantGone(t *testing.T, what string, users []string, since time.Time) {
	t.Helper()
	harness.EventuallyWithin(t, 3*presenceTTL()+30*time.Second, what+" are shown as offline", func() bool { return s.count(users, schemas.Offline) == len(users) })
	went := s.wentAt(users)
	t.Logf("%s: %d users shown as offline after %s to %s; a key lives %s", what, len(users),
		went[0].Sub(since).Round(10*time.Millisecond), went[len(went)-1].Sub(since).Round(10*time.Millisecond), presenceTTL())
}

// names are users of a kind.
func names(kind string, n int) (users []string) {
	for i := range n {
		users = append(users, fmt.Sprintf("%s%d", kind, i))
	}
	return users
}

// sessionsOf opens a session of each user.
func sessionsOf(t *testing.T, at harness.Place, users []string) map[string]*harness.Talker {
	t.Helper()
	sessions := make(map[string]*harness.Talker, len(users))
	for _, user := range users {
		sessions[user] = at.Talk(t, user)
	}
	return sessions
}

// TestKilledEdgeTakesItsUsersOffline: those of the other edge stay.
func TestKilledEdgeTakesItsUsersOffline(t *testing.T) {
	t.Parallel()
	w := newPresenceWorld(t)
	gone, staying := names("gone", *presenceSessions), names("staying", 20)
	both := staying[:5] // have a session on each edge
	sessionsOf(t, w.first.Place, gone)
	sessionsOf(t, w.first.Place, both)
	sessionsOf(t, w.second.Place, staying)
	seen := watch(t, w.second.Place, "watcher", append(slices.Clone(gone), staying...))
	killed := time.Now()
	w.first.Kill()
	seen.wantGone(t, "users of the killed edge", gone, killed)
	seen.wantNoFlicker(t, staying)
	again := w.second.Talk(t, gone[0])
	harness.Eventually(t, "who comes back is online", func() bool { return seen.count(gone[:1], schemas.Online) == 1 })
	again.HangUp()
	harness.Eventually(t, "and goes", func() bool { return seen.count(gone[:1], schemas.Offline) == 1 })
}

// TestKilledPresenceWorkerComesBack: what happened meanwhile is told then, and a user
// stays online of whose two sessions one closes just after.
func TestKilledPresenceWorkerComesBack(t *testing.T) {
	t.Parallel()
	w := newPresenceWorld(t)
	staying, leaving := names("staying", 50), names("leaving", 50)
	kept, closed := sessionsOf(t, w.first.Place, staying), sessionsOf(t, w.second.Place, staying)
	left := sessionsOf(t, w.first.Place, leaving)
	seen := watch(t, w.second.Place, "watcher", append(slices.Clone(staying), leaving...))
	w.presence.Kill()
	since := time.Now()
	for _, session := range left {
		session.HangUp()
	}
	w.startPresence(t)
	for _, session := range closed {
		session.HangUp()
	}
	seen.wantGone(t, "users who left while no worker was there", leaving, since)
	<-time.After(presenceTTL() + *presenceHeartbeat) // the fault itself: time for a mistaken word
	seen.wantNoFlicker(t, staying)
	since = time.Now()
	for _, session := range kept {
		session.HangUp()
	}
	seen.wantGone(t, "users whose last session closed", staying, since)
}

// TestNATSIsCutOff from one edge, or from everybody: who stays connected is not shown as
// offline then or after, and who left meanwhile is.
func TestNATSIsCutOff(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string][]string{"from one edge": {"edge-1"}, "from all": {"edge-1", "edge-2", "presence", "rest"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newPresenceWorld(t)
			staying, leaving := names("staying", 100), names("leaving", 50)
			sessionsOf(t, w.first.Place, staying)
			left := sessionsOf(t, w.first.Place, leaving)
			seen := watch(t, w.second.Place, "watcher", append(slices.Clone(staying), leaving...))
			for _, cable := range cut {
				w.cables[cable].SetCut(true)
			}
			since := time.Now()
			for _, session := range left {
				session.HangUp()
			}
			<-time.After(*presenceCut) // the fault itself
			for _, cable := range cut {
				w.cables[cable].SetCut(false)
			}
			seen.wantGone(t, "users who left while NATS was cut off", leaving, since)
			<-time.After(presenceTTL() + *presenceHeartbeat) // time for a mistaken word
			seen.wantNoFlicker(t, staying)
			if n := seen.count(staying, schemas.Online); n != len(staying) {
				t.Errorf("%d of %d who stayed are online", n, len(staying))
			}
		})
	}
}

// TestStoppedNATSLetsNobodyFlicker: when it goes on, all keys are over their time at once.
func TestStoppedNATSLetsNobodyFlicker(t *testing.T) {
	t.Parallel()
	d := harness.StartDevChild(t, "", "--heartbeat="+presenceHeartbeat.String(), "--address-rate=0")
	staying := names("staying", 50)
	sessionsOf(t, d.Place(t), staying)
	seen := watch(t, d.Place(t), "watcher", staying)
	d.Signal(t, syscall.SIGSTOP)
	<-time.After(*presenceHeartbeat * 2) // within which no session is silent for too long
	d.Signal(t, syscall.SIGCONT)
	<-time.After(presenceTTL() + *presenceHeartbeat)
	seen.wantNoFlicker(t, staying)
}

// TestDrainedEdgeLetsNobodyFlicker whose client comes back elsewhere.
func TestDrainedEdgeLetsNobodyFlicker(t *testing.T) {
	t.Parallel()
	w := newPresenceWorld(t)
	returning, leaving := names("returning", 50), names("leaving", 20)
	sessions := sessionsOf(t, w.first.Place, returning)
	sessionsOf(t, w.first.Place, leaving)
	seen := watch(t, w.second.Place, "watcher", append(slices.Clone(returning), leaving...))
	since := time.Now()
	w.first.Signal(t, syscall.SIGTERM)
	var back sync.WaitGroup
	for user, session := range sessions {
		back.Go(func() {
			for range session.Heard { // until it is closed
			}
			w.second.Talk(t, user)
		})
	}
	back.Wait()
	if state := w.first.WaitExit(t); !state.Success() {
		t.Errorf("the edge ended with %s", state)
	}
	seen.wantGone(t, "users of the drained edge who did not come back", leaving, since)
	seen.wantNoFlicker(t, returning)
}
