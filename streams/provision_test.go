package streams_test

import (
	"context"
	"testing"
	"time"

	"parley/streams"
	"parley/streams/streamstest"
)

func TestProvisionSmoke(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		start := time.Now()
		env := streamstest.Start(t, streamstest.Options{Nodes: nodes, Settings: streams.Settings{Shards: 8, Services: []string{"service"}}})
		t.Logf("%d nodes: %v", nodes, time.Since(start))
		start = time.Now()
		if _, err := streams.Provision(context.Background(), env.JetStream, streams.Settings{}); err != nil {
			t.Fatal(err)
		}
		t.Logf("again: %v", time.Since(start))
		layout, err := streams.LoadLayout(context.Background(), env.JetStream)
		t.Log(layout, err)
		start = time.Now()
		env.Server.Shutdown()
		t.Logf("shutdown: %v", time.Since(start))
	}
}
