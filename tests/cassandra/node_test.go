package cassandra_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"parley/tests/cassandra"
	"parley/tests/cassandra/cassandratest"
	"parley/tests/certs"
)

// answerMax bounds waits of the tests for a node that should answer.
const answerMax = time.Minute

func connect(address string, change func(*gocql.ClusterConfig)) (*gocql.Session, error) {
	cluster := gocql.NewCluster(address)
	cluster.Timeout, cluster.ConnectTimeout = answerMax, answerMax
	if change != nil {
		change(cluster)
	}
	return cluster.CreateSession()
}

func exec(t *testing.T, session *gocql.Session, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if err := session.Query(statement).Exec(); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// writers is how many write while the node is killed: what only the process knew would be lost.
const writers = 8

func TestRestartAfterKillKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	node := cassandratest.Start(t, cassandra.Config{})
	session, err := connect(node.Address(), nil)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, session,
		"CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
		"CREATE TABLE k.rows (writer int, id int, PRIMARY KEY (writer, id))")

	acknowledged := make(chan [2]int, writers)
	for writer := range writers {
		go func() {
			for id := 0; ; id++ {
				if session.Query("INSERT INTO k.rows (writer, id) VALUES (?, ?)", writer, id).Exec() != nil {
					acknowledged <- [2]int{writer, id}
					return
				}
				if writer == 0 && id == 500 {
					go node.Kill()
				}
			}
		}()
	}
	want := map[int]int{}
	for range writers {
		last := <-acknowledged
		want[last[0]] = last[1]
	}
	session.Close()
	<-node.Done()

	if err := node.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if session, err = connect(node.Address(), nil); err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	total := 0
	for writer, rows := range want {
		var got int
		if err := session.Query("SELECT count(*) FROM k.rows WHERE writer = ? AND id < ?", writer, rows).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != rows {
			t.Errorf("writer %d has %d rows of %d acknowledged", writer, got, rows)
		}
		total += rows
	}
	t.Logf("%d rows acknowledged before the kill", total)

	wantFrozenAndBack(t, node, session)
	if err := node.Stop(); err != nil {
		t.Error(err)
	}
}

func wantFrozenAndBack(t *testing.T, node *cassandra.Node, session *gocql.Session) {
	t.Helper()
	if err := node.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := session.Query("SELECT key FROM system.local").WithContext(ctx).Exec(); err == nil {
		t.Error("a paused node answered")
	}
	if err := node.Resume(); err != nil {
		t.Fatal(err)
	}
	exec(t, session, "SELECT key FROM system.local")
}

func TestCredentialsAndTLSRefuseWhoHasNone(t *testing.T) {
	t.Parallel()
	certificate, key := certs.SelfSigned(t)
	node := cassandratest.Start(t, cassandra.Config{
		Unsafe:      true,
		Credentials: true,
		TLS:         &cassandra.TLS{CertificateFile: certificate, KeyFile: key},
	})
	withTLS := func(c *gocql.ClusterConfig) {
		c.SslOpts = &gocql.SslOptions{Config: &tls.Config{RootCAs: pool(t, certificate), ServerName: "127.0.0.1"}}
	}
	withPassword := func(password string) func(c *gocql.ClusterConfig) {
		return func(c *gocql.ClusterConfig) {
			c.Authenticator = gocql.PasswordAuthenticator{Username: "cassandra", Password: password}
		}
	}
	for name, test := range map[string]struct {
		changes []func(*gocql.ClusterConfig)
		accept  bool
	}{
		"both":           {[]func(*gocql.ClusterConfig){withTLS, withPassword("cassandra")}, true},
		"no TLS":         {[]func(*gocql.ClusterConfig){withPassword("cassandra")}, false},
		"no password":    {[]func(*gocql.ClusterConfig){withTLS}, false},
		"wrong password": {[]func(*gocql.ClusterConfig){withTLS, withPassword("guess")}, false},
	} {
		session, err := connect(node.Address(), func(c *gocql.ClusterConfig) {
			for _, change := range test.changes {
				change(c)
			}
		})
		if accepted := err == nil; accepted != test.accept {
			t.Errorf("%s: connect: %v, want accepted %t", name, err, test.accept)
		}
		if err == nil {
			session.Close()
		}
	}
}

func TestStartThatFailsQuotesTheLog(t *testing.T) {
	t.Parallel()
	cassandratest.Require(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = cassandra.Start(t.Context(), cassandra.Config{
		Dir:         t.TempDir(),
		Unsafe:      true,
		StoragePort: taken.Addr().(*net.TCPAddr).Port,
	})
	if err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Fatalf("start on a port that is taken: %v, want the log's line on it", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	cassandratest.Require(t)
	ended := errors.New("ended")
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := t.TempDir()
	go func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil { // the log is made when the process starts
			if _, err := os.Stat(filepath.Join(dir, "cassandra.log")); err == nil {
				cancel(ended)
			}
			<-ticker.C
		}
	}()
	if _, err := cassandra.Start(ctx, cassandra.Config{Dir: dir}); !errors.Is(err, ended) {
		t.Fatalf("start within a context that ends: %v, want its end", err)
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	t.Parallel()
	_, err := cassandra.Start(t.Context(), cassandra.Config{Address: "here", Port: -1, HeapMiB: 1, Seeds: []string{"host"}})
	if err == nil {
		t.Fatal("started")
	}
	for _, want := range []string{"Dir", `"here"`, "-1", "HeapMiB is 1", `"host"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %s", file)
	}
	return pool
}
