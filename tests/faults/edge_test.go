//go:build unix

package faults

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/clients/parley"
	"parley/schemas"
	"parley/tests/harness"
)

// An edge is stopped in the middle of a send, and its client says it again
// through another edge. Wherever the first try was, there is one message.
func TestStoppedEdgeMakesNoSecondMessage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// stop has the edge hold a try of the send and stops it. It returns what
		// sets the try free once the edge was woken.
		stop func(t *testing.T, s *stoppedSend) (free func())
	}{
		{"before the edge has read it", func(t *testing.T, s *stoppedSend) func() {
			s.first.Pause(t)
			s.say(t)
			return func() {}
		}},
		{"before it reached NATS", func(t *testing.T, s *stoppedSend) func() {
			s.gate.ToNATS.Close()
			s.say(t)
			harness.Eventually(t, "the edge has published", func() bool { return s.gate.ToNATS.HeldBytes() > 0 })
			s.first.Pause(t)
			return s.gate.ToNATS.Open
		}},
		{"before it was acknowledged", func(t *testing.T, s *stoppedSend) func() {
			s.gate.FromNATS.Close()
			s.say(t)
			harness.Eventually(t, "the log has the send", func() bool { return s.parts.Stored(t) == 1 })
			s.first.Pause(t)
			return s.gate.FromNATS.Open
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStoppedSend(t)
			free := test.stop(t, s)
			ack := s.sayElsewhere(t)
			<-time.After(*harness.FaultPause) // the fault itself: nothing is waited for
			s.first.Signal(t, syscall.SIGCONT)
			free()
			s.awaitFirst(t)
			want := []harness.Line{{Seq: ack.Seq, From: "alice", ID: "m1"}, {Seq: s.sayAnother(t).Seq, From: "bob", ID: "m2"}}
			_, log := s.parts.Log(t)
			harness.CheckSame(t, s.chat, "the log after the edge was woken", harness.ReadLog(t, log, s.chat), want)
			harness.Eventually(t, "bob hears both", func() bool { return len(s.heard.Lines()) >= 2 })
			harness.CheckSame(t, s.chat, "bob", s.heard.Lines(), want)
			t.Logf("stopped for %s: 1 message", *harness.FaultPause)
		})
	}
}

// stoppedSend is one send through an edge that can be cut from NATS, and another edge.
type stoppedSend struct {
	parts  *harness.Parts
	gate   *harness.Gate
	first  *harness.EdgeChild
	second *harness.EdgeChild
	client *parley.Client   // alice at first
	bob    *parley.Client   // at second
	heard  *harness.Speaker // what bob heard
	chat   schemas.Chat
}

func newStoppedSend(t *testing.T) *stoppedSend {
	t.Helper()
	s := &stoppedSend{parts: harness.StartParts(t, 1), chat: harness.MustChat(t, "direct.alice.bob"), heard: new(harness.Speaker)}
	s.gate = harness.StartGate(t, s.parts.Env.Server.Address())
	s.first = s.parts.StartEdge(t, "first", "--nats=nats://"+s.gate.Address)
	s.second = s.parts.StartEdge(t, "second")
	s.client = s.first.Dial(t, "alice", parley.Options{})
	s.bob = s.second.Dial(t, "bob", parley.Options{OnEvent: s.heard.Hear})
	return s
}

// say has alice send at the first edge, and does not wait.
func (s *stoppedSend) say(t *testing.T) {
	t.Helper()
	_, err := s.client.StartSend(t.Context(), schemas.Send{Chat: s.chat, ID: harness.MustID(t, "m1"), Body: parley.Text("hi")})
	if err != nil {
		t.Fatal(err)
	}
}

// sayElsewhere has alice give up the first edge and say the same at the second.
func (s *stoppedSend) sayElsewhere(t *testing.T) schemas.Ack {
	t.Helper()
	s.client.Close()
	again := s.second.Dial(t, "alice", parley.Options{})
	sending, err := again.StartSend(t.Context(), schemas.Send{Chat: s.chat, ID: harness.MustID(t, "m1"), Body: parley.Text("hi"), Retry: true})
	if err != nil {
		t.Fatal(err)
	}
	ack, err := sending.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

func (s *stoppedSend) sayAnother(t *testing.T) schemas.Ack {
	t.Helper()
	ack, err := s.bob.Send(t.Context(), s.chat, harness.MustID(t, "m2"), parley.Text("hi"))
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

// awaitFirst returns when the first edge has done all that it held: it has read
// the connection to its end, and what it published was answered or given up.
func (s *stoppedSend) awaitFirst(t *testing.T) {
	t.Helper()
	harness.EventuallyWithin(t, harness.ChildWithin, "the first edge has read all that was said", func() bool {
		_, metrics := harness.GetStatus(s.first.Admin, "/metrics")
		return strings.Contains(metrics, "\nparley_edge_connections 0\n")
	})
	s.first.Signal(t, syscall.SIGTERM)
	if state := s.first.WaitExit(t); !state.Success() {
		t.Errorf("the first edge ended with %s", state)
	}
}
