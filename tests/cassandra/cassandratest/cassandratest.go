// Package cassandratest gives tests a real Cassandra: one that all tests of a process share, or
// one of a test's own. Where none can run, the test is skipped and says what is missing; with
// PARLEY_REQUIRE_CASSANDRA set, it fails.
package cassandratest

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"parley/tests/cassandra"
)

const (
	requireVariable = "PARLEY_REQUIRE_CASSANDRA"
	startMax        = 5 * time.Minute // the first time there are 66 MB to fetch
)

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
