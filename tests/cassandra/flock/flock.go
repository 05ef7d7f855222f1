// Package flock locks files between processes. A lock goes with the process
// that holds it, however that ends, so nothing stale is ever left behind.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrHeld means that another process, or another Lock of this one, has the file.
var ErrHeld = errors.New("the file is locked by another process")

// retryEvery is how long one waits for a lock that just became free.
const retryEvery = 50 * time.Millisecond

// Lock is a lock that is held until Unlock, or until the process ends.
type Lock struct{ file *os.File }

// Try takes the lock or returns ErrHeld at once. The file is made if it is
// missing and never removed: a removed lock file would be two locks.
func Try(path string) (*Lock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return &Lock{file: file}, nil
	}
	_ = file.Close() // nothing was written; the cause of the failure is err
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrHeld
	}
	return nil, fmt.Errorf("lock file %s: %w", path, err)
}

// Take waits for the lock until ctx ends.
func Take(ctx context.Context, path string) (*Lock, error) {
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		lock, err := Try(path)
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for lock file %s: %w", path, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// Unlock gives the lock up. A second call does nothing.
func (l *Lock) Unlock() { _ = l.file.Close() }
