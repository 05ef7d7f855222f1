package flock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestExclusiveIsAloneAndSharedIsNot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	take := func(mode Mode) *Lock {
		t.Helper()
		lock, err := Try(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		return lock
	}
	wantHeld := func(mode Mode) {
		t.Helper()
		if _, err := Try(path, mode); !errors.Is(err, ErrHeld) {
			t.Fatalf("try mode %d: %v, want ErrHeld", mode, err)
		}
	}
	first, second := take(Shared), take(Shared)
	wantHeld(Exclusive)
	first.Unlock()
	wantHeld(Exclusive)
	second.Unlock()
	alone := take(Exclusive)
	wantHeld(Shared)
	alone.Unlock()
	take(Exclusive).Unlock()
}

func TestTakeWaitsUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Try(path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	ended := errors.New("ended")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ended)
	if _, err := Take(ctx, path, Exclusive); !errors.Is(err, ended) {
		t.Fatalf("take a held lock: %v, want %v", err, ended)
	}
	result := make(chan error, 1)
	go func() {
		lock, err := Take(t.Context(), path, Exclusive)
		if err == nil {
			lock.Unlock()
		}
		result <- err
	}()
	held.Unlock()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}
