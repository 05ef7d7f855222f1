//go:build unix

package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/clients/parley"
	"parley/schemas"
)

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
