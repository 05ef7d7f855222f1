//go:build unix

package faults

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"parley/streams/streamstest"
	"parley/tests/harness"
)

// A killed server has lost nothing that it acknowledged, and what it had not
// acknowledged is said again and is there once.
func TestKilledUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"one node": nil, "three nodes": {"--nats-nodes=3", "--shards=2"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := harness.StartDevChild(t, "", flags...)
			load := harness.StartLoad(t, 8, 4, d.Place(t))
			for range *harness.FaultRounds {
				load.AwaitAcks(t, 50+rand.Int64N(400))
				d.Kill()
				d.Start(t)
				if rand.N(4) == 0 { // a start that is cut off costs nothing either
					harness.Eventually(t, "the admin port answers, which opens first", func() bool {
						status, _ := harness.GetStatus(d.Admin, "/healthz")
						return status != 0
					})
					d.Kill()
					d.Start(t)
				}
				d.WaitReady(t)
			}
			load.AwaitAcks(t, 100)
			load.Finish(t)
			messages := load.Check(t, d.Place(t), d.Log(t), filepath.Join(d.Data, harness.StoreFile))
			t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *harness.FaultRounds, load.Acks.Load(), messages)
		})
	}
}

// The node that leads a shard goes while messages come, and comes back.
func TestLeaderGoneUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	p := harness.StartPartsOn(t, 3, 2)
	first, second := p.StartEdge(t, "first"), p.StartEdge(t, "second")
	p.StartWorker(t, "persist,query,chats,users")
	load := harness.StartLoad(t, 4, 4, first.Place, second.Place)
	for round := range *harness.FaultRounds {
		load.AwaitAcks(t, 100)
		leader := p.Env.Server.Leader("CHAT_" + strconv.Itoa(round%2))
		if leader < 0 {
			t.Fatal("the shard has no leader")
		}
		p.Env.Server.StopNode(leader)
		load.AwaitAcks(t, 200)
		if err := p.Env.Server.RestartNode(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
	}
	load.AwaitAcks(t, 100)
	load.Finish(t)
	_, log := p.Log(t)
	messages := load.Check(t, first.Place, log, p.Store)
	t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *harness.FaultRounds, load.Acks.Load(), messages)
}

// An edge and a worker are killed under load and started again, while another of
// each goes on.
func TestPartsKilledUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 2)
	listen := "--listen=" + harness.FreeAddress(t)
	edge, other := p.StartEdge(t, "first", listen), p.StartEdge(t, "second")
	worker, next := p.StartWorker(t, "persist,query,chats,users"), p.StartWorker(t, "persist,query")
	load := harness.StartLoad(t, 4, 4, edge.Place, other.Place)
	for range *harness.FaultRounds {
		load.AwaitAcks(t, 50+rand.Int64N(200))
		edge.Kill()
		load.AwaitAcks(t, 50)
		edge = p.StartEdge(t, "first", listen)
		load.AwaitAcks(t, 50+rand.Int64N(200))
		worker.Kill()
		load.AwaitAcks(t, 50)
		worker, next = next, p.StartWorker(t, "persist,query,chats,users")
	}
	load.AwaitAcks(t, 100)
	load.Finish(t)
	_, log := p.Log(t)
	messages := load.Check(t, other.Place, log, p.Store)
	t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *harness.FaultRounds, load.Acks.Load(), messages)
}

// The node that leads a shard is killed while messages come, and comes back.
func TestLeaderKilledUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t)
	p := harness.StartPartsAt(t, c.URLs(), streamstest.Passwords(), 2)
	first, second := p.StartEdge(t, "first"), p.StartEdge(t, "second")
	p.StartWorker(t, "persist,query,chats,users")
	load := harness.StartLoad(t, 4, 4, first.Place, second.Place)
	js, log := p.Log(t)
	for round := range *harness.FaultRounds {
		load.AwaitAcks(t, 100)
		leader := c.Leader(t, js, fmt.Sprintf("CHAT_%d", round%2))
		leader.Kill()
		load.AwaitAcks(t, 200)
		c.Start(t, leader)
		leader.WaitReady(t)
	}
	load.AwaitAcks(t, 100)
	load.Finish(t)
	messages := load.Check(t, first.Place, log, p.Store)
	t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *harness.FaultRounds, load.Acks.Load(), messages)
}
