package cassandra

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// ErrNoJava means that there is no Java that runs Cassandra 5.0.
var ErrNoJava = errors.New("no Java 11 to 17")

// ErrNoMaven means that the jars are not in the cache and cannot be fetched.
var ErrNoMaven = errors.New("no Maven")

// Cassandra 5.0 refuses Java before 11, and the security manager that it installs is gone
// from the versions after 17.
const (
	javaMin = 11
	javaMax = 17
)

// version "17.0.15" since Java 9, version "1.8.0_452" before.
var javaVersion = regexp.MustCompile(`version "(?:1\.)?(\d+)`)

// findJava gives the java of JAVA_HOME, else that of PATH, if its version fits.
func findJava(ctx context.Context) (string, error) {
	name := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		name = filepath.Join(home, "bin", "java")
	}
	java, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: find %s: %v: install Java 17 (Debian: openjdk-17-jre-headless) or set JAVA_HOME", ErrNoJava, name, err)
	}
	output, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if ctx.Err() != nil {
		return "", fmt.Errorf("run %s -version: %w", java, context.Cause(ctx))
	}
	if err != nil {
		return "", fmt.Errorf("%w: run %s -version: %v: %s", ErrNoJava, java, err, output)
	}
	major, err := javaMajor(string(output))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %v", ErrNoJava, java, err)
	}
	if major < javaMin || major > javaMax {
		return "", fmt.Errorf("%w: %s is Java %d: install Java 17 and set JAVA_HOME to it", ErrNoJava, java, major)
	}
	return java, nil
}

// javaMajor reads the major version from what `java -version` prints.
func javaMajor(output string) (int, error) {
	found := javaVersion.FindStringSubmatch(output)
	if found == nil {
		return 0, fmt.Errorf("no version in %q", output)
	}
	return strconv.Atoi(found[1])
}
