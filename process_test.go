//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/clients/parley"
	"parley/edge/auth"
)

// child is the program as a process of its own.
type child struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone and its output was read
	ready  chan string   // the URL of its ready line
	stdout *childOutput
	stderr *childOutput
}

// startChild starts `parley args...`. It is gone when the test ends.
func startChild(t testing.TB, environment []string, args ...string) *child {
	t.Helper()
	return startChildWithin(t, nil, environment, args...)
}

// startChildWithin has the command within, as `unshare --mount`, become the child.
func startChildWithin(t testing.TB, within, environment []string, args ...string) *child {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := append(append(slices.Clone(within), executable), args...)
	c := &child{exited: make(chan struct{}), ready: make(chan string, 1), stderr: new(childOutput)}
	c.stdout = &childOutput{line: func(line string) {
		if url, ok := strings.CutPrefix(line, "ready "); ok {
			c.ready <- url // one line is said once
		}
	}}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = append(append(cleanEnvironment(), programVariable+"=parley"), environment...)
	c.cmd.Stdout, c.cmd.Stderr = c.stdout, c.stderr
	c.cmd.SysProcAttr = childAttributes()
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.name = fmt.Sprintf("parley %s (%d)", strings.Join(args, " "), c.cmd.Process.Pid)
	go func() {
		defer close(c.exited)
		_ = c.cmd.Wait() // told by ProcessState
	}()
	t.Cleanup(func() {
		c.kill()
		if strings.Contains(c.stderr.String(), "DATA RACE") { // a killed child has no exit code to tell it
			t.Errorf("%s has a data race", c.name)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s%s", c.name, c.stdout, c.stderr)
		}
	})
	return c
}

// cleanEnvironment has nothing that configures the program.
func cleanEnvironment() []string {
	var environment []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PARLEY_") {
			environment = append(environment, variable)
		}
	}
	return environment
}

// waitReady returns the URL of the ready line.
func (c *child) waitReady(t testing.TB) string {
	t.Helper()
	select {
	case url := <-c.ready:
		return url
	case <-c.exited:
		t.Fatalf("%s ended before it was ready: %s\n%s", c.name, c.cmd.ProcessState, c.stderr)
	case <-time.After(childWithin):
		t.Fatalf("%s was not ready within %s:\n%s", c.name, childWithin, c.stderr)
	}
	return ""
}

// signal sends to the child alone.
func (c *child) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("send %s to %s: %v", signal, c.name, err)
	}
}

// pause stops the process and returns when the kernel says that it has.
func (c *child) pause(t testing.TB) {
	t.Helper()
	c.signal(t, syscall.SIGSTOP)
	eventually(t, c.name+" is stopped", func() bool {
		status, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(c.cmd.Process.Pid)).Output()
		return err == nil && strings.HasPrefix(strings.TrimSpace(string(status)), "T")
	})
}

// kill ends the process at once, also a paused one, and waits until it is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.exited
}

// waitExit returns how the process ended.
func (c *child) waitExit(t testing.TB) *os.ProcessState {
	t.Helper()
	select {
	case <-c.exited:
	case <-time.After(childWithin):
		t.Fatalf("%s did not end within %s", c.name, childWithin)
	}
	return c.cmd.ProcessState
}

// childOutput keeps the end of what a child says.
type childOutput struct {
	line func(string) // hears each line; nil: nobody does

	mu   sync.Mutex
	text []byte // at most childOutputMax
	part []byte // of a line that is not whole yet
}

const childOutputMax = 64 << 10

func (o *childOutput) Write(p []byte) (int, error) {
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

func (o *childOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// devChild is `parley dev` as a process, on addresses that stay over restarts.
type devChild struct {
	*child
	listen, admin, nats, data string
	flags                     []string
}

// startDevChild starts the server in data and waits until it is ready. Where
// data is empty it is a fresh directory.
func startDevChild(t testing.TB, data string, flags ...string) *devChild {
	t.Helper()
	if data == "" {
		data = filepath.Join(t.TempDir(), "data")
	}
	d := &devChild{listen: freeAddress(t), admin: freeAddress(t), nats: freeAddress(t), data: data, flags: flags}
	d.start(t)
	d.waitReady(t)
	return d
}

func (d *devChild) start(t testing.TB) {
	t.Helper()
	d.child = startChild(t, nil, append([]string{
		"--log-level=warn", "dev", "--listen=" + d.listen, "--admin=" + d.admin, "--nats-listen=" + d.nats, "--data=" + d.data,
		"--user-rate=0", "--address-rate=0",
	}, d.flags...)...)
}

// place is where clients of the server connect.
func (d *devChild) place(t testing.TB) place {
	t.Helper()
	secret, err := loadOrCreateSecret(d.data, "")
	if err != nil {
		t.Fatal(err)
	}
	return place{url: "http://" + d.listen, secret: secret}
}

// place is where clients connect, and what makes their tokens.
type place struct {
	url    string
	secret []byte
}

func (p place) options(t testing.TB, user string, opts parley.Options) parley.Options {
	t.Helper()
	token, err := auth.Mint(p.secret, mustUser(t, user), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	opts.URL, opts.Token = p.url, parley.StaticToken(token)
	opts.BackoffMin, opts.BackoffMax = 20*time.Millisecond, 500*time.Millisecond
	return opts
}

// dial connects a client of user; the test's end closes it.
func (p place) dial(t testing.TB, user string, opts parley.Options) *parley.Client {
	t.Helper()
	client, err := parley.Dial(t.Context(), p.options(t, user, opts))
	if err != nil {
		t.Fatalf("dial as %s: %v", user, err)
	}
	t.Cleanup(client.Close)
	return client
}

// getStatus asks an admin port; 0 where nobody answers.
func getStatus(address, path string) (status int, body string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(text))
}
