//go:build unix

package main

import (
	"database/sql"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// runParley runs a command to its end.
func (p *parts) runParley(t testing.TB, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	c := startChild(t, p.environment(), args...)
	ok = c.waitExit(t).Success()
	return c.stdout.String(), c.stderr.String(), ok
}

// A store is checked while messages come and are persisted; damaged, it is found to
// be; and it is rebuilt once no worker runs.
func TestCheckAndRebuildAsProcesses(t *testing.T) {
	t.Parallel()
	p := startParts(t, 2)
	worker := p.startWorker(t, "persist")
	a := p.author(t, 30)
	a.say(t, 3000)

	var talking sync.WaitGroup
	talking.Go(func() { a.say(t, 5000) })
	const checks = 4
	for range checks {
		stdout, stderr, ok := p.runParley(t, "check", "--deep")
		if !ok || !strings.Contains(stdout, "log and store agree") {
			t.Errorf("check under load:\n%s%s", stdout, stderr)
		}
	}
	talking.Wait()
	t.Logf("%d checks under load", checks)

	_, log := p.log(t)
	st := p.reader(t)
	eventually(t, "all is stored", func() bool {
		for _, shard := range log.Layout().All() {
			_, last, err := log.Bounds(t.Context(), shard)
			if err != nil {
				t.Fatal(err)
			}
			if committed, err := st.Committed(t.Context(), shard.Token); err != nil || committed < last && last >= shard.FirstSeq() {
				return false
			}
		}
		return true
	})

	db, err := sql.Open("sqlite", p.store)
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
	stdout, stderr, ok := p.runParley(t, "check", "--findings=5")
	if ok || !strings.Contains(stderr, "parley rebuild") || !strings.Contains(stdout, "missing in direct.a") || !strings.Contains(stdout, "more\n") {
		t.Errorf("check of a damaged store:\n%s%s", stdout, stderr)
	}

	rebuild := startChild(t, p.environment(), "rebuild")
	eventually(t, "the rebuild waits for the worker", func() bool { return strings.Contains(rebuild.stderr.String(), "of ") })
	rebuild.signal(t, syscall.SIGINT)
	if state := rebuild.waitExit(t); state.Success() || !strings.Contains(rebuild.stderr.String(), "run it again") {
		t.Errorf("an interrupted rebuild: %s\n%s", state, rebuild.stderr)
	}
	if stdout, stderr, ok := p.runParley(t, "rebuild"); ok || !strings.Contains(stderr, "stop all workers") {
		t.Errorf("rebuild beside a worker:\n%s%s", stdout, stderr)
	}
	worker.signal(t, syscall.SIGTERM)
	worker.waitExit(t)
	stdout, stderr, ok = p.runParley(t, "rebuild", "--shard=0", "--shard=1")
	if !ok || !strings.HasPrefix(stdout, "8,000 events written in ") {
		t.Errorf("rebuild:\n%s%s", stdout, stderr)
	}
	t.Log(stdout)
	if stdout, stderr, ok := p.runParley(t, "check", "--deep"); !ok {
		t.Errorf("check of the rebuilt store:\n%s%s", stdout, stderr)
	} else {
		t.Logf("\n%s", stdout)
	}
	if stdout, stderr, ok := p.runParley(t, "check", "--shard=7"); ok || !strings.Contains(stderr, "there are the shards 0, 1") {
		t.Errorf("check of a shard that is none:\n%s%s", stdout, stderr)
	}
}
