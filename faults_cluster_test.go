//go:build unix

package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/streams/streamstest"
)

// cluster is NATS servers as processes of their own: three, or one alone.
type cluster struct {
	nodes  []*clusterNode
	routes []string
	flags  []string // of every node, beside what tells them apart
}

type clusterNode struct {
	*child
	name, listen, route, dir string
	within                   []string // see startChildWithin
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := newCluster(t, 3)
	c.startAll(t)
	return c
}

// newCluster starts nothing yet.
func newCluster(t testing.TB, nodes int, flags ...string) *cluster {
	t.Helper()
	c := &cluster{flags: flags}
	for i := range nodes {
		n := &clusterNode{name: fmt.Sprintf("nats-%d", i+1), listen: freeAddress(t), dir: filepath.Join(t.TempDir(), "nats")}
		if nodes > 1 {
			n.route = freeAddress(t)
			c.routes = append(c.routes, n.route)
		}
		c.nodes = append(c.nodes, n)
	}
	return c
}

// startAll starts the nodes together: one of three alone is never ready.
func (c *cluster) startAll(t testing.TB) {
	t.Helper()
	for _, n := range c.nodes {
		c.start(t, n)
	}
	for _, n := range c.nodes {
		n.waitReady(t)
	}
}

func (c *cluster) start(t testing.TB, n *clusterNode) {
	t.Helper()
	environment := []string{programVariable + "=" + natsNode}
	for _, component := range []streams.Component{
		streams.EdgeComponent, streams.WorkerComponent, streams.OperatorComponent, streams.ServiceComponent, streams.AdminComponent,
	} {
		environment = append(environment, component.PasswordVariable()+"="+streamstest.Passwords().Of(component))
	}
	n.child = startChildWithin(t, n.within, environment, append([]string{
		"-name=" + n.name, "-listen=" + n.listen, "-route=" + n.route, "-routes=" + strings.Join(c.routes, ","), "-dir=" + n.dir,
	}, c.flags...)...)
}

func (c *cluster) urls() (urls []string) {
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+n.listen)
	}
	return urls
}

// leader returns the node that leads a shard's stream, once there is one.
func (c *cluster) leader(t testing.TB, js jetstream.JetStream, stream string) (leader *clusterNode) {
	t.Helper()
	eventuallyWithin(t, childWithin, stream+" has a leader", func() bool {
		found, err := js.Stream(t.Context(), stream)
		if err != nil || found.CachedInfo().Cluster == nil {
			return false
		}
		for _, n := range c.nodes {
			if n.name == found.CachedInfo().Cluster.Leader {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

// awaitReplicas returns when every node has all of the chat streams.
func awaitReplicas(t testing.TB, js jetstream.JetStream, layout streams.Layout) {
	t.Helper()
	for _, shard := range layout.All() {
		eventuallyWithin(t, childWithin, shard.Stream()+" is the same on all nodes", func() bool {
			stream, err := js.Stream(t.Context(), shard.Stream())
			if err != nil || stream.CachedInfo().Cluster == nil || len(stream.CachedInfo().Cluster.Replicas) != 2 {
				return false
			}
			return !slices.ContainsFunc(stream.CachedInfo().Cluster.Replicas, func(peer *jetstream.PeerInfo) bool { return !peer.Current || peer.Offline })
		})
	}
}

// The node that leads a shard is killed while messages come, and comes back.
func TestLeaderKilledUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	p := startPartsAt(t, c.urls(), streamstest.Passwords(), 2)
	first, second := p.startEdge(t, "first"), p.startEdge(t, "second")
	p.startWorker(t, "persist,query,chats,users")
	load := startLoad(t, 4, 4, first.place, second.place)
	js, log := p.log(t)
	for round := range *faultRounds {
		load.awaitAcks(t, 100)
		leader := c.leader(t, js, fmt.Sprintf("CHAT_%d", round%2))
		leader.kill()
		load.awaitAcks(t, 200)
		c.start(t, leader)
		leader.waitReady(t)
	}
	load.awaitAcks(t, 100)
	load.finish(t)
	messages := load.check(t, first.place, log, p.store)
	t.Logf("%d rounds, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *faultRounds, load.acks.Load(), messages)
}
