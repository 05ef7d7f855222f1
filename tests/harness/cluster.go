//go:build unix

package harness

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

// Cluster is NATS servers as processes of their own: three, or one alone.
type Cluster struct {
	Nodes  []*ClusterNode
	routes []string
	flags  []string // of every node, beside what tells them apart
}

// ClusterNode is one of its servers, on addresses that stay over restarts.
type ClusterNode struct {
	*Child
	Name   string
	Listen string   // address, as host:port
	Dir    string   // of its data
	Within []string // the command that becomes the node, as `unshare --mount`; nil: none

	route string // address for the other nodes
}

// StartCluster starts three nodes.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := NewCluster(t, 3)
	c.StartAll(t)
	return c
}

// NewCluster starts nothing yet.
func NewCluster(t testing.TB, nodes int, flags ...string) *Cluster {
	t.Helper()
	c := &Cluster{flags: flags}
	for i := range nodes {
		n := &ClusterNode{Name: fmt.Sprintf("nats-%d", i+1), Listen: FreeAddress(t), Dir: filepath.Join(t.TempDir(), "nats")}
		if nodes > 1 {
			n.route = FreeAddress(t)
			c.routes = append(c.routes, n.route)
		}
		c.Nodes = append(c.Nodes, n)
	}
	return c
}

// StartAll starts the nodes together: one of three alone is never ready.
func (c *Cluster) StartAll(t testing.TB) {
	t.Helper()
	for _, n := range c.Nodes {
		c.Start(t, n)
	}
	for _, n := range c.Nodes {
		n.WaitReady(t)
	}
}

// Start starts one of the nodes. WaitReady returns when it is up.
func (c *Cluster) Start(t testing.TB, n *ClusterNode) {
	t.Helper()
	var environment []string
	for _, component := range []streams.Component{
		streams.EdgeComponent, streams.WorkerComponent, streams.OperatorComponent, streams.ServiceComponent, streams.AdminComponent,
	} {
		environment = append(environment, component.PasswordVariable()+"="+streamstest.Passwords().Of(component))
	}
	n.Child = startProgram(t, natsProgram, n.Within, environment, append([]string{
		"-name=" + n.Name, "-listen=" + n.Listen, "-route=" + n.route, "-routes=" + strings.Join(c.routes, ","), "-dir=" + n.Dir,
	}, c.flags...)...)
}

// URLs are where clients reach the nodes.
func (c *Cluster) URLs() (urls []string) {
	for _, n := range c.Nodes {
		urls = append(urls, "nats://"+n.Listen)
	}
	return urls
}

// Leader returns the node that leads a shard's stream, once there is one.
func (c *Cluster) Leader(t testing.TB, js jetstream.JetStream, stream string) (leader *ClusterNode) {
	t.Helper()
	EventuallyWithin(t, ChildWithin, stream+" has a leader", func() bool {
		found, err := js.Stream(t.Context(), stream)
		if err != nil || found.CachedInfo().Cluster == nil {
			return false
		}
		for _, n := range c.Nodes {
			if n.Name == found.CachedInfo().Cluster.Leader {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

// AwaitReplicas returns when every node has all of the chat streams.
func AwaitReplicas(t testing.TB, js jetstream.JetStream, layout streams.Layout) {
	t.Helper()
	for _, shard := range layout.All() {
		EventuallyWithin(t, ChildWithin, shard.Stream()+" is the same on all nodes", func() bool {
			stream, err := js.Stream(t.Context(), shard.Stream())
			if err != nil || stream.CachedInfo().Cluster == nil || len(stream.CachedInfo().Cluster.Replicas) != 2 {
				return false
			}
			return !slices.ContainsFunc(stream.CachedInfo().Cluster.Replicas, func(peer *jetstream.PeerInfo) bool { return !peer.Current || peer.Offline })
		})
	}
}
