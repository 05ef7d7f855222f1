package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"parley/workers/store"
	"parley/workers/store/storetest"
)

// TestFullDiskRefusesAndGoesOn fills a file system of 8 MiB, which takes the
// right to mount one.
func TestFullDiskRefusesAndGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, filepath.Join(dir, "parley.db"))
	defer closeStore(t, s)
	l := storetest.NewTimeline("0", 1<<40)
	refused := full(t, s, l)
	if err := s.Commit(t.Context(), refused); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
	if got, err := s.Committed(t.Context(), "0"); got != refused.Committed-1 || err != nil {
		t.Errorf("Committed on a full disk: %d, %v, want %d", got, err, refused.Committed-1)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), refused); err != nil {
		t.Fatal(err)
	}
	wantAll(t, s, l)
}
