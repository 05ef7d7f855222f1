//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// terminal takes lines from many processes, whole.
type terminal struct {
	mu sync.Mutex
	w  io.Writer
}

func (t *terminal) line(name, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "%-9s | %s\n", name, text)
}

// say is the cluster's own word.
func (t *terminal) say(format string, args ...any) { t.line("cluster", fmt.Sprintf(format, args...)) }

const progressEvery = 5 * time.Second

// during runs f and tells, for as long as it takes, that it does.
func (t *terminal) during(what string, f func() error) error {
	t.say("%s…", what)
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			t.say("%s… (%.0f s)", what, time.Since(began).Seconds())
		}
	}
}

// processOutput is where a process writes: all of it to a file, and what show
// lets through to the terminal.
type processOutput struct {
	name string
	term *terminal
	file *os.File
	show func(line []byte) bool

	part []byte // of a line that is not whole yet, at most lineBytesMax
}

// lineBytesMax is where a longer line is shown in two.
const lineBytesMax = 16 << 10

// Write is called by one goroutine: exec has one for stdout and stderr if they are the same.
func (o *processOutput) Write(p []byte) (int, error) {
	o.part = append(o.part, p...)
	for {
		line, rest, whole := bytes.Cut(o.part, []byte("\n"))
		if !whole && len(o.part) < lineBytesMax {
			break
		}
		if o.show(line) {
			o.term.line(o.name, string(line))
		}
		o.part = append(o.part[:0], rest...)
	}
	_, _ = o.file.Write(p) // a full disk shows elsewhere; the process must not end by it
	return len(p), nil
}
