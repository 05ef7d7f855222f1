//go:build unix

package production

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
	"parley/tests/harness"
)

var faultAway = flag.Duration("fault-away", 5*time.Second, "how long Cassandra is away")

// production is all of a real system as processes: three NATS nodes with three
// replicas of every stream, a Cassandra, two edges, two workers, and clients.
type production struct {
	*harness.Parts
	cluster   *harness.Cluster
	cassandra *cassandra.Node
	edges     []*harness.EdgeChild
	listens   []string // flags of the edges, so that their clients find them again
	workers   []*harness.WorkerChild
	load      *harness.Load

	js     jetstream.JetStream
	log    *streams.Log
	stored harness.StoreReader
}

func startProduction(t *testing.T) *production {
	t.Helper()
	node := cassandratest.Start(t, cassandra.Config{})
	s := &production{cluster: harness.StartCluster(t), cassandra: node}
	s.Parts = &harness.Parts{URLs: s.cluster.URLs(), Passwords: streamstest.Passwords(), Store: "cql://" + node.Address() + "/parley"}
	s.Migrate(t, "--shards=2", fmt.Sprintf("--max-bytes=%d", 1<<30))
	for i := range 2 {
		s.listens = append(s.listens, "--listen="+harness.FreeAddress(t))
		s.edges = append(s.edges, nil)
		s.startEdgeAgain(t, i)
		s.workers = append(s.workers, s.StartWorker(t, "persist,query,chats,users"))
	}
	s.js, s.log = s.Parts.Log(t)
	s.stored = harness.OpenStore(t, s.Store)
	t.Cleanup(func() { s.stored.Close() })
	s.load = harness.StartPacedLoad(t, 4, 2, 50*time.Millisecond, s.edges[0].Place, s.edges[1].Place)
	return s
}

func (s *production) startEdgeAgain(t testing.TB, i int) {
	t.Helper()
	s.edges[i] = s.StartEdge(t, fmt.Sprintf("edge-%d", i+1), s.listens[i])
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
	for range *harness.FaultRounds {
		for _, fault := range faults {
			s.load.AwaitAcks(t, 50+rand.Int64N(100))
			begin := time.Now()
			fault.make(s, t)
			s.load.AwaitAcks(t, 50)
			s.load.AwaitDelivery(t)
			harness.AwaitStored(t, s.log, s.stored)
			t.Logf("%s: all is well again %s after the begin", fault.name, time.Since(begin).Round(time.Millisecond))
		}
	}
	s.load.Finish(t)
	messages := s.load.Check(t, s.edges[0].Place, s.log, s.Store)
	for _, talk := range s.load.Pairs {
		harness.CheckSame(t, talk.Chat, "history of the second edge", harness.ReadHistory(t, s.edges[1].Place, talk.Sides[1].User, talk.Chat), harness.ReadLog(t, s.log, talk.Chat))
	}
	t.Logf("%d rounds of %d faults, stops of %s, the store away for %s: %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order",
		*harness.FaultRounds, len(faults), *harness.FaultPause, *faultAway, s.load.Acks.Load(), messages)
	s.checkAndRebuild(t)
}

// checkAndRebuild has the operator's commands compare what is left, and make the
// store anew from the log once its rows are gone.
func (s *production) checkAndRebuild(t *testing.T) {
	t.Helper()
	wantAgreement := func(when string) {
		t.Helper()
		if stdout, stderr, ok := s.Parts.Run(t, "check", "--deep"); !ok || !strings.Contains(stdout, "log and store agree") {
			t.Errorf("check %s:\n%s%s", when, stdout, stderr)
		}
	}
	wantAgreement("after all faults")
	for _, w := range s.workers {
		w.Signal(t, syscall.SIGTERM)
		w.WaitExit(t)
	}
	s.truncate(t, "events", "buckets", "chats", "chats_by_user")
	if stdout, stderr, ok := s.Parts.Run(t, "check"); ok {
		t.Errorf("check of a store without rows:\n%s%s", stdout, stderr)
	}
	stdout, stderr, ok := s.Parts.Run(t, "rebuild")
	if !ok {
		t.Errorf("rebuild:\n%s%s", stdout, stderr)
	}
	t.Log("rebuild into Cassandra: ", strings.TrimSpace(stdout))
	wantAgreement("after the rebuild")
}

func (s *production) truncate(t *testing.T, tables ...string) {
	t.Helper()
	cluster := gocql.NewCluster(s.cassandra.Address())
	cluster.Keyspace, cluster.Timeout = "parley", harness.ChildWithin
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
	s.edges[i].Kill()
	s.load.AwaitAcks(t, 50)
	s.startEdgeAgain(t, i)
}

// killWorker kills the one that persists, and tells how long nobody did.
func (s *production) killWorker(t *testing.T) {
	i := s.persister(t)
	s.workers[i].Kill()
	killed := time.Now()
	harness.AwaitStored(t, s.log, s.stored)
	t.Logf("the other worker has taken over, and all is stored, after %s", time.Since(killed).Round(time.Millisecond))
	s.workers[i] = s.StartWorker(t, "persist,query,chats,users")
}

func (s *production) killLeader(t *testing.T)   { s.killNode(t, s.leader(t)) }
func (s *production) killFollower(t *testing.T) { s.killNode(t, s.follower(t)) }

func (s *production) killNode(t *testing.T, n *harness.ClusterNode) {
	n.Kill()
	s.load.AwaitAcks(t, 200)
	s.cluster.Start(t, n)
	n.WaitReady(t)
	harness.AwaitReplicas(t, s.js, s.log.Layout())
}

func (s *production) leader(t *testing.T) *harness.ClusterNode {
	shards := s.log.Layout().All()
	return s.cluster.Leader(t, s.js, shards[rand.N(len(shards))].Stream())
}

func (s *production) follower(t *testing.T) *harness.ClusterNode {
	leader := slices.Index(s.cluster.Nodes, s.leader(t))
	return s.cluster.Nodes[(leader+1+rand.N(2))%3]
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
	back := time.After(*harness.FaultPause)
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
		harness.AwaitStatus(t, w.Admin, 503)
	}
	s.load.AwaitAcks(t, 50)
	s.load.AwaitDelivery(t)
	for _, w := range s.workers {
		if status, _ := harness.GetStatus(w.Admin, "/readyz"); status != 503 {
			t.Errorf("%s is ready: the store was not away", w.Name)
		}
	}
}

func (s *production) awaitReady(t *testing.T) {
	t.Helper()
	for _, w := range s.workers {
		harness.AwaitStatus(t, w.Admin, 200)
	}
}

func (s *production) stopEdge(t *testing.T)     { stopChild(t, s.edges[rand.N(2)].Child) }
func (s *production) stopWorker(t *testing.T)   { stopChild(t, s.workers[s.persister(t)].Child) }
func (s *production) stopLeader(t *testing.T)   { s.stopNode(t, s.leader(t)) }
func (s *production) stopFollower(t *testing.T) { s.stopNode(t, s.follower(t)) }

func (s *production) stopNode(t *testing.T, n *harness.ClusterNode) {
	stopChild(t, n.Child)
	harness.AwaitReplicas(t, s.js, s.log.Layout())
}

func stopChild(t *testing.T, c *harness.Child) {
	t.Helper()
	c.Pause(t)
	<-time.After(*harness.FaultPause) // the fault itself: nothing is waited for
	c.Signal(t, syscall.SIGCONT)
}

// persister returns which worker persists the first shard.
func (s *production) persister(t *testing.T) (worker int) {
	t.Helper()
	owns := fmt.Sprintf("parley_persist_lag_seconds{shard=%q}", s.log.Layout().All()[0].Token)
	harness.EventuallyWithin(t, harness.ChildWithin, "a worker persists", func() bool {
		worker = slices.IndexFunc(s.workers, func(w *harness.WorkerChild) bool {
			_, metrics := harness.GetStatus(w.Admin, "/metrics")
			return strings.Contains(metrics, owns)
		})
		return worker >= 0
	})
	return worker
}
