package faults

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"parley/clients/parley"
	"parley/schemas"
	"parley/tests/harness"
)

// smallDisk is a directory with a file system of its own.
type smallDisk struct{ dir string }

// mountSmallDisk skips the test where nothing can be mounted.
func mountSmallDisk(t *testing.T, size string) *smallDisk {
	t.Helper()
	d := &smallDisk{dir: t.TempDir()}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small disk cannot be mounted (%v): run this test as root on Linux", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", d.dir, err)
		}
	})
	return d
}

func (d *smallDisk) filler() string { return filepath.Join(d.dir, "filler") }

// fill leaves no byte free.
func (d *smallDisk) fill(t *testing.T) {
	t.Helper()
	file, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		n, err := file.Write(block)
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if n == 0 {
			block = block[:len(block)/2]
		}
	}
}

func (d *smallDisk) free(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.filler()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// With a full disk sends are refused with a code that says to come back, and
// when there is room again they are taken, with nothing done by hand.
func TestFullDiskRefusesSendsAndRecovers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		size  string
		flags []string
	}{
		"one node":    {"700m", []string{"--shards=2"}},
		"three nodes": {"4g", []string{"--shards=2", "--nats-nodes=3"}},
	} {
		t.Run(name, func(t *testing.T) {
			if len(test.flags) > 1 && *harness.FaultRounds == 1 {
				t.Skip("this takes more than a minute: run it with -fault-rounds 2")
			}
			t.Parallel()
			disk := mountSmallDisk(t, test.size)
			d := harness.StartDevChild(t, filepath.Join(disk.dir, "data"), test.flags...)
			load := harness.StartLoad(t, 4, 2, d.Place(t))
			for range *harness.FaultRounds {
				load.AwaitAcks(t, 100)
				probe := d.Place(t).Dial(t, "carl", parley.Options{})
				disk.fill(t)
				awaitRefusal(t, probe, schemas.Overloaded, schemas.Unavailable)
				disk.free(t)
				load.AwaitAcks(t, 200)
			}
			load.Finish(t)
			messages := load.Check(t, d.Place(t), d.Log(t), filepath.Join(d.Data, harness.StoreFile))
			t.Logf("%d rounds, %d messages: 0 missing, 0 twice", *harness.FaultRounds, messages)
		})
	}
}

// A disk without room is told at the start.
func TestStartWithoutRoomSaysWhatToDo(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, data string) *harness.Child {
		return harness.StartChild(t, nil, "--log-level=error", "dev", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--data="+data)
	}
	t.Run("full at the first start", func(t *testing.T) {
		disk := mountSmallDisk(t, "700m")
		data := filepath.Join(disk.dir, "data")
		disk.fill(t)
		harness.WantStartError(t, start(t, data), []string{"no space left", "make room", "--data"})
		disk.free(t)
		harness.StartDevChild(t, data, "--shards=2") // nothing half-made is in the way
	})
	t.Run("full at a later start", func(t *testing.T) {
		disk := mountSmallDisk(t, "700m")
		data := filepath.Join(disk.dir, "data")
		d := harness.StartDevChild(t, data, "--shards=2")
		d.Kill()
		disk.fill(t)
		harness.WantStartError(t, start(t, data), []string{"no space left", "make room"})
		disk.free(t)
		d.Start(t)
		d.WaitReady(t)
	})
	t.Run("too small for the streams", func(t *testing.T) {
		disk := mountSmallDisk(t, "200m")
		harness.WantStartError(t, start(t, filepath.Join(disk.dir, "data")), []string{"no room", "free some space"})
	})
}

// With the store's disk full, and that of the log not, messages come and go, and
// history has all of them: what is not stored is read from the log.
func TestFullStoreIsReadFromTheLog(t *testing.T) {
	t.Parallel()
	disk := mountSmallDisk(t, "16m")
	data, natsData := filepath.Join(disk.dir, "data"), t.TempDir()
	harness.MakeDir(t, data)
	if err := os.Symlink(natsData, filepath.Join(data, harness.NATSDir)); err != nil {
		t.Fatal(err)
	}
	d := harness.StartDevChild(t, data, "--shards=2")
	load := harness.StartLoad(t, 4, 2, d.Place(t))
	load.AwaitAcks(t, 100)
	disk.fill(t)
	harness.EventuallyWithin(t, harness.ChildWithin, "persist says that the store is down", func() bool {
		_, metrics := harness.GetStatus(d.Admin, "/metrics")
		return strings.Contains(metrics, "\nparley_persist_store_up 0\n")
	})
	load.AwaitAcks(t, 300)
	talk := load.Pairs[0]
	harness.WantAckedInHistory(t, d.Place(t), talk)
	disk.free(t)
	load.AwaitAcks(t, 100)
	load.Finish(t)
	messages := load.Check(t, d.Place(t), d.Log(t), filepath.Join(d.Data, harness.StoreFile))
	t.Logf("1 round, %d messages: 0 missing, 0 twice", messages)
}
