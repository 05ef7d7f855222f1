package shared

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/tests/cassandra"
	"parley/tests/cassandra/flock"
)

const (
	roleVariable = "SHARED_TEST_ROLE"
	endMax       = time.Minute            // for an end that should come at once, on a busy machine
	lookAgain    = 100 * time.Millisecond // between two looks for it
	users        = 2
)

// TestMain lets the test binary play the parts of a test run: an owner as the go command, and
// below it the test processes of two packages.
func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case "owner":
		err = playOwner()
	case "user":
		err = playUser()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// playOwner runs the users at once, and waits for them to end.
func playOwner() error {
	var started []*exec.Cmd
	for range users {
		user := exec.Command(os.Args[0])
		user.Env = append(os.Environ(), roleVariable+"=user")
		user.Stdin, user.Stdout, user.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := user.Start(); err != nil {
			return err
		}
		started = append(started, user)
	}
	for _, user := range started {
		if err := user.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// playUser says its address, and uses the instance until its input ends.
func playUser() error {
	owner, err := Parent()
	if err != nil {
		return err
	}
	use, err := acquire(owner, time.Minute)
	if err != nil {
		return err
	}
	defer use.Release()
	fmt.Println(use.Address)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestProcessesOfOneOwnerShareAnInstanceThatEndsWithIt(t *testing.T) {
	t.Parallel()
	needCassandra(t)
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env = append(os.Environ(), roleVariable+"=owner")
	owner.Stderr = os.Stderr
	input, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	output, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var addresses []string
	lines := bufio.NewScanner(output)
	for len(addresses) < users && lines.Scan() {
		addresses = append(addresses, lines.Text())
	}
	if len(addresses) < users || addresses[0] != addresses[1] {
		t.Fatalf("two users have the addresses %q, want the same", addresses)
	}
	wantListening(t, addresses[0])
	since, err := startTime(owner.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := folder(Owner(fmt.Sprintf("%d-%s", owner.Process.Pid, since)))
	if err != nil {
		t.Fatal(err)
	}

	// Killed, and its users still hold the instance: nobody is left who would want it.
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = owner.Process.Wait() // not Wait of the command: the users have its output
	wantGone(t, addresses[0])
	eventually(t, "the folder of the owner is removed", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestInstanceEndsWithItsUsersAndItsKeeper(t *testing.T) {
	t.Parallel()
	needCassandra(t)
	since, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	self := Owner(fmt.Sprintf("%d-%s", os.Getpid(), since))
	dir, err := folder(self)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	use := func() *Use {
		t.Helper()
		use, err := acquire(self, 4*lookEvery)
		if err != nil {
			t.Fatal(err)
		}
		wantListening(t, use.Address)
		return use
	}
	keeperEnded := func() bool {
		lock, err := flock.Try(filepath.Join(dir, keeperLock), flock.Exclusive)
		if err == nil {
			lock.Unlock()
		}
		return err == nil
	}

	first, second := use(), use()
	if first.Address != second.Address {
		t.Fatalf("two uses have the addresses %s and %s", first.Address, second.Address)
	}
	first.Release()
	wantListening(t, second.Address)
	second.Release()
	wantGone(t, second.Address)
	eventually(t, "the keeper ends", keeperEnded)

	next := use()
	defer next.Release()
	killKeeper(t, dir)
	wantGone(t, next.Address)
	eventually(t, "the keeper ends", keeperEnded)
}

func TestOwnerThatEndedIsNotAlive(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("owners are known by what Linux tells of processes")
	}
	parent, err := Parent()
	if err != nil {
		t.Fatal(err)
	}
	if !parent.Alive() {
		t.Errorf("the parent %s is not alive", parent)
	}
	if Owner(string(parent) + "0").Alive() {
		t.Error("a process of another start time is taken for the same")
	}
	child := exec.Command("cat") // until its input ends
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	since, err := startTime(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := input.Close(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if Owner(fmt.Sprintf("%d-%s", child.Process.Pid, since)).Alive() {
		t.Error("a process that ended is alive")
	}
}

func killKeeper(t *testing.T, dir string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		binary, err := os.Readlink(link) // of another user's process it fails
		if err != nil || binary != filepath.Join(dir, "keeper") {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no process of %s/keeper", dir)
}

func wantListening(t *testing.T, address string) {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("connect to the shared Cassandra: %v", err)
	}
	_ = connection.Close()
}

func wantGone(t *testing.T, address string) {
	t.Helper()
	eventually(t, "nothing listens on "+address, func() bool {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(endMax)
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", endMax, what)
		case <-ticker.C:
		}
	}
}

func acquire(owner Owner, idle time.Duration) (*Use, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return Acquire(ctx, owner, idle)
}

func needCassandra(t *testing.T) {
	t.Helper()
	err := cassandra.Prepare(t.Context(), os.Stderr)
	switch {
	case runtime.GOOS != "linux":
		t.Skip("needs /proc and the kernel's kill at the owner's end")
	case err != nil && os.Getenv("PARLEY_REQUIRE_CASSANDRA") != "":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}
