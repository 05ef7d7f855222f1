//go:build unix

package production

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/gocql/gocql"
	"github.com/nats-io/nats-server/v2/server"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/tests/cassandra"
	"parley/tests/cassandra/cassandratest"
	"parley/tests/certs"
	"parley/tests/harness"
)

// What keeps a part of a production system from starting is told as
// TestStartErrorsSayWhatToDo has it.
func TestProductionStartErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	node := cassandratest.Start(t, cassandra.Config{Credentials: true, Unsafe: true})
	env := streamstest.Start(t, streamstest.Options{})
	_, port, err := net.SplitHostPort(node.Address())
	if err != nil {
		t.Fatal(err)
	}
	nobody, nobodyElse := "127.0.0.2:"+port, "127.0.0.3:"+port
	secured, otherCA := startTLSServer(t)
	good := store("cassandra:cassandra", node.Address(), "parley")
	migrateStore(t, env, good)
	newer := store("cassandra:cassandra", node.Address(), "newer")
	migrateStore(t, env, newer)
	addMigration(t, node.Address(), "newer")

	for _, test := range []struct {
		name string
		args []string
		says []string
	}{
		{"wrong CQL password", worker(store("cassandra:wrong", node.Address(), "parley")), []string{`"cassandra"`, "store", "PARLEY_STORE_PASSWORD"}},
		{"no CQL user", worker("--store=cql://" + node.Address() + "/parley"), []string{node.Address(), "password"}},
		{"wrong CQL password of migrate", migrate(store("cassandra:wrong", node.Address(), "parley")), []string{`"cassandra"`, "PARLEY_STORE_PASSWORD"}},
		{"unknown keyspace", worker(store("cassandra:cassandra", node.Address(), "elsewhere")), []string{"elsewhere", "parley migrate"}},
		{"schema newer than the binary", worker(newer), []string{"newer", "9999_later.cql", "backup"}},
		{"schema newer than the binary that migrates", migrate(newer), []string{"newer", "9999_later.cql", "backup"}},
		{"no keyspace in the URL", worker("--store=cql://" + node.Address()), []string{"keyspace"}},
		{"seeds on two ports", worker(store("cassandra:cassandra", node.Address()+","+harness.FreeAddress(t), "parley")), []string{node.Address(), "one port"}},
		{"unknown option in the URL", worker(good + "?retries=3"), []string{"retries"}},
		{"all seeds down", worker(store("cassandra:cassandra", nobody+","+nobodyElse, "parley")), []string{nobody, "is it running"}},
		{"all seeds down for migrate", migrate(store("cassandra:cassandra", nobody+","+nobodyElse, "parley")), []string{nobody, "is it running"}},
		{"wrong NATS password", worker(good, "--nats-password=wrong"), []string{"worker", "PARLEY_NATS_WORKER_PASSWORD"}},
		{"wrong NATS CA", worker(good, "--nats=tls://"+secured, "--nats-ca="+otherCA), []string{otherCA, "--nats-ca"}},
		{"no NATS CA", worker(good, "--nats=tls://"+secured), []string{"--nats-ca"}},
		{"NATS CA is no certificate", worker(good, "--nats-ca="+harness.WriteFile(t, "ca.pem", "a letter")), []string{"ca.pem", "PEM", "--nats-ca"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			harness.WantStartError(t, harness.StartChild(t, append(reachNATS(env), "PARLEY_LOG_LEVEL=error"), test.args...), test.says)
		})
	}

	t.Run("two of three seeds down", func(t *testing.T) {
		t.Parallel()
		seeds := strings.Join([]string{nobody, node.Address(), nobodyElse}, ",")
		wantStartWithoutSeeds(t, env, store("cassandra:cassandra", seeds, "parley"), node.Address(), nobody, nobodyElse)
	})
}

// wantStartWithoutSeeds wants a worker to start with the one seed that is left, and to
// say which are away.
func wantStartWithoutSeeds(t *testing.T, env *streamstest.Env, store, left string, away ...string) {
	t.Helper()
	w := &harness.WorkerChild{Admin: harness.FreeAddress(t)}
	w.Child = harness.StartChild(t, reachNATS(env), "worker", "--admin="+w.Admin, store)
	w.WaitReady(t)
	harness.AwaitStatus(t, w.Admin, 200)
	for _, seed := range away {
		harness.Eventually(t, "it says that "+seed+" is away", func() bool { return strings.Contains(w.Stderr.String(), seed) })
	}
	if strings.Contains(w.Stderr.String(), left) {
		t.Errorf("it says that the good seed is away: %s", w.Stderr)
	}
}

func store(login, hosts, keyspace string) string {
	return "--store=cql://" + login + "@" + hosts + "/" + keyspace
}

func worker(flags ...string) []string {
	return append([]string{"worker", "--admin=127.0.0.1:0"}, flags...)
}

func migrate(flags ...string) []string { return append([]string{"migrate"}, flags...) }

func reachNATS(env *streamstest.Env) []string {
	environment := []string{"PARLEY_NATS=" + strings.Join(env.Server.URLs(), ",")}
	return append(environment, streams.WorkerComponent.PasswordVariable()+"="+env.Passwords.Worker)
}

func migrateStore(t *testing.T, env *streamstest.Env, store string) {
	t.Helper()
	c := harness.StartChild(t, reachNATS(env), "migrate", store)
	if state := c.WaitExit(t); !state.Success() {
		t.Fatalf("migrate: %s\n%s", state, c.Stderr)
	}
}

// addMigration has a keyspace look as if a later version had migrated it.
func addMigration(t *testing.T, address, keyspace string) {
	t.Helper()
	cluster := gocql.NewCluster(address)
	cluster.Keyspace = keyspace
	cluster.Timeout = harness.ChildWithin
	cluster.Authenticator = gocql.PasswordAuthenticator{Username: "cassandra", Password: "cassandra"}
	session, err := cluster.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := session.Query("INSERT INTO gocqlx_migrate (name, checksum, done) VALUES ('9999_later.cql', 'x', 1)").Exec(); err != nil {
		t.Fatal(err)
	}
}

// startTLSServer starts a NATS server with TLS, and returns a file of an
// authority that does not vouch for it.
func startTLSServer(t *testing.T) (address, otherCA string) {
	t.Helper()
	identity, err := tls.LoadX509KeyPair(certs.SelfSigned(t))
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{identity}},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(harness.ChildWithin) {
		t.Fatal("the NATS server does not accept connections")
	}
	otherCA, _ = certs.SelfSigned(t)
	return srv.Addr().String(), otherCA
}
