//go:build unix

package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Child is the program as a process of its own.
type Child struct {
	Name   string // the command line, and the process's id
	Cmd    *exec.Cmd
	Exited chan struct{} // closed when the process is gone and its output was read
	Stdout *ChildOutput
	Stderr *ChildOutput

	ready chan string // the URL of its ready line
}

// StartChild starts `parley args...`. It is gone when the test ends.
func StartChild(t testing.TB, environment []string, args ...string) *Child {
	t.Helper()
	return startChildWithin(t, nil, environment, args...)
}

// startChildWithin has the command within, as `unshare --mount`, become the child.
func startChildWithin(t testing.TB, within, environment []string, args ...string) *Child {
	t.Helper()
	return startProgram(t, parleyProgram, within, environment, args...)
}

// startProgram starts the test binary as a program.
func startProgram(t testing.TB, program string, within, environment []string, args ...string) *Child {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := append(append(slices.Clone(within), executable), args...)
	c := &Child{Exited: make(chan struct{}), ready: make(chan string, 1), Stderr: new(ChildOutput)}
	c.Stdout = &ChildOutput{line: func(line string) {
		if url, ok := strings.CutPrefix(line, "ready "); ok {
			c.ready <- url // one line is said once
		}
	}}
	c.Cmd = exec.Command(command[0], command[1:]...)
	c.Cmd.Env = slices.Concat(CleanEnvironment(), programEnvironment(t, program), environment)
	c.Cmd.Stdout, c.Cmd.Stderr = c.Stdout, c.Stderr
	c.Cmd.SysProcAttr = ChildAttributes()
	if err := c.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.Name = fmt.Sprintf("parley %s (%d)", strings.Join(args, " "), c.Cmd.Process.Pid)
	go func() {
		defer close(c.Exited)
		_ = c.Cmd.Wait() // told by ProcessState
	}()
	t.Cleanup(func() {
		c.Kill()
		if strings.Contains(c.Stderr.String(), "DATA RACE") { // a killed child has no exit code to tell it
			t.Errorf("%s has a data race", c.Name)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s%s", c.Name, c.Stdout, c.Stderr)
		}
	})
	return c
}

// CleanEnvironment has nothing that configures the program.
func CleanEnvironment() []string {
	var environment []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PARLEY_") {
			environment = append(environment, variable)
		}
	}
	return environment
}

// WaitReady returns the URL of the ready line.
func (c *Child) WaitReady(t testing.TB) string {
	t.Helper()
	select {
	case url := <-c.ready:
		return url
	case <-c.Exited:
		t.Fatalf("%s ended before it was ready: %s\n%s", c.Name, c.Cmd.ProcessState, c.Stderr)
	case <-time.After(ChildWithin):
		t.Fatalf("%s was not ready within %s:\n%s", c.Name, ChildWithin, c.Stderr)
	}
	return ""
}

// Signal sends to the child alone.
func (c *Child) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := c.Cmd.Process.Signal(signal); err != nil {
		t.Fatalf("send %s to %s: %v", signal, c.Name, err)
	}
}

// Pause stops the process and returns when the kernel says that it has.
func (c *Child) Pause(t testing.TB) {
	t.Helper()
	c.Signal(t, syscall.SIGSTOP)
	Eventually(t, c.Name+" is stopped", func() bool {
		status, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(c.Cmd.Process.Pid)).Output()
		return err == nil && strings.HasPrefix(strings.TrimSpace(string(status)), "T")
	})
}

// Kill ends the process at once, also a paused one, and waits until it is gone.
func (c *Child) Kill() {
	_ = c.Cmd.Process.Kill() // it may have ended
	<-c.Exited
}

// WaitExit returns how the process ended.
func (c *Child) WaitExit(t testing.TB) *os.ProcessState {
	t.Helper()
	select {
	case <-c.Exited:
	case <-time.After(ChildWithin):
		t.Fatalf("%s did not end within %s", c.Name, ChildWithin)
	}
	return c.Cmd.ProcessState
}

// ChildOutput keeps the end of what a child says.
type ChildOutput struct {
	line func(string) // hears each line; nil: nobody does

	mu   sync.Mutex
	text []byte // at most childOutputMax
	part []byte // of a line that is not whole yet
}

const childOutputMax = 64 << 10

// Write keeps p, and hands on the lines that it completes.
func (o *ChildOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	if over := len(o.text) - childOutputMax; over > 0 {
		o.text = append(o.text[:0], o.text[over:]...)
	}
	if o.line == nil {
		return len(p), nil
	}
	o.part = append(o.part, p...)
	for {
		line, rest, whole := bytes.Cut(o.part, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		o.line(string(line))
		o.part = rest
	}
}

// String returns the last 64 KiB.
func (o *ChildOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// WantStartError wants a child to end with exit code 1 and one sentence that has all of says.
func WantStartError(t *testing.T, c *Child, says []string) {
	t.Helper()
	state := c.WaitExit(t)
	text := c.Stderr.String()
	t.Log(strings.TrimSpace(text))
	if state.ExitCode() != 1 {
		t.Errorf("it ended with %s, want exit code 1", state)
	}
	if sentence, rest, _ := strings.Cut(text, "\n"); !strings.HasPrefix(sentence, "parley: ") || rest != "" {
		t.Errorf("it is not one line that begins with parley: and ends there")
	}
	for _, want := range says {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if out := c.Stdout.String(); out != "" {
		t.Errorf("it printed %q", out)
	}
}

// WriteProgram makes a file that shells can run as the program.
func WriteProgram(t testing.TB, path string) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n"
	for _, variable := range programEnvironment(t, parleyProgram) {
		script += "export '" + variable + "'\n"
	}
	script += "exec '" + executable + "' \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}
