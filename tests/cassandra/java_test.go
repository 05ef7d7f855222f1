package cassandra

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJavaMajor(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]int{
		"openjdk version \"17.0.15\" 2025-04-15\n":                17,
		"Picked up _JAVA_OPTIONS: -Xmx1g\njava version \"11\"\n":  11,
		"java version \"1.8.0_452\"\nJava(TM) SE Runtime (1.8)\n": 8,
	} {
		got, err := javaMajor(output)
		if err != nil || got != want {
			t.Errorf("javaMajor(%q) = %d, %v, want %d", output, got, err, want)
		}
	}
	if _, err := javaMajor("no java"); err == nil {
		t.Error("a version was read where there is none")
	}
}

func TestNoJavaIsErrNoJava(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv("JAVA_HOME", "")
	if _, err := Start(t.Context(), Config{Dir: t.TempDir()}); !errors.Is(err, ErrNoJava) {
		t.Fatalf("start without Java: %v, want ErrNoJava", err)
	}
}

func TestUnfitJavaIsNamed(t *testing.T) {
	home := t.TempDir()
	t.Setenv("JAVA_HOME", home)
	for _, version := range []string{"1.8.0_452", "21.0.1"} {
		writeScript(t, filepath.Join(home, "bin", "java"), fmt.Sprintf(`echo 'openjdk version "%s"' >&2`, version))
		major := strings.Split(strings.TrimPrefix(version, "1."), ".")[0]
		if _, err := findJava(t.Context()); !errors.Is(err, ErrNoJava) || !strings.Contains(err.Error(), "Java "+major+":") {
			t.Errorf("with Java %s: %v, want ErrNoJava that names Java %s", version, err, major)
		}
	}
}

func writeScript(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
