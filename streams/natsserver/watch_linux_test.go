package natsserver_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"parley/streams"
	"parley/streams/streamstest"
)

func TestServerGoesOnWhenAFullDiskHasRoomAgain(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(strconv.Itoa(nodes)+" nodes", func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t, nodes)
			ballast := filepath.Join(disk, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 12<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			env := streamstest.Start(t, streamstest.Options{
				Nodes: nodes, DataDir: filepath.Join(disk, "data"), StoreBytesMax: 4 << 30,
				Settings: streams.Settings{Shards: 1, MaxBytes: 1 << 30},
			})
			last, stored := fillDisk(t, env)
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}

			shard, subject := timelineOf(t, env)
			js := streamstest.JetStream(t, env.Connect(t, streams.EdgeComponent))
			var next uint64
			ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
			defer cancel()
			for next == 0 {
				attempt, cancel := context.WithTimeout(ctx, time.Second)
				if ack, err := js.Publish(attempt, subject, nil); err == nil {
					next = ack.Sequence
				}
				cancel()
				if ctx.Err() != nil {
					t.Fatal("the log takes nothing though its disk has room")
				}
			}
			if next <= last {
				t.Errorf("event after the full disk has seq %d, but %d was acknowledged before", next, last)
			}
			env.JetStream = streamstest.JetStream(t, env.Connect(t, streams.WorkerComponent)) // the one before may still be on its way back
			if got := streamInfo(t, env, shard.Stream()).State.Msgs; got < uint64(stored) {
				t.Errorf("%d events are there, %d were acknowledged", got, stored)
			}
		})
	}
}

// smallDisk mounts a file system that is soon full.
func smallDisk(t *testing.T, nodes int) string {
	t.Helper()
	disk := t.TempDir()
	size := "size=" + strconv.Itoa(24*nodes) + "m"
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, size); err != nil {
		t.Skipf("mounting a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Errorf("unmount %s: %v", disk, err)
		}
	})
	return disk
}

// fillDisk publishes until nothing is acknowledged any more, and returns the last
// acknowledged seq and how many there were.
func fillDisk(t *testing.T, env *streamstest.Env) (last uint64, stored int) {
	t.Helper()
	js := streamstest.JetStream(t, env.Connect(t, streams.EdgeComponent))
	_, subject := timelineOf(t, env)
	data := bytes.Repeat([]byte("x"), 100<<10)
	for range 10_000 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		ack, err := js.Publish(ctx, subject, data)
		cancel()
		if err != nil {
			return last, stored
		}
		last, stored = ack.Sequence, stored+1
	}
	t.Fatal("the disk did not fill")
	return 0, 0
}
