// Package shared gives the processes of one owner (the tests of one `go test` run) the same
// Cassandra. None of them can hold it, for each lives only as long as its own package; a keeper
// does, a process of its own that the first of them starts.
//
// They meet in a folder of the owner in the user's cache:
//
//	users.lock   each user holds it, shared, for as long as it uses the instance
//	start.lock   who starts a keeper holds it, so that only one does
//	keeper.lock  the keeper holds it from before its start to its end
//	address      where Cassandra listens, written when it does
//	keeper.log   what the keeper and Cassandra have to say
//
// The keeper ends when the owner has, when it can take users.lock and could all the time for
// the idle limit, or when Cassandra ends. It then has users.lock: who wants to use the instance
// in that moment waits, and starts the next. Locks are the kernel's, so a process that is
// killed leaves nothing to clear up; Cassandra is killed by the kernel with its keeper.
package shared

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"parley/tests/cassandra"
	"parley/tests/cassandra/flock"
)

const (
	usersLock   = "users.lock"
	startLock   = "start.lock"
	keeperLock  = "keeper.lock"
	addressName = "address"
	keeperLog   = "keeper.log"
	dataName    = "data"
)

const (
	keeperPackage = "parley/tests/cassandra/shared/keeper"
	pollEvery     = 100 * time.Millisecond // while another process starts it
)

// Use is a claim on the instance: until Release, its keeper does not end for want of users.
type Use struct {
	Address string // of CQL, host:port
	lock    *flock.Lock
}

// Release gives the claim up.
func (u *Use) Release() { u.lock.Unlock() }

// Acquire gives the owner's instance and starts it if there is none, with a keeper that stays
// for idle without users. Its working directory must be inside this module, where the keeper
// is built. Errors: cassandra.ErrNoJava, cassandra.ErrNoMaven.
func Acquire(ctx context.Context, owner Owner, idle time.Duration) (*Use, error) {
	dir, err := folder(owner)
	if err != nil {
		return nil, err
	}
	users, err := flock.Take(ctx, filepath.Join(dir, usersLock), flock.Shared)
	if err != nil {
		return nil, err
	}
	address, err := findOrStart(ctx, dir, owner, idle)
	if err != nil {
		users.Unlock()
		return nil, err
	}
	return &Use{Address: address, lock: users}, nil
}

func folder(owner Owner) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder for the shared Cassandra: %w", err)
	}
	dir := filepath.Join(cache, "parley", "cassandra-shared", string(owner))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder of the shared Cassandra: %w", err)
	}
	return dir, nil
}

func findOrStart(ctx context.Context, dir string, owner Owner, idle time.Duration) (string, error) {
	start, err := flock.Take(ctx, filepath.Join(dir, startLock), flock.Exclusive)
	if err != nil {
		return "", err
	}
	defer start.Unlock()
	held, err := flock.Try(filepath.Join(dir, keeperLock), flock.Exclusive)
	if err == nil {
		err = startKeeper(ctx, dir, owner, idle, held)
		held.Unlock() // the keeper has its own hold of the same lock
	}
	if err != nil && !errors.Is(err, flock.ErrHeld) {
		return "", err
	}
	return awaitAddress(ctx, dir)
}

// startKeeper builds the keeper and starts it with the lock in its hand. It is in a session of
// its own and writes to files of its own: it outlives the test process, which nobody waits for
// on its account.
func startKeeper(ctx context.Context, dir string, owner Owner, idle time.Duration, held *flock.Lock) error {
	if err := cassandra.Prepare(ctx, os.Stderr); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, addressName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove address of the last Cassandra: %w", err)
	}
	binary := filepath.Join(dir, "keeper")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", binary, keeperPackage).CombinedOutput(); err != nil {
		return fmt.Errorf("build the keeper of the shared Cassandra: %w: %s", err, output)
	}
	log, err := os.Create(filepath.Join(dir, keeperLog))
	if err != nil {
		return fmt.Errorf("make the keeper's log: %w", err)
	}
	defer log.Close()
	command := exec.Command(binary, "-dir", dir, "-owner", string(owner), "-idle", idle.String())
	command.Dir = dir
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = []*os.File{held.File()}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start the keeper of the shared Cassandra: %w", err)
	}
	return command.Process.Release()
}

// awaitAddress waits until the keeper has Cassandra running, or ends.
func awaitAddress(ctx context.Context, dir string) (string, error) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		held, err := flock.Try(filepath.Join(dir, keeperLock), flock.Exclusive)
		if err == nil {
			held.Unlock()
			log, _ := os.ReadFile(filepath.Join(dir, keeperLog)) // one without says less
			return "", fmt.Errorf("start the shared Cassandra: its keeper ended: %s", strings.TrimSpace(string(log)))
		}
		if !errors.Is(err, flock.ErrHeld) {
			return "", err
		}
		address, err := os.ReadFile(filepath.Join(dir, addressName))
		if err == nil {
			return string(address), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("read address of the shared Cassandra: %w", err)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the shared Cassandra: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
