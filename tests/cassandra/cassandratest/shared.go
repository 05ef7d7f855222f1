package cassandratest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"parley/tests/cassandra"
)

// Runner runs the tests of a process and returns its exit code, as *testing.M does.
type Runner interface{ Run() int }

// Shared returns the address (host:port) of the Cassandra that all tests of this process share.
// The first call starts it, which takes some five seconds. It is unsafe in the sense of
// cassandra.Config: fast, and no subject for tests of durability.
//
// The package's TestMain must wrap its tests in StopAfter, or Shared fails.
func Shared(t testing.TB) string {
	t.Helper()
	address, err := ofProcess.use()
	check(t, err)
	return address
}

// StopAfter wraps the tests of a process: after they have run, it kills the shared Cassandra and
// removes its folder. A TestMain has one of these lines:
//
//	os.Exit(cassandratest.StopAfter(m).Run())
//	goleak.VerifyTestMain(cassandratest.StopAfter(m)) // it looks for leaks after that
//
// If the process is killed instead, the kernel kills Cassandra with it (on Linux), and the folder
// stays among the temporary files.
func StopAfter(tests Runner) Runner { return stopAfter{tests, &ofProcess} }

// ofProcess is global: TestMain and the tests of a process have nothing else in common.
var ofProcess instance

var errNotOwned = errors.New("share a Cassandra: nothing would end it after the tests: " +
	"let the package's TestMain run them by os.Exit(cassandratest.StopAfter(m).Run())")

// instance is a Cassandra that its first user starts.
type instance struct {
	mu    sync.Mutex      // use holds it during the start, so that later users wait for the result
	owned bool            // guarded by mu; a stopAfter runs the tests, and stops the instance after them
	dir   string          // guarded by mu
	node  *cassandra.Node // guarded by mu
	err   error           // guarded by mu; the start failed, and is not tried again
}

// use returns the instance's address. Errors: errNotOwned, and those of cassandra.Start.
func (i *instance) use() (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.owned {
		return "", errNotOwned
	}
	if i.node == nil && i.err == nil {
		i.err = i.start()
	}
	if i.err != nil {
		return "", i.err
	}
	return i.node.Address(), nil
}

func (i *instance) start() error {
	// Not a test's context: the instance outlives the test that starts it.
	ctx, cancel := context.WithTimeout(context.Background(), startMax)
	defer cancel()
	dir, err := os.MkdirTemp("", "parley-shared-cassandra-")
	if err != nil {
		return fmt.Errorf("make folder of the shared Cassandra: %w", err)
	}
	node, err := cassandra.Start(ctx, cassandra.Config{Dir: dir, Unsafe: true})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	i.dir, i.node = dir, node
	return nil
}

// stop kills the instance and removes its folder. If Cassandra ended before, that is the error,
// and the folder stays with its log.
func (i *instance) stop() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.node == nil {
		return nil
	}
	select {
	case <-i.node.Done():
		return fmt.Errorf("stop the shared Cassandra: it ended before the tests did, see %s", i.node.LogFile())
	default:
	}
	i.node.Kill()
	return os.RemoveAll(i.dir)
}

type stopAfter struct {
	tests    Runner
	instance *instance
}

func (s stopAfter) Run() int {
	s.instance.mu.Lock()
	s.instance.owned = true
	s.instance.mu.Unlock()
	code := s.tests.Run()
	if err := s.instance.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "cassandratest:", err)
		return max(code, 1)
	}
	return code
}
