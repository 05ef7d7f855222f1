package streams_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"parley/streams"
	"parley/streams/streamstest"
)

func TestConnectTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true})
	cfg := streams.ConnectConfig{Component: edge, URLs: env.Server.URLs(), Password: "wrong", Log: slog.New(slog.DiscardHandler)}
	_, err := streams.Connect(testContext(t), cfg)
	if err == nil || !strings.Contains(err.Error(), "set PARLEY_NATS_EDGE_PASSWORD") {
		t.Errorf("connected with a wrong password: %v", err)
	}
	env.Server.Shutdown()
	cfg.Password = env.Passwords.Edge
	_, err = streams.Connect(testContext(t), cfg)
	if err == nil || !strings.Contains(err.Error(), "start the server there") {
		t.Errorf("connected to a server that is stopped: %v", err)
	}
}

func TestConnectionComesBackAndTellsIt(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true})
	lost, back := make(chan struct{}, 8), make(chan struct{}, 8)
	nc := env.ConnectWith(t, streams.ConnectConfig{
		Component:    edge,
		OnDisconnect: func(error) { lost <- struct{}{} },
		OnReconnect:  func() { back <- struct{}{} },
	})
	ctx := testContext(t)
	wait := func(what string, signal chan struct{}) {
		t.Helper()
		select {
		case <-signal:
		case <-ctx.Done():
			t.Fatal("the connection did not tell that it is " + what)
		}
	}
	env.Server.StopNode(0)
	wait("lost", lost)
	if err := nc.Publish("live.group.team.timeline", nil); err == nil {
		t.Error("a message was buffered while NATS was away")
	}
	if err := env.Server.RestartNode(ctx, 0); err != nil {
		t.Fatal(err)
	}
	wait("back", back)
	if err := nc.FlushWithContext(ctx); err != nil {
		t.Error(err)
	}
}

func TestSlowConsumerIsTold(t *testing.T) {
	t.Parallel()
	env := streamstest.Start(t, streamstest.Options{NoSync: true, NoProvision: true})
	slow := make(chan *nats.Subscription, 1)
	nc := env.ConnectWith(t, streams.ConnectConfig{
		Component:      edge,
		OnSlowConsumer: func(sub *nats.Subscription) { slow <- sub },
	})
	full := make(chan *nats.Msg) // nobody reads it
	sub, err := nc.ChanSubscribe("live.group.team.>", full)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("live.group.team.timeline", nil); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-slow:
		if got != sub {
			t.Errorf("slow is %s, want %s", got.Subject, sub.Subject)
		}
	case <-testContext(t).Done():
		t.Fatal("nobody was told")
	}
}
