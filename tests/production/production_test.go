//go:build unix

package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/tests/cassandra"
	"parley/tests/cassandra/cassandratest"
)

var faultAway = flag.Duration("fault-away", 5*time.Second, "how long Cassandra is away")

// production is all of a real system as processes: three NATS nodes with three
// replicas of every stream, a Cassandra, two edges, two workers, and clients.
type production struct {
	*parts
	cluster   *cluster
	cassandra *cassandra.Node
	edges     []*edgeChild
	listens   []string // flags of the edges, so that their clients find them again
	workers   []*workerChild
	load      *load

	js     jetstream.JetStream
	log    *streams.Log
	stored storeReader
}

func startProduction(t *testing.T) *production {
	t.Helper()
	node := cassandratest.Start(t, cassandra.Config{})
	s := &production{cluster: startCluster(t), cassandra: node}
	s.parts = &parts{urls: s.cluster.urls(), passwords: streamstest.Passwords(), store: "cql://" + node.Address() + "/parley"}
	s.migrate(t, "--shards=2", fmt.Sprintf("--max-bytes=%d", 1<<30))
	for i := range 2 {
		s.listens = append(s.listens, "--listen="+freeAddress(t))
		s.edges = append(s.edges, nil)
		s.startEdgeAgain(t, i)
		s.workers = append(s.workers, s.startWorker(t, "persist,query,chats,users"))
	}
	s.js, s.log = s.parts.log(t)
	s.stored = openStore(t, s.store)
	t.Cleanup(func() { s.stored.Close() })
	s.load = startPacedLoad(t, 4, 2, 50*time.Millisecond, s.edges[0].place, s.edges[1].place)
	return s
}

func (s *production) startEdgeAgain(t testing.TB, i int) {
	t.Helper()
	s.edges[i] = s.startEdge(t, fmt.Sprintf("edge-%d", i+1), s.listens[i])
}

// Every part in turn is killed, and stopped, and started or woken again, and all
// goes on: nothing that was acknowledged is lost, nothing is there twice,
// everybody has one order.
func TestProductionPartsKilledAndStoppedLoseNothing(t *testing.T) {
	t.Parallel()
	s := startProduction(t)
	faults := []struct {
		name string
		make func(*production, *testing.T)
	}{
		{"edge killed", (*production).killEdge},
		{"worker killed", (*production).killWorker},
		{"NATS leader killed", (*production).killLeader},
		{"NATS follower killed", (*production).killFollower},
		{"Cassandra killed", (*production).killCassandra},
		{"Cassandra away", (*production).cassandraAway},
		{"edge stopped", (*production).stopEdge},
		{"worker stopped", (*production).stopWorker},
		{"NATS leader stopped", (*production).stopLeader},
		{"NATS follower stopped", (*production).stopFollower},
		{"Cassandra stopped", (*production).stopCassandra},
	}
	for range *faultRounds {
		for _, fault := range faults {
			s.load.awaitAcks(t, 50+rand.Int64N(100))
			begin := time.Now()
			fault.make(s, t)
			s.load.awaitAcks(t, 50)
			s.load.awaitDelivery(t)
			s.awaitStored(t)
			t.Logf("%s: all is well again %s after the begin", fault.name, time.Since(begin).Round(time.Millisecond))
		}
	}
	s.load.finish(t)
	messages := s.load.check(t, s.edges[0].place, s.log, s.store)
	for _, talk := range s.load.talks {
		checkSame(t, talk.chat, "history of the second edge", readHistory(t, s.edges[1].place, talk.sides[1].user, talk.chat), readLog(t, s.log, talk.chat))
	}
	t.Logf("%d rounds of %d faults, stops of %s, the store away for %s: %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order",
		*faultRounds, len(faults), *faultPause, *faultAway, s.load.acks.Load(), messages)
	s.checkAndRebuild(t)
}

// checkAndRebuild has the operator's commands compare what is left, and make the
// store anew from the log once its rows are gone.
func (s *production) checkAndRebuild(t *testing.T) {
	t.Helper()
	wantAgreement := func(when string) {
		t.Helper()
		if stdout, stderr, ok := s.parts.runParley(t, "check", "--deep"); !ok || !strings.Contains(stdout, "log and store agree") {
			t.Errorf("check %s:\n%s%s", when, stdout, stderr)
		}
	}
	wantAgreement("after all faults")
	for _, w := range s.workers {
		w.signal(t, syscall.SIGTERM)
		w.waitExit(t)
	}
	s.truncate(t, "events", "buckets", "chats", "chats_by_user")
	if stdout, stderr, ok := s.parts.runParley(t, "check"); ok {
		t.Errorf("check of a store without rows:\n%s%s", stdout, stderr)
	}
	stdout, stderr, ok := s.parts.runParley(t, "rebuild")
	if !ok {
		t.Errorf("rebuild:\n%s%s", stdout, stderr)
	}
	t.Log("rebuild into Cassandra: ", strings.TrimSpace(stdout))
	wantAgreement("after the rebuild")
}

func (s *production) truncate(t *testing.T, tables ...string) {
	t.Helper()
	cluster := gocql.NewCluster(s.cassandra.Address())
	cluster.Keyspace, cluster.Timeout = "parley", childWithin
	session, err := cluster.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for _, table := range tables {
		if err := session.Query("TRUNCATE " + table).Exec(); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *production) killEdge(t *testing.T) {
	i := rand.N(2)
	s.edges[i].kill()
	s.load.awaitAcks(t, 50)
	s.startEdgeAgain(t, i)
}

// killWorker kills the one that persists, and tells how long nobody did.
func (s *production) killWorker(t *testing.T) {
	i := s.persister(t)
	s.workers[i].kill()
	killed := time.Now()
	s.awaitStored(t)
	t.Logf("the other worker has taken over, and all is stored, after %s", time.Since(killed).Round(time.Millisecond))
	s.workers[i] = s.startWorker(t, "persist,query,chats,users")
}

func (s *production) killLeader(t *testing.T)   { s.killNode(t, s.leader(t)) }
func (s *production) killFollower(t *testing.T) { s.killNode(t, s.follower(t)) }

func (s *production) killNode(t *testing.T, n *clusterNode) {
	n.kill()
	s.load.awaitAcks(t, 200)
	s.cluster.start(t, n)
	n.waitReady(t)
	awaitReplicas(t, s.js, s.log.Layout())
}

func (s *production) leader(t *testing.T) *clusterNode {
	shards := s.log.Layout().All()
	return s.cluster.leader(t, s.js, shards[rand.N(len(shards))].Stream())
}

func (s *production) follower(t *testing.T) *clusterNode {
	leader := slices.Index(s.cluster.nodes, s.leader(t))
	return s.cluster.nodes[(leader+1+rand.N(2))%3]
}

func (s *production) killCassandra(t *testing.T) {
	s.cassandra.Kill()
	s.restartCassandra(t)
}

func (s *production) restartCassandra(t *testing.T) {
	t.Helper()
	if err := s.cassandra.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitReady(t)
}

// cassandraAway has no store for a while: all but history goes on.
func (s *production) cassandraAway(t *testing.T) {
	s.cassandra.Kill()
	back := time.After(*faultAway)
	s.wantLiveWithoutStore(t)
	<-back
	s.wantLiveWithoutStore(t)
	s.restartCassandra(t)
}

func (s *production) stopCassandra(t *testing.T) {
	if err := s.cassandra.Pause(); err != nil {
		t.Fatal(err)
	}
	back := time.After(*faultPause)
	s.wantLiveWithoutStore(t)
	<-back
	if err := s.cassandra.Resume(); err != nil {
		t.Fatal(err)
	}
	s.awaitReady(t)
}

// wantLiveWithoutStore wants the workers to say that the store is away, and the
// clients to be told and to hear all the same.
func (s *production) wantLiveWithoutStore(t *testing.T) {
	t.Helper()
	for _, w := range s.workers {
		awaitStatus(t, w.admin, 503)
	}
	s.load.awaitAcks(t, 50)
	s.load.awaitDelivery(t)
	for _, w := range s.workers {
		if status, _ := getStatus(w.admin, "/readyz"); status != 503 {
			t.Errorf("%s is ready: the store was not away", w.name)
		}
	}
}

func (s *production) awaitReady(t *testing.T) {
	t.Helper()
	for _, w := range s.workers {
		awaitStatus(t, w.admin, 200)
	}
}

func (s *production) stopEdge(t *testing.T)     { stopChild(t, s.edges[rand.N(2)].child) }
func (s *production) stopWorker(t *testing.T)   { stopChild(t, s.workers[s.persister(t)].child) }
func (s *production) stopLeader(t *testing.T)   { s.stopNode(t, s.leader(t)) }
func (s *production) stopFollower(t *testing.T) { s.stopNode(t, s.follower(t)) }

func (s *production) stopNode(t *testing.T, n *clusterNode) {
	stopChild(t, n.child)
	awaitReplicas(t, s.js, s.log.Layout())
}

func stopChild(t *testing.T, c *child) {
	t.Helper()
	c.pause(t)
	<-time.After(*faultPause) // the fault itself: nothing is waited for
	c.signal(t, syscall.SIGCONT)
}

// persister returns which worker persists the first shard.
func (s *production) persister(t *testing.T) (worker int) {
	t.Helper()
	owns := fmt.Sprintf("parley_persist_lag_seconds{shard=%q}", s.log.Layout().All()[0].Token)
	eventuallyWithin(t, childWithin, "a worker persists", func() bool {
		worker = slices.IndexFunc(s.workers, func(w *workerChild) bool {
			_, metrics := getStatus(w.admin, "/metrics")
			return strings.Contains(metrics, owns)
		})
		return worker >= 0
	})
	return worker
}

// awaitStored returns when the store has all that the log has now.
func (s *production) awaitStored(t *testing.T) {
	t.Helper()
	for _, shard := range s.log.Layout().All() {
		var last uint64
		eventuallyWithin(t, childWithin, "the log tells how far it is", func() (known bool) {
			var err error
			_, last, err = s.log.Bounds(t.Context(), shard)
			return err == nil
		})
		eventuallyWithin(t, childWithin, fmt.Sprintf("shard %s is stored up to %d", shard.Token, last), func() bool {
			at, err := s.stored.Committed(t.Context(), shard.Token)
			return err == nil && at >= last
		})
	}
}
