package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/tests/harness"
)

// A power cut is made so: each NATS node keeps its data in an ext4 of its own in
// an image file. At the cut all its threads are stopped, the image is copied
// while it is mounted, and the process is killed. The copy has what the disk was
// given until then, and nothing of what the kernel still kept in memory; mounting
// it replays the journal, and the node goes on from there.

// requirePowerCut makes a power cut that cannot be had a failure.
const requirePowerCut = "PARLEY_REQUIRE_POWERCUT"

// powerDisk is a file system in a file.
type powerDisk struct {
	dir    string // where it is mounted, in the mount namespace of its node alone
	images string // the directory of the images
	image  string // the newest
	cuts   int
}

// powerDiskBytes has room for what two shards and DEAD reserve. The image is
// sparse: about 30 MB of it are written.
const powerDiskBytes = 576 << 20

// mountImage is a shell script that mounts its first argument at its second and
// becomes the rest. It runs in a mount namespace of its own, so that the kernel
// unmounts and detaches when the process ends, however it ends. Ext4 itself
// writes nothing for 5 minutes: what is in the copy was synced, by whichever
// sync_interval, and no journal is written in the middle of the copying.
const mountImage = `mount -t ext4 -o loop,noatime,commit=300 "$1" "$2" && shift 2 && exec "$@"`

// makePowerDisk skips the test where no image can be made and mounted.
func makePowerDisk(t *testing.T) *powerDisk {
	t.Helper()
	d := &powerDisk{dir: t.TempDir(), images: t.TempDir()}
	d.image = filepath.Join(d.images, "0.img")
	t.Cleanup(func() { d.awaitDetached(t, d.image) }) // runs after the node's: it is gone
	run := func(command ...string) {
		t.Helper()
		if text, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			refuse := t.Skipf
			if os.Getenv(requirePowerCut) != "" {
				refuse = t.Fatalf
			}
			refuse("a power cut cannot be made here (%s: %v %s): run this test as root on Linux with loop devices", command[0], err, strings.TrimSpace(string(text)))
		}
	}
	run("truncate", fmt.Sprintf("--size=%d", powerDiskBytes), d.image)
	// All of the file system is written now, and nothing of it later in the background.
	run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", d.image)
	run(append(d.within(), "true")...)
	return d
}

// within mounts the disk for the process that it becomes.
func (d *powerDisk) within() []string {
	return []string{"unshare", "--mount", "sh", "-c", mountImage, "sh", d.image, d.dir}
}

// copyImage copies what the mounted disk has been given.
func (d *powerDisk) copyImage(t testing.TB) (to string) {
	t.Helper()
	d.cuts++
	to = filepath.Join(d.images, fmt.Sprintf("%d.img", d.cuts))
	if text, err := exec.Command("cp", "--sparse=always", d.image, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v: %s", d.image, err, text)
	}
	return to
}

// awaitDetached returns when no loop device has the image any more, and removes it.
func (d *powerDisk) awaitDetached(t testing.TB, image string) {
	t.Helper()
	deadline := time.Now().Add(harness.ChildWithin)
	for {
		text, err := exec.Command("losetup", "--noheadings", "--output=NAME", "--associated", image).Output()
		if err != nil || len(text) == 0 {
			break // there is no losetup where nothing was mounted
		}
		if time.Now().After(deadline) {
			t.Errorf("%s is still attached to %s", image, text)
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := os.Remove(image); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// powerCluster is a cluster, or a node alone, whose power can be cut.
type powerCluster struct {
	*harness.Cluster
	disks map[*harness.ClusterNode]*powerDisk
}

func startPowerCluster(t *testing.T, nodes int, flags ...string) *powerCluster {
	t.Helper()
	c := &powerCluster{Cluster: harness.NewCluster(t, nodes, flags...), disks: map[*harness.ClusterNode]*powerDisk{}}
	for _, n := range c.Nodes {
		disk := makePowerDisk(t)
		c.disks[n] = disk
		n.Within, n.Dir = disk.within(), filepath.Join(disk.dir, "nats")
	}
	c.StartAll(t)
	return c
}

// cut takes the power from all of nodes at once. They can be started again.
func (c *powerCluster) cut(t testing.TB, nodes ...*harness.ClusterNode) {
	t.Helper()
	for _, n := range nodes {
		n.Signal(t, syscall.SIGSTOP)
	}
	for _, n := range nodes {
		awaitThreadsStopped(t, n.Child)
	}
	copies := make([]string, len(nodes))
	for i, n := range nodes {
		copies[i] = c.disks[n].copyImage(t)
	}
	for i, n := range nodes {
		n.Kill()
		disk := c.disks[n]
		disk.awaitDetached(t, disk.image)
		disk.image = copies[i]
		n.Within = disk.within()
	}
}

func (c *powerCluster) restart(t testing.TB, nodes ...*harness.ClusterNode) {
	t.Helper()
	for _, n := range nodes {
		c.Start(t, n)
	}
	for _, n := range nodes {
		n.WaitReady(t)
	}
}

// awaitThreadsStopped returns when no thread of c writes any more: one that was
// in the middle of a sync has ended it.
func awaitThreadsStopped(t testing.TB, c *harness.Child) {
	t.Helper()
	harness.EventuallyWithin(t, harness.ChildWithin, c.Name+" is stopped", func() bool {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", c.Cmd.Process.Pid))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no threads: %v", c.Name, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return false
			}
			_, state, _ := strings.Cut(string(text), ") ") // the name before it may have any character
			if !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return true
	})
}

// With our nats.conf a power cut of all nodes at once costs nothing that was
// acknowledged. With nats-server's own sync interval the same cut does: else it
// would not show anything.
func TestPowerCutOfAllNodesLosesNothing(t *testing.T) {
	t.Parallel()
	for name, nodes := range map[string]int{"one node": 1, "three nodes": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startPowerCluster(t, nodes)
			p, load, at := startPowerLoad(t, c)
			for range *harness.FaultRounds {
				load.AwaitAcks(t, 50+rand.Int64N(400))
				c.cut(t, c.Nodes...)
				c.restart(t, c.Nodes...)
			}
			load.AwaitAcks(t, 100)
			load.Finish(t)
			_, log := p.Log(t)
			messages := load.Check(t, at, log, p.Store)
			t.Logf("%d power cuts, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order", *harness.FaultRounds, load.Acks.Load(), messages)
		})
		t.Run(name+" with the default sync interval", func(t *testing.T) {
			t.Parallel()
			c := startPowerCluster(t, nodes, "-default-sync")
			p, load, _ := startPowerLoad(t, c)
			_, log := p.Log(t)
			load.AwaitAcks(t, 50+rand.Int64N(400))
			c.cut(t, c.Nodes...)
			load.Abandon()
			c.restart(t, c.Nodes...)
			lost := lostAfterCut(t, p, load, log.Layout())
			t.Logf("1 power cut, %d sends acknowledged, %d lost", load.Acks.Load(), lost)
			if lost == 0 {
				t.Error("nothing was lost without a sync: the power cut is none, and proves nothing")
			}
		})
	}
}

// startPowerLoad has the whole server run on c, and clients speak.
func startPowerLoad(t *testing.T, c *powerCluster) (*harness.Parts, *harness.Load, harness.Place) {
	t.Helper()
	p := harness.StartPartsAt(t, c.URLs(), streamstest.Passwords(), 2)
	first, second := p.StartEdge(t, "first"), p.StartEdge(t, "second")
	p.StartWorker(t, "persist,query,chats,users")
	return p, harness.StartLoad(t, 4, 2, first.Place, second.Place), first.Place
}

// lostAfterCut counts the acknowledged sends that the log no longer has.
func lostAfterCut(t *testing.T, p *harness.Parts, l *harness.Load, layout streams.Layout) (lost int) {
	t.Helper()
	js := harness.OpenJetStream(t, p.URLs, p.Passwords)
	for _, talk := range l.Pairs {
		acked := len(talk.Sides[0].Acked) + len(talk.Sides[1].Acked)
		if !streamSurvived(t, js, layout.Shard(talk.Chat).Stream()) {
			lost += acked
			continue
		}
		found := map[string]uint64{} // by user/id
		for _, l := range harness.Logged(t, streams.NewLog(js, layout), talk.Chat) {
			found[l.From+"/"+l.ID] = l.Seq
		}
		for _, s := range talk.Sides {
			for id, seq := range s.Acked {
				if found[s.User+"/"+id] != seq {
					lost++
				}
			}
		}
	}
	return lost
}

// streamSurvived asks until the cluster has an answer.
func streamSurvived(t *testing.T, js jetstream.JetStream, name string) (survived bool) {
	t.Helper()
	harness.EventuallyWithin(t, harness.ChildWithin, "the cluster knows whether there is "+name, func() bool {
		_, err := js.Stream(t.Context(), name)
		survived = err == nil
		return survived || errors.Is(err, jetstream.ErrStreamNotFound)
	})
	return survived
}

// One node of three has its power cut while the others go on; it catches up from
// them, and is then worth as much as they are.
func TestPowerCutOfOneNodeLosesNothing(t *testing.T) {
	t.Parallel()
	c := startPowerCluster(t, 3)
	p, load, at := startPowerLoad(t, c)
	js, log := p.Log(t)
	var victim *harness.ClusterNode
	for round := range *harness.FaultRounds {
		leader := c.Leader(t, js, log.Layout().At(round%2).Stream())
		follower := c.Nodes[(slices.Index(c.Nodes, leader)+1+rand.N(2))%3]
		for _, victim = range []*harness.ClusterNode{follower, leader} {
			load.AwaitAcks(t, 50+rand.Int64N(200))
			c.cut(t, victim)
			load.AwaitAcks(t, 200)
			c.restart(t, victim)
			harness.AwaitReplicas(t, js, log.Layout())
		}
	}
	load.AwaitAcks(t, 100)
	load.Finish(t)
	messages := load.Check(t, at, log, p.Store)
	harness.AwaitReplicas(t, js, log.Layout())
	wantAllOn(t, c.Cluster, victim, log, load)
	t.Logf("%d power cuts, %d sends acknowledged, %d messages: 0 missing, 0 twice, 0 out of order; the last node has all of them by itself",
		2**harness.FaultRounds, load.Acks.Load(), messages)
}

// wantAllOn ends the other nodes and reads the log from n's own disk.
func wantAllOn(t *testing.T, c *harness.Cluster, n *harness.ClusterNode, log *streams.Log, l *harness.Load) {
	t.Helper()
	want := make([][]harness.Line, len(l.Pairs))
	for i, talk := range l.Pairs {
		want[i] = harness.ReadLog(t, log, talk.Chat)
	}
	for _, other := range c.Nodes {
		if other != n {
			other.Kill()
		}
	}
	js := harness.OpenJetStream(t, []string{"nats://" + n.Listen}, streamstest.Passwords())
	alone := streams.NewLog(js, log.Layout())
	for i, talk := range l.Pairs {
		harness.CheckSame(t, talk.Chat, n.Name+" alone", harness.ReadLog(t, alone, talk.Chat), want[i])
	}
}
