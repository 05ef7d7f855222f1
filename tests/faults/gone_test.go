//go:build unix

package faults

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
	"parley/tests/harness"
)

// Without the workers messages come and go; history is unavailable until they
// are back, and has everything then.
func TestWorkersGoneLiveGoesOn(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 2)
	edge := p.StartEdge(t, "first")
	worker := p.StartWorker(t, "persist,query,chats,users")
	load := harness.StartLoad(t, 4, 2, edge.Place)
	load.AwaitAcks(t, 50)
	reader := edge.Dial(t, "a0", parley.Options{})
	chat := load.Pairs[0].Chat
	wantHistory(t, reader, chat)

	worker.Pause(t) // a request waits for its answer until its time is over
	wantNoHistory(t, reader, chat)
	load.AwaitAcks(t, 100)
	worker.Signal(t, syscall.SIGCONT)
	wantHistory(t, reader, chat)

	worker.Kill() // a request finds nobody
	harness.Eventually(t, "NATS has noticed that the worker is gone", func() bool { return history(t, reader, chat) != nil })
	wantNoHistory(t, reader, chat)
	heard := len(load.Pairs[0].Sides[1].Lines())
	load.AwaitAcks(t, 100)
	harness.Eventually(t, "messages still come", func() bool { return len(load.Pairs[0].Sides[1].Lines()) > heard })
	p.StartWorker(t, "persist,query,chats,users")
	wantHistory(t, reader, chat)

	load.Finish(t)
	_, log := p.Log(t)
	t.Logf("2 rounds, %d messages: 0 missing, 0 twice", load.Check(t, edge.Place, log, p.Store))
}

// Without NATS sends are refused with a code that says to come back, nobody is
// sent here, and all goes on by itself.
func TestNATSGoneAndBack(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 2)
	first, second := p.StartEdge(t, "first"), p.StartEdge(t, "second")
	worker := p.StartWorker(t, "persist,query,chats,users")
	load := harness.StartLoad(t, 4, 2, first.Place, second.Place)
	for range *harness.FaultRounds {
		load.AwaitAcks(t, 100)
		probe := second.Dial(t, "carl", parley.Options{})
		p.Env.Server.StopNode(0)
		for _, admin := range []string{first.Admin, second.Admin, worker.Admin} {
			harness.AwaitStatus(t, admin, 503)
		}
		awaitRefusal(t, probe, schemas.Unavailable)
		if err := p.Env.Server.RestartNode(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		for _, admin := range []string{first.Admin, second.Admin, worker.Admin} {
			harness.AwaitStatus(t, admin, 200)
		}
	}
	load.AwaitAcks(t, 100)
	load.Finish(t)
	_, log := p.Log(t)
	t.Logf("%d rounds, %d messages: 0 missing, 0 twice", *harness.FaultRounds, load.Check(t, first.Place, log, p.Store))
}

// history asks for the newest page.
func history(t testing.TB, client *parley.Client, chat schemas.Chat) error {
	t.Helper()
	_, err := client.History(t.Context(), schemas.History{Chat: chat})
	return err
}

func wantHistory(t testing.TB, client *parley.Client, chat schemas.Chat) {
	t.Helper()
	harness.EventuallyWithin(t, harness.ChildWithin, "history is answered", func() bool { return history(t, client, chat) == nil })
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
	deadline := time.After(harness.ChildWithin)
	next := time.NewTicker(200 * time.Millisecond)
	defer next.Stop()
	for i := 0; ; i++ {
		sending, err := client.StartSend(t.Context(), schemas.Send{Chat: chat, ID: harness.MustID(t, fmt.Sprintf("probe%d", i)), Body: parley.Text("is there room?")})
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
			t.Fatalf("no send was refused within %s", harness.ChildWithin)
		case <-next.C:
		}
	}
}
