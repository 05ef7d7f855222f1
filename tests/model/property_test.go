//go:build unix

package model

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/schemas"
	"parley/streams/streamstest"
	"parley/tests/cassandra/cassandratest"
	"parley/tests/harness"
)

var (
	groupRounds = flag.Int("group-rounds", 3, "rounds of random changes of groups")
	groupSteps  = flag.Int("group-steps", 30, "what each user does in one of them")
	groupSeed   = flag.Uint64("group-seed", 0, "seed of the first round; 0: another each time")
)

// Users on two edges change groups at random and all at once. Of two changes that
// exclude each other one wins, and everybody ends with the same list.
func TestGroupsAgreeUnderRandomChanges(t *testing.T) {
	t.Parallel()
	w := startGroupWorld(t, harness.StartParts(t, 2), 8)
	w.rounds(t, *groupRounds, *groupSteps)
}

// The same, stored in Cassandra.
func TestGroupsAgreeInCassandra(t *testing.T) {
	t.Parallel()
	address := cassandratest.Shared(t)
	env := streamstest.Start(t, streamstest.Options{NoProvision: true, Log: slog.New(slog.DiscardHandler)})
	p := &harness.Parts{URLs: env.Server.URLs(), Passwords: env.Passwords, Env: env}
	p.Store = "cql://" + address + "/" + cassandratest.Keyspace(t, address)
	p.Migrate(t, "--shards=2", "--max-bytes=67108864")
	w := startGroupWorld(t, p, 6)
	w.rounds(t, 1, 15)
}

func (w *groupWorld) rounds(t *testing.T, rounds, steps int) {
	t.Helper()
	seed := *groupSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for round := range rounds {
		t.Logf("round %d: -group-seed=%d", round+1, seed+uint64(round))
		w.random(t, seed+uint64(round), steps)
		w.duels(t, 3)
		w.race(t, 10)
		w.settle(t)
		if t.Failed() {
			return
		}
	}
	late := w.users[len(w.users)-2:]
	for _, user := range late { // who was never connected finds the groups it was added to
		w.connect(t, user)
	}
	g := w.create(t, w.users[0], nil, late)
	w.talks[late[0]].Send(g.chat, "I am here")
	w.settle(t)
	if !t.Failed() {
		t.Logf("%d rounds: %s", rounds, &w.counts)
	}
}

// random has all who are connected do what they like, in three groups.
func (w *groupWorld) random(t *testing.T, seed uint64, steps int) {
	t.Helper()
	for i := range 3 {
		w.create(t, w.users[i], []string{w.users[i+1], w.users[(i+2)%4]}, []string{w.users[len(w.users)-1]})
	}
	acts := map[*harness.Talker]func(){}
	for i, user := range w.users {
		if c := w.talks[user]; c != nil {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			acts[c] = func() {
				for range steps {
					w.act(t, rng, c, w.groups)
				}
			}
		}
	}
	atOnce(acts)
}

// duel is requests that are made at once.
type duel struct {
	what   string
	asks   map[*harness.Talker]string
	wins   int            // how many are answered with success
	losing []schemas.Code // what the others are answered with
}

func (w *groupWorld) fight(t *testing.T, d duel) {
	t.Helper()
	w.counts.duels++
	var mu sync.Mutex
	won := 0
	acts := map[*harness.Talker]func(){}
	for c, request := range d.asks {
		acts[c] = func() {
			f := c.Ask("%s", request)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case f.T != schemas.TError:
				won++
			case !slices.Contains(d.losing, f.Code):
				t.Errorf("%s: %s is answered with %v", d.what, request, f)
			}
		}
	}
	atOnce(acts)
	if won != d.wins {
		t.Errorf("%s: %d won, want %d", d.what, won, d.wins)
	}
}

// duels are changes that exclude each other, asked for on two edges at once.
func (w *groupWorld) duels(t *testing.T, n int) {
	t.Helper()
	owner, a, b, member := w.users[0], w.users[1], w.users[2], w.users[3]
	begin := func() (remove, crown func(string) string) {
		g := w.create(t, owner, []string{a, b}, []string{member})
		remove = func(user string) string {
			return fmt.Sprintf(`{"t":"remove","chat":"%s","users":["%s"]}`, g.chat, user)
		}
		crown = func(user string) string {
			return fmt.Sprintf(`{"t":"role","chat":"%s","user":"%s","role":"owner"}`, g.chat, user)
		}
		return remove, crown
	}
	here, there := w.talks[owner], w.second
	type asks = map[*harness.Talker]string
	for range n {
		remove, crown := begin()
		w.fight(t, duel{"two admins remove each other, which only the owner may",
			asks{w.talks[a]: remove(b), w.talks[b]: remove(a)}, 0, []schemas.Code{schemas.Forbidden}})
		w.fight(t, duel{"the owner gives the group to an admin, and removes it",
			asks{here: crown(a), there: remove(a)}, 1, []schemas.Code{schemas.Forbidden, schemas.Invalid}})
		_, crown = begin()
		w.fight(t, duel{"the owner gives the group to two admins", asks{here: crown(a), there: crown(b)}, 1, []schemas.Code{schemas.Forbidden}})
		// Whoever has it by now and the one before remove each other: one is the owner.
		remove, crown = begin()
		here.Do("%s", crown(a))
		w.fight(t, duel{"the owner and who was it before remove each other",
			asks{w.talks[a]: remove(owner), w.talks[owner]: remove(a)}, 1, []schemas.Code{schemas.Forbidden, schemas.NotMember}})
		id := harness.NewID()
		create := fmt.Sprintf(`{"t":"create","id":"%s","name":"Mine","members":["%s"]}`, id, member)
		w.fight(t, duel{"two make a group of one id", asks{w.talks[a]: create, w.talks[b]: create}, 1, []schemas.Code{schemas.Conflict}})
		w.groups = append(w.groups, &worldGroup{chat: "group." + id})
	}
}

// race has one added by the owner and removed by an admin at once, again and
// again, while somebody sends 50 messages a second.
func (w *groupWorld) race(t *testing.T, n int) {
	t.Helper()
	owner, admin, raced, speaker := w.users[0], w.users[1], w.users[2], w.users[3]
	g := w.create(t, owner, []string{admin}, []string{raced, speaker})
	stop := make(chan struct{})
	var speaking sync.WaitGroup
	speaking.Go(func() {
		beat := time.NewTicker(time.Second / 50)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				w.talks[speaker].Send(g.chat, "on and on")
			case <-stop:
				return
			}
		}
	})
	for range n {
		w.counts.races++
		acts := map[*harness.Talker]func(){}
		for user, change := range map[string]string{owner: "add", admin: "remove"} {
			c := w.talks[user]
			acts[c] = func() {
				if f := c.Ask(`{"t":"%s","chat":"%s","users":["%s"]}`, change, g.chat, raced); f.T != schemas.TDone {
					t.Errorf("%s %s: %v", user, change, f)
				}
			}
		}
		atOnce(acts)
	}
	close(stop)
	speaking.Wait()
}

// Who has made a group may talk there as soon as it has the answer.
func TestWhoMadeAGroupTalksThereAtOnce(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "", "--user-rate=0")
	alice := d.Talk(t, "alice")
	for range 100 {
		chat := alice.Do(`{"t":"create","id":"%s","name":"New"}`, harness.NewID()).Chat
		alice.Send(chat, "hello")
	}
	t.Log("100 groups: 0 refused")
}
