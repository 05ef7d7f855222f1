package cassandra

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fakeMaven puts two jars where it is told to, and a line into the file calls.
const fakeMaven = `
for argument; do case $argument in -DoutputDirectory=*) lib=${argument#*=};; esac; done
/bin/mkdir -p "$lib"
echo one > "$lib/cassandra-all-` + Version + `.jar"
echo other > "$lib/other.jar"
echo called >> "$CALLS"`

func TestJarsAreFetchedOnceAndAgainWhereIncomplete(t *testing.T) {
	tools, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("PATH", tools)
	t.Setenv("CALLS", calls)
	if _, err := Jars(t.Context(), io.Discard); !errors.Is(err, ErrNoMaven) {
		t.Fatalf("fetch without Maven: %v, want ErrNoMaven", err)
	}
	writeScript(t, filepath.Join(tools, "mvn"), fakeMaven)
	wantCalls := func(want int) (lib string) {
		t.Helper()
		var fetchers sync.WaitGroup
		for range 4 {
			fetchers.Go(func() {
				dir, err := Jars(t.Context(), io.Discard)
				if err != nil {
					t.Error(err)
				}
				if !complete(dir) {
					t.Errorf("%s is not complete", dir)
				}
			})
		}
		fetchers.Wait()
		text, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(text), "called"); got != want {
			t.Fatalf("Maven ran %d times, want %d", got, want)
		}
		lib, err = Jars(t.Context(), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return lib
	}
	lib := wantCalls(1)
	if err := os.Truncate(filepath.Join(lib, "other.jar"), 1); err != nil {
		t.Fatal(err)
	}
	wantCalls(2)
	if err := os.Remove(filepath.Join(lib, manifestName)); err != nil {
		t.Fatal(err)
	}
	wantCalls(3)
}

func TestMavenThatFailsIsQuoted(t *testing.T) {
	tools := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("PATH", tools)
	writeScript(t, filepath.Join(tools, "mvn"), "echo 'no route to repository'; exit 1")
	if _, err := Jars(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "no route to repository") {
		t.Fatalf("fetch with a failing Maven: %v, want its words", err)
	}
}
