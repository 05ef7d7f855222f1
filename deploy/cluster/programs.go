//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are what the cluster runs.
type programs struct {
	root       string // of the repository
	parley     string
	natsServer string
	haproxy    string
}

const (
	ourModule  = "parley"
	natsModule = "github.com/nats-io/nats-server/v2"
)

// findHAProxy looks in PATH and where Debian has it, which is not in everybody's.
func findHAProxy() (string, error) {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("find haproxy: it is not in PATH: install it, as with apt-get install haproxy")
}

// buildPrograms builds what Go builds: parley anew each time, nats-server once
// per version, into the user's cache.
func buildPrograms(ctx context.Context, dir string) (p programs, err error) {
	if p.haproxy, err = findHAProxy(); err != nil {
		return p, err
	}
	if p.root, err = goOutput(ctx, "", "list", "-m", "-f", "{{.Dir}}", ourModule); err != nil {
		return p, fmt.Errorf("find the repository: %w: run this in it", err)
	}
	p.parley = filepath.Join(dir, "bin", "parley")
	if _, err = goOutput(ctx, p.root, "build", "-o", p.parley, "."); err != nil {
		return p, err
	}
	p.natsServer, err = buildNATS(ctx, p.root)
	return p, err
}

func buildNATS(ctx context.Context, root string) (string, error) {
	version, err := goOutput(ctx, root, "list", "-m", "-f", "{{.Version}}", natsModule)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	path := filepath.Join(cache, "parley", "nats-server-"+version)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// A rename, since a half-built file would be in the way for ever.
	building := fmt.Sprintf("%s.%d", path, os.Getpid())
	if _, err := goOutput(ctx, root, "build", "-o", building, natsModule); err != nil {
		return "", err
	}
	if err := os.Rename(building, path); err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	return path, nil
}

// goOutput runs the go command, in a directory where one is named.
func goOutput(ctx context.Context, directory string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = directory
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w:\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
