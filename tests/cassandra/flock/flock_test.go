package flock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestLockHasOneHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(path); !errors.Is(err, ErrHeld) {
		t.Fatalf("try a held lock: %v, want ErrHeld", err)
	}
	first.Unlock()
	second, err := Try(path)
	if err != nil {
		t.Fatal(err)
	}
	second.Unlock()
}

func TestTakeWaitsUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Try(path)
	if err != nil {
		t.Fatal(err)
	}
	ended := errors.New("ended")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ended)
	if _, err := Take(ctx, path); !errors.Is(err, ended) {
		t.Fatalf("take a held lock: %v, want %v", err, ended)
	}
	result := make(chan error, 1)
	go func() {
		lock, err := Take(t.Context(), path)
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
