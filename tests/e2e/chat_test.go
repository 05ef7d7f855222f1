package e2e

import (
	"testing"

	"parley/clients/parley"
	"parley/schemas"
	"parley/tests/harness"
)

func TestTwoUsersChat(t *testing.T) {
	t.Parallel()
	d := harness.StartDev(t, "")
	chat := harness.MustChat(t, "direct.alice.bob")
	events := make(chan parley.Event, 16)
	alice := d.Dial(t, "alice", parley.Options{})
	bob := d.Dial(t, "bob", parley.Options{OnEvent: func(ev parley.Event) { events <- ev }})

	ack, err := alice.Send(t.Context(), chat, harness.MustID(t, "m1"), parley.Text("hi bob"))
	if err != nil {
		t.Fatal(err)
	}
	got := <-events
	if got.Seq != ack.Seq || got.From.String() != "alice" || got.Chat != chat {
		t.Fatalf("bob got %+v, want seq %d from alice", got, ack.Seq)
	}
	again, err := alice.Send(t.Context(), chat, harness.MustID(t, "m1"), parley.Text("another text, the same id"))
	if err != nil || again.Seq != ack.Seq || !again.Duplicate {
		t.Fatalf("the same id again: %+v, %v; want a duplicate at %d", again, err, ack.Seq)
	}
	page, err := bob.History(t.Context(), schemas.History{Chat: chat})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Events) != 1 || page.Events[0].Seq != ack.Seq || page.More {
		t.Fatalf("history is %+v", page)
	}
}
