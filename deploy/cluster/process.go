//go:build unix

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// process is one part of the cluster. Its methods are called one after the
// other: start, then keepLoop, then stop.
type process struct {
	name    string
	path    string
	args    []string
	env     []string               // all of it
	logFile string                 // all that it says, from one start after the other
	show    func(line []byte) bool // what is worth the terminal; default: everything
	term    *terminal

	cmd    *exec.Cmd
	exited chan struct{} // closed when it is gone; nil before the first start
}

const (
	restartAfter = 2 * time.Second
	stopWithin   = 30 * time.Second // the longest that one may take is an edge's drain
)

// start starts it, or says what to do.
func (p *process) start() error {
	if err := os.MkdirAll(filepath.Dir(p.logFile), 0o700); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	file, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	show := p.show
	if show == nil {
		show = func([]byte) bool { return true }
	}
	output := &processOutput{name: p.name, term: p.term, file: file, show: show}
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.env, output, output
	p.cmd.SysProcAttr = childAttributes()
	p.exited = make(chan struct{})
	started := make(chan error, 1)
	go p.wait(file, started)
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

// wait owns the process. It stays on the thread that started it: when that ends,
// the kernel ends the child, and Go may end a thread that is not locked.
func (p *process) wait(file *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer file.Close()
	defer close(p.exited)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // told by ProcessState
	}
}

// await returns when url answers 200, or when it no longer can.
func (p *process) await(ctx context.Context, url string) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("%s ended: %s: %s has what it said", p.name, p.cmd.ProcessState, p.logFile)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keepLoop starts it again, whenever it ends, until ctx does.
func (p *process) keepLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.exited:
		}
		p.term.say("%s ended (%s) and starts again in %s", p.name, p.cmd.ProcessState, restartAfter)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartAfter):
		}
		if err := p.start(); err != nil {
			p.term.say("%v", err)
		}
	}
}

// stop asks it to end and waits. It kills what does not: that is the error.
func (p *process) stop() error {
	if p.exited == nil || p.cmd.Process == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopWithin):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("stop %s: it was killed, since it did not end within %s", p.name, stopWithin)
	}
}
