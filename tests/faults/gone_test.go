//go:build unix

package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/clients/parley"
	"parley/schemas"
)

// Without the workers messages come and go; history is unavailable until they
// are back, and has everything then.
func TestWorkersGoneLiveGoesOn(t *testing.T) {
	t.Parallel()
	p := startParts(t, 2)
	edge := p.startEdge(t, "first")
	worker := p.startWorker(t, "persist,query,chats,users")
	load := startLoad(t, 4, 2, edge.place)
	load.awaitAcks(t, 50)
	reader := edge.dial(t, "a0", parley.Options{})
	chat := load.talks[0].chat
	wantHistory(t, reader, chat)

	worker.pause(t) // a request waits for its answer until its time is over
	wantNoHistory(t, reader, chat)
	load.awaitAcks(t, 100)
	worker.signal(t, syscall.SIGCONT)
	wantHistory(t, reader, chat)

	worker.kill() // a request finds nobody
	eventually(t, "NATS has noticed that the worker is gone", func() bool { return history(t, reader, chat) != nil })
	wantNoHistory(t, reader, chat)
	heard := len(load.talks[0].sides[1].lines())
	load.awaitAcks(t, 100)
	eventually(t, "messages still come", func() bool { return len(load.talks[0].sides[1].lines()) > heard })
	p.startWorker(t, "persist,query,chats,users")
	wantHistory(t, reader, chat)

	load.finish(t)
	_, log := p.log(t)
	t.Logf("2 rounds, %d messages: 0 missing, 0 twice", load.check(t, edge.place, log, p.store))
}

// Without NATS sends are refused with a code that says to come back, nobody is
// sent here, and all goes on by itself.
func TestNATSGoneAndBack(t *testing.T) {
	t.Parallel()
	p := startParts(t, 2)
	first, second := p.startEdge(t, "first"), p.startEdge(t, "second")
	worker := p.startWorker(t, "persist,query,chats,users")
	load := startLoad(t, 4, 2, first.place, second.place)
	for range *faultRounds {
		load.awaitAcks(t, 100)
		probe := second.dial(t, "carl", parley.Options{})
		p.env.Server.StopNode(0)
		for _, admin := range []string{first.admin, second.admin, worker.admin} {
			awaitStatus(t, admin, 503)
		}
		awaitRefusal(t, probe, schemas.Unavailable)
		if err := p.env.Server.RestartNode(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		for _, admin := range []string{first.admin, second.admin, worker.admin} {
			awaitStatus(t, admin, 200)
		}
	}
	load.awaitAcks(t, 100)
	load.finish(t)
	_, log := p.log(t)
	t.Logf("%d rounds, %d messages: 0 missing, 0 twice", *faultRounds, load.check(t, first.place, log, p.store))
}

func awaitStatus(t testing.TB, admin string, want int) {
	t.Helper()
	eventuallyWithin(t, childWithin, admin+" changes its readiness", func() bool {
		status, _ := getStatus(admin, "/readyz")
		return status == want
	})
}

// history asks for the newest page.
func history(t testing.TB, client *parley.Client, chat schemas.Chat) error {
	t.Helper()
	_, err := client.History(t.Context(), schemas.History{Chat: chat})
	return err
}

func wantHistory(t testing.TB, client *parley.Client, chat schemas.Chat) {
	t.Helper()
	eventuallyWithin(t, childWithin, "history is answered", func() bool { return history(t, client, chat) == nil })
}

func wantNoHistory(t testing.TB, client *parley.Client, chat schemas.Chat) {
	t.Helper()
	var refusal *schemas.Error
	if err := history(t, client, chat); !errors.As(err, &refusal) || refusal.Code != schemas.Unavailable || refusal.RetryAfter <= 0 {
		t.Fatalf("history without workers: %v, want %s and a time", err, schemas.Unavailable)
	}
}

// awaitRefusal has client's user send itself a note now and then until one is
// refused, which is with one of codes and with a time after which to try again.
// It closes client.
func awaitRefusal(t testing.TB, client *parley.Client, codes ...schemas.Code) {
	t.Helper()
	user := client.Session().User
	chat := schemas.DirectChat(user, user)
	refused := make(chan error, 1) // of the first; the others are not looked at
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer client.Close() // ends the others' waiting
	deadline := time.After(childWithin)
	next := time.NewTicker(200 * time.Millisecond)
	defer next.Stop()
	for i := 0; ; i++ {
		sending, err := client.StartSend(t.Context(), schemas.Send{Chat: chat, ID: mustID(t, fmt.Sprintf("probe%d", i)), Body: parley.Text("is there room?")})
		if err != nil {
			t.Fatal(err)
		}
		waiting.Go(func() {
			if _, err := sending.Wait(t.Context()); err != nil {
				select {
				case refused <- err:
				default:
				}
			}
		})
		select {
		case err := <-refused:
			var refusal *schemas.Error
			if !errors.As(err, &refusal) || !slices.Contains(codes, refusal.Code) || refusal.RetryAfter <= 0 {
				t.Fatalf("a send was refused with: %v; want one of %v and a time", err, codes)
			}
			t.Logf("a send was refused: %s: %s", refusal.Code, refusal.Message)
			return
		case <-deadline:
			t.Fatalf("no send was refused within %s", childWithin)
		case <-next.C:
		}
	}
}
