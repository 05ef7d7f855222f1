package natsserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dirLock keeps a second server out of a data directory: nats-server does not
// look, and two of them in one directory destroy its streams.
type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "nats.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w: make it writable, or choose another", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &dirLock{file}, nil
	}
	file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("data directory %s is in use by another server: stop that, or choose another directory", dir)
	}
	return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
}

// unlock may be called again. The kernel unlocks too when the process dies.
func (l *dirLock) unlock() { l.file.Close() }

// checkDir makes dir and tries to write to it, so that the server does not fail half-way.
func checkDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("open data directory %s: %w: choose one that can be written", dir, err)
	}
	probe, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return fmt.Errorf("open data directory %s: %w: make it writable, or choose another", dir, err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}
