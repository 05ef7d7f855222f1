package cassandratest

import (
	"io"
	"testing"

	"github.com/gocql/gocql"

	"parley/tests/cassandra"
)

func TestSharedIsOneInstanceWithKeyspacesApart(t *testing.T) {
	t.Parallel()
	address := Shared(t)
	if again := Shared(t); again != address {
		t.Fatalf("Shared gave %s and then %s", address, again)
	}
	first, second := Keyspace(t, address), Keyspace(t, address)
	if first == second {
		t.Fatalf("two keyspaces have the name %s", first)
	}
	for _, keyspace := range []string{first, second} {
		cluster := gocql.NewCluster(address)
		cluster.Keyspace, cluster.Timeout = keyspace, schemaMax
		session, err := cluster.CreateSession()
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		if err := session.Query("CREATE TABLE rows (id int PRIMARY KEY)").Exec(); err != nil {
			t.Fatalf("create the same table in %s: %v", keyspace, err)
		}
	}
}

// outcome notes what a helper does to its test.
type outcome struct {
	testing.TB
	skipped, failed bool
}

func (o *outcome) Skipf(string, ...any)  { o.skipped = true }
func (o *outcome) Fatalf(string, ...any) { o.failed = true }

func TestWithoutJavaSkipsUnlessRequired(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv("JAVA_HOME", "")
	for _, required := range []string{"", "1"} {
		t.Setenv(requireVariable, required)
		got := &outcome{TB: t}
		check(got, cassandra.Prepare(t.Context(), io.Discard))
		if want := required != ""; got.failed != want || got.skipped == want {
			t.Errorf("with %s=%q: skipped %t, failed %t", requireVariable, required, got.skipped, got.failed)
		}
	}
}
