// Command cassandra starts a Cassandra in a temporary directory for as long as the
// command that it is given runs, and appends to that command --store with the
// Cassandra's URL and --store-process with its process:
//
//	go run ./bench/cassandra go run . bench persist pages
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"parley/tests/cassandra"
)

const (
	startWithin = 5 * time.Minute // with Maven's first fetch of the jars
	stopWithin  = time.Minute     // of the command, after the first signal
	// heapMiB is room for caches and memtables of a machine of 8 GiB.
	heapMiB = 1536
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cassandra:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command []string) (err error) {
	if len(command) == 0 {
		return errors.New("no command: name one that takes --store, like go run . bench persist")
	}
	dir, err := os.MkdirTemp("", "parley-cassandra-")
	if err != nil {
		return fmt.Errorf("make temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(os.Stderr, "cassandra: starting")
	node, err := start(ctx, dir)
	if err != nil {
		return err
	}
	defer node.Kill() // nobody needs what it has
	fmt.Fprintln(os.Stderr, "cassandra: at", node.Address())
	child := exec.CommandContext(ctx, command[0], append(command[1:], "--store=cql://"+node.Address()+"/bench", "--store-process="+strconv.Itoa(node.PID()))...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = stopWithin
	return child.Run()
}

func start(ctx context.Context, dir string) (*cassandra.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	return cassandra.Start(ctx, cassandra.Config{Dir: filepath.Join(dir, "node"), HeapMiB: heapMiB})
}
