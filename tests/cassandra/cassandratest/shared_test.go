package cassandratest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"go.uber.org/goleak"

	"parley/tests/cassandra"
)

// userVariable makes the test binary a test process that uses the shared Cassandra.
const userVariable = "CASSANDRATEST_USER"

func TestMain(m *testing.M) {
	var tests Runner = m
	if os.Getenv(userVariable) != "" {
		tests = user{}
	}
	goleak.VerifyTestMain(StopAfter(tests))
}

// user stands for the tests of the other process: it prints the address and the process of the
// shared Cassandra, and runs until its input or Cassandra ends.
type user struct{}

func (user) Run() int {
	address, err := ofProcess.use()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(address, ofProcess.node.PID())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-ended:
	case <-ofProcess.node.Done():
	}
	return 0
}

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

// process is another test process and its shared Cassandra.
type process struct {
	command *exec.Cmd
	input   io.Closer
	output  *strings.Builder // standard error; read after command.Wait
	folder  string           // of its temporary files
	address string           // of Cassandra
	jvm     int              // Cassandra's process
}

func startProcess(t *testing.T) *process {
	t.Helper()
	p := &process{command: exec.Command(os.Args[0]), output: &strings.Builder{}, folder: t.TempDir()}
	p.command.Env = append(os.Environ(), userVariable+"=1", "TMPDIR="+p.folder)
	p.command.Stderr = p.output
	input, err := p.command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.input = input
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.command.Process.Kill() })
	line, _ := bufio.NewReader(output).ReadString('\n')
	if _, err := fmt.Sscan(line, &p.address, &p.jvm); err != nil {
		err = p.command.Wait()
		t.Fatalf("the other process ended before it had a Cassandra: %v: %s", err, p.output)
	}
	return p
}

func TestSharedEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	Require(t)
	for name, test := range map[string]struct {
		end     func(*process) error
		fails   bool // the process reports a failure
		leaves  bool // the folder stays
		explain string
	}{
		"the tests end": {
			end: func(p *process) error { return p.input.Close() },
		},
		"the process is killed": {
			end:    func(p *process) error { return p.command.Process.Kill() },
			fails:  true,
			leaves: true,
		},
		"Cassandra ends by itself": {
			end:     func(p *process) error { return syscall.Kill(p.jvm, syscall.SIGKILL) },
			fails:   true,
			leaves:  true,
			explain: "it ended before the tests did, see ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t)
			connection, err := net.Dial("tcp", p.address)
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			if err := test.end(p); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, connection)
			if err := p.command.Wait(); (err != nil) != test.fails {
				t.Errorf("the process ended with %v, want a failure: %t: %s", err, test.fails, p.output)
			}
			if !strings.Contains(p.output.String(), test.explain) {
				t.Errorf("the process wrote %q, want %q", p.output, test.explain)
			}
			folders, err := os.ReadDir(p.folder)
			if err != nil {
				t.Fatal(err)
			}
			if leaves := len(folders) > 0; leaves != test.leaves {
				t.Errorf("temporary files are %v, want some: %t", folders, test.leaves)
			}
		})
	}
}

// wantClosed waits until Cassandra's end closes a connection to it.
func wantClosed(t *testing.T, connection net.Conn) {
	t.Helper()
	if err := connection.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Cassandra runs on: read from it: %v", err)
	}
}

func TestSharedWithoutStopAfterIsRefused(t *testing.T) {
	t.Parallel()
	var forgotten instance
	if _, err := forgotten.use(); !errors.Is(err, errNotOwned) {
		t.Errorf("use an instance that nobody stops: %v, want errNotOwned", err)
	}
	if forgotten.node != nil {
		t.Error("Cassandra was started")
	}
}

func TestFailedStartIsEveryUsersError(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	t.Setenv("PATH", "")
	t.Setenv("JAVA_HOME", "")
	failing := instance{owned: true}
	for range 2 {
		if _, err := failing.use(); !errors.Is(err, cassandra.ErrNoJava) {
			t.Errorf("use without Java: %v, want ErrNoJava", err)
		}
	}
	if err := failing.stop(); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(folder); len(files) > 0 || err != nil {
		t.Errorf("temporary files are %v, %v, want none", files, err)
	}
}
