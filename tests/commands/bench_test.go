//go:build unix

package commands

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"parley/bench"
	"parley/tests/harness"
)

// benchWithin is room for a short run on a machine that has much else to do.
const benchWithin = 5 * time.Minute

// benchResults are what a workload reports.
type benchResults struct {
	workload string
	flags    []string
	cases    []string // each is the beginning of one result's case, in order
	figures  []string // of the last of them
}

var wantedBenchResults = []benchResults{
	{"replicas", nil, []string{"one stream, R1", "one stream, R3", "8 streams, R1", "8 streams, R3"}, nil},
	{"restart", []string{"--events=6000", "--chats=2000"},
		[]string{"empty", "after SIGTERM, 2000 events", "after SIGTERM, 6000 events", "after SIGKILL",
			"nothing", "more for", "more for", "1 h at 100", "1 h at 1000 ", "1 h at 10000", "24 h", "24 h", "24 h", "168 h", "168 h", "168 h"},
		[]string{"events", "chats", "disk", "memory", "memory after SIGKILL", "start after SIGTERM", "start after SIGKILL"}},
	{"persist", nil, []string{"sqlite, ceiling", "sqlite, 10 busy", "sqlite, 100 busy", "sqlite, 1000 busy"},
		[]string{"lag at the end", "stored", "rows per batch", "of which in a chat", "a shard's batch every", "its commit", "CPU", "persisted after"}},
	{"pages", nil, []string{"sqlite, newest 50", "sqlite, 50 before", "sqlite, 50 after"}, nil},
	{"group", nil, []string{"fanout, 10 sessions", "10 members", "fanout, 100 sessions", "100 members"}, nil},
	{"connect", nil, []string{"sqlite, a user in 20 groups"}, []string{"connects", "requests to workers, of each"}},
	{"chats", nil, []string{"sqlite, 50 chats of 2 messages, limit 50", "sqlite, 50 chats of 2 messages, limit 200",
		"sqlite, 50 chats of 20 messages, limit 50", "sqlite, 50 chats of 20 messages, limit 200"}, []string{"chats in the store alone"}},
	{"create", nil, []string{"sqlite, 100 members online"},
		[]string{"groups", "last member told, of half of them", "at worst", "last member sent the first event, at worst"}},
	{"receipts", nil, []string{"busy, 10 pairs, 20/s each, no receipts", "busy, 10 pairs, 20/s each, delivered and read at once",
		"quiet, 100 pairs, 1/s each, no receipts", "quiet, 100 pairs, 1/s each, delivered and read at once",
		"quiet, 100 pairs, 1/s each, no receipts", "quiet, 100 pairs, 1/s each, delivered and read 1s later"},
		[]string{"marks published", "receipt frames", "rows", "marks before their event was stored"}},
	{"presence", nil, []string{"1000 keys, of NATS and a worker alone", "1000 keys that nobody writes again", "sqlite, 1000 sessions",
		"sqlite, status, told to 10 watchers", "sqlite, connect, told to 10 watchers", "sqlite, end of a connection, told to 10 watchers",
		"sqlite, 500 users, half gone, from the store", "sqlite, 500 users, half gone, remembered", "sqlite, 1000 sessions closed"},
		[]string{"messages left", "after"}},
}

// The workloads measure something, and end.
func TestBenchWorkloadsGiveTheirResults(t *testing.T) {
	t.Parallel()
	for _, tc := range wantedBenchResults {
		t.Run(tc.workload, func(t *testing.T) {
			t.Parallel()
			results := runBench(t, append([]string{tc.workload, "--short", "--duration=2s"}, tc.flags...)...)
			if len(results) != len(tc.cases) {
				t.Fatalf("%d results, want %d: %+v", len(results), len(tc.cases), results)
			}
			for i, r := range results {
				if !strings.HasPrefix(r.Case, tc.cases[i]) {
					t.Errorf("result %d is %q, want %s…", i, r.Case, tc.cases[i])
				}
				if r.Unit != "" && r.Rate <= 0 {
					t.Errorf("%s: no rate", r.Case)
				}
			}
			last := results[len(results)-1]
			for _, name := range tc.figures {
				if value := figure(t, last, name); value < 0 {
					t.Errorf("%s: %s is %v", last.Case, name, value)
				}
			}
			wantBenchFigures(t, tc.workload, results)
		})
	}
}

// wantBenchFigures wants the figures of some workloads to be as their load makes them.
func wantBenchFigures(t *testing.T, workload string, results []bench.Result) {
	t.Helper()
	last := results[len(results)-1]
	switch workload {
	case "connect":
		// Groups and blocks: who asks for neither had a session beside it.
		if asked := figure(t, last, "requests to workers, of each"); asked != 2 {
			t.Errorf("%s: %v requests to workers for each, want 2", last.Case, asked)
		}
	case "receipts":
		// Of each message, what was delivered and what was read later are two.
		if marks := figure(t, last, "marks published"); marks < 1 {
			t.Errorf("%s: %v marks of a message", last.Case, marks)
		}
	case "presence":
		for _, r := range []bench.Result{results[1], last} {
			if left := figure(t, r, "messages left"); left != 0 {
				t.Errorf("%s: the bucket has %v messages", r.Case, left)
			}
		}
	case "chats":
		if stored := figure(t, last, "chats in the store alone"); stored < 25 {
			t.Errorf("%s: the log has forgotten %v chats, want at least 25", last.Case, stored)
		}
	}
}

// runBench runs `parley bench` as a process and returns its results.
func runBench(t *testing.T, args ...string) (results []bench.Result) {
	t.Helper()
	c := harness.StartChild(t, []string{"TMPDIR=" + t.TempDir()}, append([]string{"bench", "--json"}, args...)...)
	select {
	case <-c.Exited:
	case <-time.After(benchWithin):
		t.Fatalf("%s did not end within %s:\n%s", c.Name, benchWithin, c.Stderr)
	}
	if !c.Cmd.ProcessState.Success() {
		t.Fatalf("%s ends with %s:\n%s", c.Name, c.Cmd.ProcessState, c.Stderr)
	}
	for line := range strings.Lines(c.Stdout.String()) {
		var r bench.Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		results = append(results, r)
	}
	return results
}

func figure(t *testing.T, r bench.Result, name string) float64 {
	t.Helper()
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Value
		}
	}
	t.Errorf("%s has no figure %q: %+v", r.Case, name, r.Figures)
	return 0
}
