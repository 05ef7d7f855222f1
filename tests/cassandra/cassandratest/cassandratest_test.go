package cassandratest

import (
	"io"
	"testing"

	"parley/tests/cassandra"
)

// outcome notes what a helper does to its test.
type outcome struct {
	testing.TB
	skipped, failed bool
}

func (o *outcome) Skipf(string, ...any)  { o.skipped = true }
func (o *outcome) Fatalf(string, ...any) { o.failed = true }

func TestWithoutJavaSkipsUnlessRequired(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv("JAVA_HOME", "")
	for _, required := range []string{"", "1"} {
		t.Setenv(requireVariable, required)
		got := &outcome{TB: t}
		check(got, cassandra.Prepare(t.Context(), io.Discard))
		if want := required != ""; got.failed != want || got.skipped == want {
			t.Errorf("with %s=%q: skipped %t, failed %t", requireVariable, required, got.skipped, got.failed)
		}
	}
}
