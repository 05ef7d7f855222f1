package cassandra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"parley/tests/cassandra/flock"
)

// Version is the Cassandra that is started.
const Version = "5.0.5"

// manifestName lists the jars of a complete folder, one "size name" a line. It
// is written last: a folder without it, or that differs from it, is fetched anew.
const manifestName = "jars.txt"

const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>parley</groupId><artifactId>cassandra-jars</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId><version>` + Version + `</version>
    </dependency>
  </dependencies>
</project>
`

// Jars gives the folder of Cassandra's jars in the user's cache, and fetches them (66 MB)
// with Maven if they are not there. Processes that call it at the same time fetch once.
// It tells progress only what takes long. Errors: ErrNoMaven.
func Jars(ctx context.Context, progress io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder for Cassandra's jars: %w", err)
	}
	home := filepath.Join(cache, "parley", "cassandra-"+Version)
	lib := filepath.Join(home, "lib")
	if complete(lib) {
		return lib, nil
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	lock, err := flock.Take(ctx, filepath.Join(home, "fetch.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	if complete(lib) {
		return lib, nil // another process fetched them while this one waited
	}
	return lib, fetch(ctx, home, lib, progress)
}

// fetch fills a temporary folder and renames it to lib, so that lib is whole or absent.
func fetch(ctx context.Context, home, lib string, progress io.Writer) error {
	maven, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("%w: fetch Cassandra's jars into %s: %v: install Maven (Debian: maven)", ErrNoMaven, lib, err)
	}
	fresh, err := os.MkdirTemp(home, "fetch-")
	if err != nil {
		return fmt.Errorf("make folder for jars: %w", err)
	}
	defer os.RemoveAll(fresh)
	project := filepath.Join(fresh, "pom.xml")
	if err := os.WriteFile(project, []byte(pom), 0o644); err != nil {
		return fmt.Errorf("write pom: %w", err)
	}
	fmt.Fprintf(progress, "cassandra: fetching %s (66 MB, once) with Maven into %s\n", Version, lib)
	jars := filepath.Join(fresh, "lib")
	command := exec.CommandContext(ctx, maven, "-q", "-B", "-f", project,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+jars)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch Cassandra's jars with %s: %w: %s", maven, err, lastLines(string(output), 20))
	}
	list, err := manifest(jars)
	if err != nil {
		return err
	}
	if !strings.Contains(list, " cassandra-all-"+Version+".jar\n") {
		return fmt.Errorf("fetch Cassandra's jars: Maven copied no cassandra-all-%s.jar", Version)
	}
	if err := os.WriteFile(filepath.Join(jars, manifestName), []byte(list), 0o644); err != nil {
		return fmt.Errorf("write list of jars: %w", err)
	}
	if err := os.RemoveAll(lib); err != nil {
		return fmt.Errorf("remove incomplete jars: %w", err)
	}
	if err := os.Rename(jars, lib); err != nil {
		return fmt.Errorf("put jars into place: %w", err)
	}
	return nil
}

// complete tells whether lib holds exactly what its manifest says.
func complete(lib string) bool {
	want, err := os.ReadFile(filepath.Join(lib, manifestName))
	if err != nil {
		return false
	}
	have, err := manifest(lib)
	return err == nil && have == string(want)
}

func manifest(lib string) (string, error) {
	entries, err := os.ReadDir(lib)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("list jars: %w", err)
	}
	var list strings.Builder
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".jar" {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return "", fmt.Errorf("look at jar: %w", err)
		}
		fmt.Fprintf(&list, "%d %s\n", info.Size(), entry.Name())
	}
	return list.String(), nil
}

// lastLines is the end of what Maven said.
func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
