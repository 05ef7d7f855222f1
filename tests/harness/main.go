// Package harness starts what tests of the whole system need, and checks what holds everywhere.
//
//	child.go      the program as a process, which a test can signal, pause and kill
//	dev.go        a dev server in the test's process; dev_child.go has it as a process
//	parts.go      NATS in the test's process, and edges and workers as processes
//	cluster.go    NATS servers as processes
//	cable.go      a way to NATS that a test can cut
//	gate.go       a way to NATS that a test can hold back
//	talker.go     a bare WebSocket session; expect.go has what it waits for
//	load.go       clients that send while a test breaks things
//	lines.go      the messages of a chat in log, store and history, which must be the same
//
// The TestMain of each package that imports it calls [Main].
package harness

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"parley/cmd"
	"parley/tests/cassandra/cassandratest"
)

const (
	// programVariable makes the test binary the program itself: tests of processes
	// start it so, and need no build of their own.
	programVariable = "PARLEY_TEST_PROGRAM"
	// confVariable is the path of nats.conf, which only the root can embed.
	confVariable = "PARLEY_TEST_NATS_CONF"

	parleyProgram = "parley"
	// natsProgram is a NATS server that a test can kill; the passwords of nats.conf are in
	// the environment.
	natsProgram = "nats-node"
)

// Main runs the tests of a package, and stops the Cassandra that they share. It wants no
// goroutine to outlive them. In a process
// that a test has started, it runs the program instead.
func Main(m *testing.M) {
	program := os.Getenv(programVariable)
	if program == "" {
		goleak.VerifyTestMain(cassandratest.StopAfter(m))
		return
	}
	conf, err := os.ReadFile(os.Getenv(confVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, "read nats.conf:", err)
		os.Exit(1)
	}
	if program == natsProgram {
		os.Exit(natsNodeMain(string(conf)))
	}
	os.Exit(cmd.Main(string(conf)))
}

// programEnvironment makes the test binary the program of that name.
func programEnvironment(t testing.TB, program string) []string {
	t.Helper()
	return []string{programVariable + "=" + program, confVariable + "=" + confPath(t)}
}
