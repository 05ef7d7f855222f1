package cassandratest

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/gocql/gocql"
)

// schemaMax bounds one change of the schema, which waits its turn behind those of other tests.
const schemaMax = time.Minute

// Keyspace makes an empty keyspace with a name of its own in the shared instance.
//
// It has no durable writes, which makes TRUNCATE a matter of the memtable: 4 to 12 ms a table
// instead of 140 to 500, measured on a machine ten times overbooked, where the keyspace cost
// 20 to 110 ms and five tables 160 to 460. It is not dropped, for that takes seconds, and
// the instance is thrown away as a whole.
func Keyspace(t testing.TB, address string) string {
	t.Helper()
	cluster := gocql.NewCluster(address)
	cluster.Timeout = schemaMax
	session, err := cluster.CreateSession()
	if err != nil {
		t.Fatalf("connect to Cassandra at %s: %v", address, err)
	}
	defer session.Close()
	keyspace := "test_" + strings.ToLower(rand.Text())
	err = session.Query("CREATE KEYSPACE " + keyspace +
		" WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1} AND durable_writes = false").Exec()
	if err != nil {
		t.Fatalf("create keyspace %s: %v", keyspace, err)
	}
	return keyspace
}
