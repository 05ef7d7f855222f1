//go:build unix

package main

import (
	"flag"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/clients/parley"
	"parley/schemas"
)

var faultPause = flag.Duration("fault-pause", 3*time.Second, "how long a part is stopped")

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
			s.first.pause(t)
			s.say(t)
			return func() {}
		}},
		{"before it reached NATS", func(t *testing.T, s *stoppedSend) func() {
			s.gate.toNATS.close()
			s.say(t)
			eventually(t, "the edge has published", func() bool { return s.gate.toNATS.heldBytes() > 0 })
			s.first.pause(t)
			return s.gate.toNATS.open
		}},
		{"before it was acknowledged", func(t *testing.T, s *stoppedSend) func() {
			s.gate.fromNATS.close()
			s.say(t)
			eventually(t, "the log has the send", func() bool { return s.parts.stored(t) == 1 })
			s.first.pause(t)
			return s.gate.fromNATS.open
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStoppedSend(t)
			free := test.stop(t, s)
			ack := s.sayElsewhere(t)
			<-time.After(*faultPause) // the fault itself: nothing is waited for
			s.first.signal(t, syscall.SIGCONT)
			free()
			s.awaitFirst(t)
			want := []line{{ack.Seq, "alice", "m1"}, {s.sayAnother(t).Seq, "bob", "m2"}}
			_, log := s.parts.log(t)
			checkSame(t, s.chat, "the log after the edge was woken", readLog(t, log, s.chat), want)
			eventually(t, "bob hears both", func() bool { return len(s.heard.lines()) >= 2 })
			checkSame(t, s.chat, "bob", s.heard.lines(), want)
			t.Logf("stopped for %s: 1 message", *faultPause)
		})
	}
}

// stoppedSend is one send through an edge that can be cut from NATS, and another edge.
type stoppedSend struct {
	parts  *parts
	gate   *gate
	first  *edgeChild
	second *edgeChild
	client *parley.Client // alice at first
	bob    *parley.Client // at second
	heard  *speaker       // what bob heard
	chat   schemas.Chat
}

func newStoppedSend(t *testing.T) *stoppedSend {
	t.Helper()
	s := &stoppedSend{parts: startParts(t, 1), chat: mustChat(t, "direct.alice.bob"), heard: new(speaker)}
	s.gate = startGate(t, s.parts.env.Server.Address())
	s.first = s.parts.startEdge(t, "first", "--nats=nats://"+s.gate.address)
	s.second = s.parts.startEdge(t, "second")
	s.client = s.first.dial(t, "alice", parley.Options{})
	s.bob = s.second.dial(t, "bob", parley.Options{OnEvent: s.heard.hear})
	return s
}

// say has alice send at the first edge, and does not wait.
func (s *stoppedSend) say(t *testing.T) {
	t.Helper()
	_, err := s.client.StartSend(t.Context(), schemas.Send{Chat: s.chat, ID: mustID(t, "m1"), Body: parley.Text("hi")})
	if err != nil {
		t.Fatal(err)
	}
}

// sayElsewhere has alice give up the first edge and say the same at the second.
func (s *stoppedSend) sayElsewhere(t *testing.T) schemas.Ack {
	t.Helper()
	s.client.Close()
	again := s.second.dial(t, "alice", parley.Options{})
	sending, err := again.StartSend(t.Context(), schemas.Send{Chat: s.chat, ID: mustID(t, "m1"), Body: parley.Text("hi"), Retry: true})
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
	ack, err := s.bob.Send(t.Context(), s.chat, mustID(t, "m2"), parley.Text("hi"))
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

// awaitFirst returns when the first edge has done all that it held: it has read
// the connection to its end, and what it published was answered or given up.
func (s *stoppedSend) awaitFirst(t *testing.T) {
	t.Helper()
	eventuallyWithin(t, childWithin, "the first edge has read all that was said", func() bool {
		_, metrics := getStatus(s.first.admin, "/metrics")
		return strings.Contains(metrics, "\nparley_edge_connections 0\n")
	})
	s.first.signal(t, syscall.SIGTERM)
	if state := s.first.waitExit(t); !state.Success() {
		t.Errorf("the first edge ended with %s", state)
	}
}
