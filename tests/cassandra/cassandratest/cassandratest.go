// Package cassandratest gives tests a real Cassandra: the one that all packages of a `go test`
// run share, or one of a test's own. Where none can run the test is skipped and says what is
// missing; with PARLEY_REQUIRE_CASSANDRA set it fails.
package cassandratest

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"parley/tests/cassandra"
	"parley/tests/cassandra/shared"
)

const (
	requireVariable = "PARLEY_REQUIRE_CASSANDRA"
	startMax        = 5 * time.Minute // the first time there are 66 MB to fetch
	idleMax         = 2 * time.Minute // between the users of one run there is the building of the next package
)

// Shared gives the address (host:port) of the Cassandra that all test processes of one `go test`
// run share. It is started for the first, in some ten seconds, and ends with the run. It is
// unsafe in the sense of cassandra.Config: fast, and no subject for tests of durability.
func Shared(t testing.TB) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		unavailable(t, errors.New("the shared Cassandra needs Linux: nothing would end it for sure"))
	}
	owner, err := shared.Parent()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startMax)
	defer cancel()
	use, err := shared.Acquire(ctx, owner, idleMax)
	check(t, err)
	t.Cleanup(use.Release)
	return use.Address
}

// Start starts a Cassandra of the test's own and ends it with the test. An empty Dir is a
// temporary folder.
func Start(t testing.TB, config cassandra.Config) *cassandra.Node {
	t.Helper()
	if config.Dir == "" {
		config.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), startMax)
	defer cancel()
	node, err := cassandra.Start(ctx, config)
	check(t, err)
	t.Cleanup(node.Kill)
	return node
}

// Require skips the test where no Cassandra can be started here, or fails it where one must be.
func Require(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startMax)
	defer cancel()
	check(t, cassandra.Prepare(ctx, os.Stderr))
}

func check(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, cassandra.ErrNoJava) || errors.Is(err, cassandra.ErrNoMaven) {
		unavailable(t, err)
	} else if err != nil {
		t.Fatal(err)
	}
}

func unavailable(t testing.TB, err error) {
	t.Helper()
	if os.Getenv(requireVariable) != "" {
		t.Fatalf("%s is set, and there is no Cassandra: %v", requireVariable, err)
		return
	}
	t.Skipf("there is no Cassandra: %v", err)
}
