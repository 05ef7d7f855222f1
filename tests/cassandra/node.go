// Package cassandra runs a real Cassandra as a child process, for tests, measurements
// and a developer's cluster on one machine. It needs Java, and Maven the first time.
// How a Cassandra is run in production is not its business.
package cassandra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Node is one Cassandra that can be killed, frozen and started again. Its methods may be
// called by any goroutine; of those that change its state one runs at a time.
type Node struct {
	config Config
	java   string
	lib    string

	changing sync.Mutex // held by Kill, Stop and Restart throughout

	mu      sync.Mutex
	process *process // guarded by mu; the last one started
}

// stopMax is how long a node may take to flush and end after SIGTERM.
const stopMax = 30 * time.Second

// dialEvery is how often a node that starts to listen is asked whether it does.
const dialEvery = 20 * time.Millisecond

// Start starts a Cassandra and waits until it takes CQL, or ctx ends. The process lives until
// it is ended, or its owner ends (on Linux, even by SIGKILL). What Maven has to fetch is told on
// standard error. Errors: ErrNoJava, ErrNoMaven; of a start that did not succeed, the log's last lines.
func Start(ctx context.Context, config Config) (*Node, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	java, lib, err := prepare(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	if err := config.write(); err != nil {
		return nil, err
	}
	node := &Node{config: config, java: java, lib: lib}
	if err := node.start(ctx); err != nil {
		return nil, err
	}
	return node, nil
}

// Prepare finds out whether a Cassandra can be started here, and fetches its jars.
// Errors: ErrNoJava, ErrNoMaven.
func Prepare(ctx context.Context, progress io.Writer) error {
	_, _, err := prepare(ctx, progress)
	return err
}

func prepare(ctx context.Context, progress io.Writer) (java, lib string, err error) {
	if java, err = findJava(ctx); err != nil {
		return "", "", err
	}
	if lib, err = Jars(ctx, progress); err != nil {
		return "", "", err
	}
	return java, lib, nil
}

// start starts the process and waits for it; a start that fails leaves none behind.
func (n *Node) start(ctx context.Context) error {
	// The first superuser is made behind the node's back once it listens.
	_, err := os.Stat(filepath.Join(n.config.Dir, "data"))
	await := []string{"Starting listening for CQL"}
	if n.config.Credentials && errors.Is(err, fs.ErrNotExist) {
		await = append(await, "Created default superuser role")
	}
	process, err := startProcess(n.java, jvmArguments(n.config, n.lib), n.LogFile(), await)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.process = process
	n.mu.Unlock()
	if err := n.await(ctx, process); err != nil {
		process.kill()
		return fmt.Errorf("start Cassandra: %w, log %s ends with:\n%s", err, n.LogFile(), process.tail())
	}
	return nil
}

// await waits for the log to say that the node starts to listen, and then until it does.
func (n *Node) await(ctx context.Context, process *process) error {
	ticker := time.NewTicker(dialEvery)
	defer ticker.Stop()
	ready, dial := process.ready, (<-chan time.Time)(nil)
	for {
		select {
		case <-ready:
			ready, dial = nil, ticker.C
		case <-dial:
			if connection, err := net.Dial("tcp", n.Address()); err == nil {
				return connection.Close()
			}
		case <-process.done:
			return fmt.Errorf("it ended (%v)", process.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Address is where it takes CQL, host:port. It stays the same over a Restart.
func (n *Node) Address() string {
	return net.JoinHostPort(n.config.Address, strconv.Itoa(n.config.Port))
}

// StorageAddress is the seed for another node that shall join this one.
func (n *Node) StorageAddress() string { return n.config.storageAddress() }

// LogFile is where its log goes, from one start after the other.
func (n *Node) LogFile() string { return filepath.Join(n.config.Dir, "cassandra.log") }

// PID is the process of the last start.
func (n *Node) PID() int { return n.current().command.Process.Pid }

// Done is closed when the process of the last start has ended.
func (n *Node) Done() <-chan struct{} { return n.current().done }

// Kill ends the process at once, as a crash does, and waits for its end.
func (n *Node) Kill() {
	n.changing.Lock()
	defer n.changing.Unlock()
	n.current().kill()
}

// Pause freezes the process: its connections stay open and nothing answers.
func (n *Node) Pause() error { return n.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (n *Node) Resume() error { return n.signal(syscall.SIGCONT) }

func (n *Node) signal(signal syscall.Signal) error {
	if err := n.current().command.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to Cassandra: %w", signal, err)
	}
	return nil
}

// Stop has the process flush and end. If that takes more than half a minute it is killed,
// which is the error.
func (n *Node) Stop() error {
	n.changing.Lock()
	defer n.changing.Unlock()
	return n.stop()
}

func (n *Node) stop() error {
	process := n.current()
	// A frozen process takes no SIGTERM; of one that ended there is nothing to tell.
	_ = process.command.Process.Signal(syscall.SIGTERM)
	_ = process.command.Process.Signal(syscall.SIGCONT)
	timer := time.NewTimer(stopMax)
	defer timer.Stop()
	select {
	case <-process.done:
		return nil
	case <-timer.C:
		process.kill()
		return fmt.Errorf("stop Cassandra: killed after %v, log %s ends with:\n%s", stopMax, n.LogFile(), process.tail())
	}
}

// Restart starts it again on the same folder and ports, and stops it before if it still runs.
func (n *Node) Restart(ctx context.Context) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	if err := n.stop(); err != nil {
		return err
	}
	return n.start(ctx)
}

func (n *Node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}
