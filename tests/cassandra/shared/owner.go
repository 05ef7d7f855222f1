package shared

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Owner is the process that an instance belongs to: its number, and its start time in clock
// ticks since boot, which tells it from a later process of the same number.
type Owner string

// Parent is the owner of what the test processes of one `go test` share: the go command.
// Of a test binary that was started by hand it is the shell.
func Parent() (Owner, error) {
	pid := os.Getppid()
	since, err := startTime(pid)
	if err != nil {
		return "", err
	}
	return Owner(fmt.Sprintf("%d-%s", pid, since)), nil
}

// Alive tells whether the process still runs.
func (o Owner) Alive() bool {
	number, since, _ := strings.Cut(string(o), "-")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return false
	}
	now, err := startTime(pid)
	return err == nil && now == since
}

// startTime reads field 22 of /proc/<pid>/stat. The fields are counted from behind the command's
// name, which is in parentheses and may hold anything. A zombie has ended.
func startTime(pid int) (string, error) {
	const state, start = 3, 22
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", fmt.Errorf("look at process %d: %w", pid, err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= start-state || string(fields[0]) == "Z" {
		return "", fmt.Errorf("look at process %d: it has ended", pid)
	}
	return string(fields[start-state]), nil
}
