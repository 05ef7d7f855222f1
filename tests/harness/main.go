// Package harness gives tests of the whole system what they stand on: the program as
// processes of their own (child.go), a dev server (dev.go), its parts (parts.go) and a NATS cluster
// (cluster.go); the ways between them, which a test can cut (cable.go) or hold (gate.go); bare sessions
// (talker.go) and clients under load (load.go); and what must be the same in log, store and history (lines.go).
//
// Each package of tests that uses it calls [Main] from its TestMain.
package harness

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"parley/cmd"
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

// Main runs the tests of a package and wants no goroutine to outlive them. In a process
// that a test has started, it runs the program instead.
func Main(m *testing.M) {
	program := os.Getenv(programVariable)
	if program == "" {
		goleak.VerifyTestMain(m)
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
