//go:build unix

package commands

import (
	"database/sql"
	"strings"
	"sync"
	"syscall"
	"testing"

	"parley/tests/harness"
)

// A store is checked while messages come and are persisted; damaged, it is found to
// be; and it is rebuilt once no worker runs.
func TestCheckAndRebuildAsProcesses(t *testing.T) {
	t.Parallel()
	p := harness.StartParts(t, 2)
	worker := p.StartWorker(t, "persist")
	a := p.Author(t, 30)
	a.Say(t, 3000)

	var talking sync.WaitGroup
	talking.Go(func() { a.Say(t, 5000) })
	const checks = 4
	for range checks {
		stdout, stderr, ok := p.Run(t, "check", "--deep")
		if !ok || !strings.Contains(stdout, "log and store agree") {
			t.Errorf("check under load:\n%s%s", stdout, stderr)
		}
	}
	talking.Wait()
	t.Logf("%d checks under load", checks)

	_, log := p.Log(t)
	harness.AwaitStored(t, log, p.Reader(t))
	damageStore(t, p.Store)
	stdout, stderr, ok := p.Run(t, "check", "--findings=5")
	if ok || !strings.Contains(stderr, "parley rebuild") || !strings.Contains(stdout, "missing in direct.a") || !strings.Contains(stdout, "more\n") {
		t.Errorf("check of a damaged store:\n%s%s", stdout, stderr)
	}
	rebuildStore(t, p, worker)
}

// damageStore takes rows away and changes one.
func damageStore(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		"DELETE FROM events WHERE n BETWEEN 40 AND 60",
		"UPDATE events SET author = 'mallory' WHERE n = 70",
		"DELETE FROM chats WHERE chat = 'direct.a1.b1'",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
}

// rebuildStore rebuilds the store of p once the worker is gone, and is refused before.
func rebuildStore(t *testing.T, p *harness.Parts, worker *harness.WorkerChild) {
	t.Helper()
	rebuild := harness.StartChild(t, p.Environment(), "rebuild")
	harness.Eventually(t, "the rebuild waits for the worker", func() bool { return strings.Contains(rebuild.Stderr.String(), "of ") })
	rebuild.Signal(t, syscall.SIGINT)
	if state := rebuild.WaitExit(t); state.Success() || !strings.Contains(rebuild.Stderr.String(), "run it again") {
		t.Errorf("an interrupted rebuild: %s\n%s", state, rebuild.Stderr)
	}
	if stdout, stderr, ok := p.Run(t, "rebuild"); ok || !strings.Contains(stderr, "stop all workers") {
		t.Errorf("rebuild beside a worker:\n%s%s", stdout, stderr)
	}
	worker.Signal(t, syscall.SIGTERM)
	worker.WaitExit(t)
	stdout, stderr, ok := p.Run(t, "rebuild", "--shard=0", "--shard=1")
	if !ok || !strings.HasPrefix(stdout, "8,000 events written in ") {
		t.Errorf("rebuild:\n%s%s", stdout, stderr)
	}
	t.Log(stdout)
	if stdout, stderr, ok := p.Run(t, "check", "--deep"); !ok {
		t.Errorf("check of the rebuilt store:\n%s%s", stdout, stderr)
	} else {
		t.Logf("\n%s", stdout)
	}
	if stdout, stderr, ok := p.Run(t, "check", "--shard=7"); ok || !strings.Contains(stderr, "there are the shards 0, 1") {
		t.Errorf("check of a shard that is none:\n%s%s", stdout, stderr)
	}
}
