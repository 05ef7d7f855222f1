//go:build unix

package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json"

	"parley/clients/parley"
	"parley/schemas"
	"parley/tests/harness"
)

// A server that is asked to end, by a signal or by an operator, acknowledges
// what is under way, sends its clients elsewhere one after the other, and ends with 0.
func TestDrainLosesNothing(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(t *testing.T, d *harness.DevChild){
		"SIGTERM": func(t *testing.T, d *harness.DevChild) { d.Signal(t, syscall.SIGTERM) },
		"SIGINT":  func(t *testing.T, d *harness.DevChild) { d.Signal(t, syscall.SIGINT) },
		"parley drain": func(t *testing.T, d *harness.DevChild) {
			drain := harness.StartChild(t, nil, "drain", "dev", "--nats=nats://"+d.NATS, "--data="+d.Data)
			if state := drain.WaitExit(t); !state.Success() || !strings.HasPrefix(drain.Stdout.String(), "dev drains: ") {
				t.Errorf("drain ended with %s and said %q%s", state, drain.Stdout, drain.Stderr)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := harness.StartDevChild(t, "")
			chatters := startChatters(t, d.Place(t), 20)
			chatters.awaitAcks(t, 200)
			ask(t, d)
			if state := d.WaitExit(t); !state.Success() {
				t.Errorf("the server ended with %s", state)
			}
			delays := chatters.wait(t)
			least, most := delays[0], delays[0]
			for _, delay := range delays {
				least, most = min(least, delay), max(most, delay)
			}
			// 20 delays over 5 s lie closer only in one of 10^11 drains.
			if least < 0 || most >= 5000 || most-least < 1000 {
				t.Errorf("the delays are %v", delays)
			}
			d.Start(t)
			d.WaitReady(t)
			sends := chatters.checkAcked(t, d)
			t.Logf("%d sends in the log: all acknowledged", sends)
		})
	}
}

// chatters are users who send themselves notes until their connection ends.
type chatters struct {
	clients []*parley.Client
	sending sync.WaitGroup

	mu    sync.Mutex
	acks  int
	acked map[string]map[string]uint64 // seq by id, by user
}

func startChatters(t *testing.T, at harness.Place, n int) *chatters {
	t.Helper()
	c := &chatters{acked: map[string]map[string]uint64{}}
	for i := range n {
		c.clients = append(c.clients, at.Dial(t, fmt.Sprintf("u%d", i), parley.Options{}))
	}
	for _, client := range c.clients {
		user := client.Session().User
		acked := map[string]uint64{}
		c.acked[user.String()] = acked
		for worker := range 3 {
			c.sending.Go(func() {
				for i := 0; ; i++ {
					id, err := schemas.ParseID(fmt.Sprintf("w%d-%d", worker, i))
					if err != nil {
						panic(err)
					}
					ack, err := client.Send(t.Context(), schemas.DirectChat(user, user), id, parley.Text("hi"))
					if err != nil {
						return // refused while the server drains, or the connection is over
					}
					c.mu.Lock()
					acked[id.String()] = ack.Seq
					c.acks++
					c.mu.Unlock()
				}
			})
		}
	}
	t.Cleanup(func() {
		for _, client := range c.clients {
			client.Close()
		}
		c.sending.Wait()
	})
	return c
}

func (c *chatters) awaitAcks(t *testing.T, n int) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("%d acknowledged sends", n), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.acks >= n
	})
}

// wait returns the delays that the clients were told, in ms.
func (c *chatters) wait(t *testing.T) (delays []int64) {
	t.Helper()
	for _, client := range c.clients {
		select {
		case <-client.Done():
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
		var closed *parley.CloseError
		if !errors.As(client.Err(), &closed) || closed.Code != schemas.CloseDraining {
			t.Fatalf("a client ended with: %v, want %d", client.Err(), schemas.CloseDraining)
		}
		var reason schemas.DrainReason
		if err := json.Unmarshal([]byte(closed.Text), &reason); err != nil {
			t.Fatalf("the close's reason is %q: %v", closed.Text, err)
		}
		delays = append(delays, reason.Delay)
	}
	c.sending.Wait()
	return delays
}

// CheckAcked wants all that is in the log to be acknowledged, and all
// acknowledged to be in the log. It returns how much that is.
func (c *chatters) checkAcked(t *testing.T, d *harness.DevChild) (sends int) {
	t.Helper()
	log := d.Log(t)
	for user, acked := range c.acked {
		lines := harness.ReadLog(t, log, harness.MustChat(t, "direct."+user+"."+user))
		harness.CheckAcked(t, user, acked, lines)
		for _, l := range lines {
			if acked[l.ID] != l.Seq {
				t.Errorf("%s is in the log and was not acknowledged", l)
			}
		}
		sends += len(lines)
	}
	return sends
}

// While it waits for what is under way, a second signal ends it at once.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 1)
	gate := harness.StartGate(t, p.Env.Server.Address())
	edge := p.StartEdge(t, "first", "--nats=nats://"+gate.Address)
	client := edge.Dial(t, "alice", parley.Options{})
	gate.FromNATS.Close()
	if _, err := client.StartSend(t.Context(), schemas.Send{Chat: harness.MustChat(t, "direct.alice.bob"), ID: harness.MustID(t, "m1"), Body: parley.Text("hi")}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the log has the send, whose ack is held back", func() bool { return p.Stored(t) == 1 })
	edge.Signal(t, syscall.SIGTERM)
	harness.Eventually(t, "the edge drains", func() bool {
		_, reason := harness.GetStatus(edge.Admin, "/readyz")
		return reason == "draining"
	})
	edge.Signal(t, syscall.SIGTERM)
	state := edge.WaitExit(t)
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("the edge ended with %s, want the signal to end it", state)
	}
}
