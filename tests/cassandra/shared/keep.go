package shared

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"parley/tests/cassandra"
	"parley/tests/cassandra/flock"
)

// lookEvery is how long an instance may outlive its owner, and one lock is tried.
const lookEvery = 250 * time.Millisecond

// heldFile is the descriptor of keeper.lock in the keeper.
const heldFile = 3

// Reasons for a keeper to end in order.
var (
	errOwnerGone = errors.New("the process that it belongs to has ended")
	errIdle      = errors.New("nobody uses it any more")
)

// Keeper holds the instance of one owner.
type Keeper struct {
	Dir   string        // the folder of the owner
	Owner Owner         // the process to end with
	Idle  time.Duration // how long to stay without users
}

// Run starts Cassandra and holds it until there is no more reason to, or ctx ends.
func (k Keeper) Run(ctx context.Context) error {
	syscall.CloseOnExec(heldFile) // or the JVM would hold keeper.lock too
	ctx, end := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { k.watchLoop(ctx, end) })
	defer watch.Wait()
	defer end(nil)

	k.sweep()
	err := k.hold(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errOwnerGone) || errors.Is(cause, errIdle) {
		fmt.Fprintln(os.Stderr, "keeper: ended:", cause)
		return k.remove(cause)
	}
	return err
}

// hold has Cassandra running until ctx or Cassandra ends.
func (k Keeper) hold(ctx context.Context) error {
	data := filepath.Join(k.Dir, dataName)
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("remove data of the last Cassandra: %w", err)
	}
	node, err := cassandra.Start(ctx, cassandra.Config{Dir: data, Unsafe: true})
	if err != nil {
		return err
	}
	defer node.Kill()
	fresh := filepath.Join(k.Dir, addressName+".new")
	if err := os.WriteFile(fresh, []byte(node.Address()), 0o600); err != nil {
		return fmt.Errorf("write address: %w", err)
	}
	if err := os.Rename(fresh, filepath.Join(k.Dir, addressName)); err != nil {
		return fmt.Errorf("put address into place: %w", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-node.Done():
		return fmt.Errorf("hold Cassandra: it ended by itself, see %s", node.LogFile())
	}
}

// watchLoop ends the keeper when there is no more reason for it. At the end for want of users
// it holds users.lock until the process ends.
func (k Keeper) watchLoop(ctx context.Context, end context.CancelCauseFunc) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	used := time.Now()
	for {
		if !k.Owner.Alive() {
			end(errOwnerGone)
			return
		}
		lock, err := flock.Try(filepath.Join(k.Dir, usersLock), flock.Exclusive)
		switch {
		case err != nil: // used, or not to be known: the owner's end decides
			used = time.Now()
		case time.Since(used) > k.Idle:
			end(errIdle)
			return
		default:
			lock.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// remove clears up: the whole folder after its owner's end, else what the next keeper of the
// same owner makes anew. The locks stay then, for users may wait for them.
func (k Keeper) remove(cause error) error {
	if errors.Is(cause, errOwnerGone) {
		return os.RemoveAll(k.Dir)
	}
	return errors.Join(os.RemoveAll(filepath.Join(k.Dir, dataName)), os.Remove(filepath.Join(k.Dir, addressName)))
}

// sweep removes the folders of owners that are gone and whose keepers were killed. What cannot
// be removed now is left to the next.
func (k Keeper) sweep() {
	parent := filepath.Dir(k.Dir)
	entries, _ := os.ReadDir(parent)
	for _, entry := range entries {
		if Owner(entry.Name()).Alive() {
			continue
		}
		dir := filepath.Join(parent, entry.Name())
		lock, err := flock.Try(filepath.Join(dir, keeperLock), flock.Exclusive)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		lock.Unlock()
	}
}
