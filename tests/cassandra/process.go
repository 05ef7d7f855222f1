package cassandra

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// process is one run of the JVM.
type process struct {
	command *exec.Cmd
	ready   chan struct{} // closed once the log has shown every line awaited
	done    chan struct{} // closed when the process has ended and its log is written
	err     error         // how it ended; read after done

	mu   sync.Mutex
	last []string // guarded by mu; the log's last lines without stacks, at most tailLines
}

const (
	tailLines    = 30
	lineBytesMax = 1 << 20 // a longer line of the log ends its reading, and the process
)

// startProcess starts the JVM with its output appended to logFile, and watches for the lines awaited.
func startProcess(java string, arguments []string, logFile string, await []string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open Cassandra's log: %w", err)
	}
	p := &process{
		command: exec.Command(java, arguments...),
		ready:   make(chan struct{}),
		done:    make(chan struct{}),
	}
	p.command.SysProcAttr = childAttributes()
	started := make(chan error, 1)
	go p.run(log, await, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run owns the process from its start to its end. It stays on one thread, because the kernel
// binds the child's life to the thread that started it, and Go may end any other thread.
func (p *process) run(log *os.File, await []string, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	defer log.Close()
	output, err := p.command.StdoutPipe()
	if err == nil {
		p.command.Stderr = p.command.Stdout
		err = p.command.Start()
	}
	if err != nil {
		started <- fmt.Errorf("start %s: %w", p.command.Path, err)
		return
	}
	started <- nil
	if err := p.follow(output, log, await); err != nil {
		_ = p.command.Process.Kill() // a log that nobody reads would block it half alive
		p.remember("cassandra: " + err.Error())
	}
	p.err = p.command.Wait()
}

// follow copies the log to its file line by line until the process closes it.
func (p *process) follow(output io.Reader, log io.Writer, await []string) error {
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "\tat ") { // a stack would push its own message out
			p.remember(line)
		}
		if _, err := io.WriteString(log, line+"\n"); err != nil {
			return fmt.Errorf("write Cassandra's log: %w", err)
		}
		if len(await) == 0 {
			continue
		}
		await = slices.DeleteFunc(await, func(part string) bool { return strings.Contains(line, part) })
		if len(await) == 0 {
			close(p.ready)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read Cassandra's log: %w", err)
	}
	return nil
}

func (p *process) remember(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.last) == tailLines {
		p.last = p.last[1:]
	}
	p.last = append(p.last, line)
}

func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.last, "\n")
}

// kill ends the process and waits; of one that has ended it only waits.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.done
}
