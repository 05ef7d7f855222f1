//go:build unix

package main

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
)

var faultRounds = flag.Int("fault-rounds", 1, "how often the server is killed under load")

// A killed server has lost nothing that it acknowledged, and what it had not
// acknowledged is said again and is there once.
func TestKilledUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"one node": nil, "three nodes": {"--nats-nodes=3", "--shards=2"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDevChild(t, "", flags...)
			load := startLoad(t, 8, 4, d.place(t))
			for range *faultRounds {
				load.awaitAcks(t, 50+rand.Int64N(400))
				d.kill()
				d.start(t)
				if rand.N(4) == 0 { // a start that is cut off costs nothing either
					eventually(t, "the admin port answers, which opens first", func() bool {
						status, _ := getStatus(d.admin, "/healthz")
						return status != 0
					})
					d.kill()
					d.start(t)
				}
				d.waitReady(t)
			}
			load.awaitAcks(t, 100)
			load.finish(t)
			messages := load.check(t, d.place(t), d.log(t), filepath.Join(d.data, storeFile))
			t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *faultRounds, load.acks.Load(), messages)
		})
	}
}

// The node that leads a shard goes while messages come, and comes back.
func TestLeaderGoneUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	p := startPartsOn(t, 3, 2)
	first, second := p.startEdge(t, "first"), p.startEdge(t, "second")
	p.startWorker(t, "persist,query,chats,users")
	load := startLoad(t, 4, 4, first.place, second.place)
	for round := range *faultRounds {
		load.awaitAcks(t, 100)
		leader := p.env.Server.Leader("CHAT_" + strconv.Itoa(round%2))
		if leader < 0 {
			t.Fatal("the shard has no leader")
		}
		p.env.Server.StopNode(leader)
		load.awaitAcks(t, 200)
		if err := p.env.Server.RestartNode(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
	}
	load.awaitAcks(t, 100)
	load.finish(t)
	_, log := p.log(t)
	messages := load.check(t, first.place, log, p.store)
	t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *faultRounds, load.acks.Load(), messages)
}

// An edge and a worker are killed under load and started again, while another of
// each goes on.
func TestPartsKilledUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	p := startParts(t, 2)
	listen := "--listen=" + freeAddress(t)
	edge, other := p.startEdge(t, "first", listen), p.startEdge(t, "second")
	worker, next := p.startWorker(t, "persist,query,chats,users"), p.startWorker(t, "persist,query")
	load := startLoad(t, 4, 4, edge.place, other.place)
	for range *faultRounds {
		load.awaitAcks(t, 50+rand.Int64N(200))
		edge.kill()
		load.awaitAcks(t, 50)
		edge = p.startEdge(t, "first", listen)
		load.awaitAcks(t, 50+rand.Int64N(200))
		worker.kill()
		load.awaitAcks(t, 50)
		worker, next = next, p.startWorker(t, "persist,query,chats,users")
	}
	load.awaitAcks(t, 100)
	load.finish(t)
	_, log := p.log(t)
	messages := load.check(t, other.place, log, p.store)
	t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *faultRounds, load.acks.Load(), messages)
}
