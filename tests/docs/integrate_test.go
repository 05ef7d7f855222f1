package docs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"parley/schemas"
	"parley/streams"
	"parley/tests/harness"
)

const (
	integrateFile = "docs/integrate.md"
	// requireNATSCLI makes a missing nats CLI a failure, where tests decide something.
	requireNATSCLI = "PARLEY_REQUIRE_NATSCLI"
	// commandWithin bounds each command of a page: only a defect takes so long.
	commandWithin = 60 * time.Second
)

// findCommands returns the folders of the commands that docs/integrate.md uses.
func findCommands(t *testing.T) (folders []string) {
	t.Helper()
	for _, name := range []string{"bash", "curl", "nats"} {
		path, err := exec.LookPath(name)
		if err != nil && name == "nats" { // where `go install` puts it
			home, _ := os.UserHomeDir()
			path, err = exec.LookPath(filepath.Join(home, "go", "bin", name))
		}
		if err != nil {
			if os.Getenv(requireNATSCLI) != "" {
				t.Fatalf("find %s: %v", name, err)
			}
			t.Skipf("%s is not run: %v", integrateFile, err)
		}
		folders = append(folders, filepath.Dir(path))
	}
	return folders
}

// shellBlock is a fenced block of a page: commands, and what is shown of their output.
type shellBlock struct {
	line int
	kind string // sh, sh watch, sh consumer, go, or json and who says it
	text string
}

func readShellBlocks(t *testing.T) (blocks []shellBlock) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(harness.Root(t), integrateFile))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	fence := regexp.MustCompile("(?ms)^```(sh|sh watch|sh consumer|go|json [a-z]+)\n(.*?)\n```$")
	for _, at := range fence.FindAllStringSubmatchIndex(doc, -1) {
		blocks = append(blocks, shellBlock{1 + strings.Count(doc[:at[0]], "\n"), doc[at[2]:at[3]], doc[at[4]:at[5]]})
	}
	if fences := strings.Count(doc, "\n```"); fences != 2*len(blocks) {
		t.Fatalf("%d fences of %s make %d blocks that are understood", fences, integrateFile, len(blocks))
	}
	return blocks
}

// TestIntegratePageIsTrue runs docs/integrate.md: its commands and its program,
// against a dev server, and compares what they say with what the page shows.
func TestIntegratePageIsTrue(t *testing.T) {
	t.Parallel()
	p := newShellPage(t)
	var watch *shellWatch
	commands := 0
	for _, block := range readShellBlocks(t) {
		p.line = block.line
		switch block.kind {
		case "go":
			p.buildConsumer(block.text)
		case "sh watch": // what it shows comes with the next block
			watch = p.startWatch(block)
			continue
		case "sh consumer":
			p.runConsumer(block)
		case "sh":
			commands += p.runCommands(block)
		default:
			p.sayFrames(block)
		}
		if watch != nil {
			watch.want()
			watch = nil
		}
	}
	if commands < 10 {
		t.Errorf("only %d commands were found in %s", commands, integrateFile)
	}
}

// shellPage runs the commands of a page, in the folder that holds the server's data.
type shellPage struct {
	t       *testing.T
	server  *harness.DevServer
	line    int
	dir     string
	env     []string
	prelude string // commands that set variables for those after them
	program string // the page's, built

	talkers map[string]*websocket.Conn // sessions that the page's frames are said in
}

func newShellPage(t *testing.T) *shellPage {
	t.Helper()
	folders := findCommands(t)
	d := harness.StartDev(t, "", "--shards=8")
	p := &shellPage{t: t, server: d, dir: filepath.Dir(d.Data), talkers: map[string]*websocket.Conn{}}
	bin := t.TempDir()
	harness.WriteProgram(t, filepath.Join(bin, "parley"))
	path := strings.Join(append([]string{bin}, folders...), ":") + ":" + os.Getenv("PATH")
	p.env = append(harness.CleanEnvironment(), "PATH="+path, "PARLEY_NATS=nats://"+d.NATS, "HOME="+p.dir, "NO_COLOR=1")
	return p
}

// place has a command reach the test's server where the page has one's usual addresses.
func (p *shellPage) place(text string) string {
	text = strings.ReplaceAll(text, "http://127.0.0.1:8080", p.server.URL)
	return strings.ReplaceAll(text, "127.0.0.1:4222", p.server.NATS)
}

// commandsOf takes a block apart: each line that begins with $ is a command, and
// those that follow are its output.
func commandsOf(text string) (commands, outputs []string) {
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			commands, outputs = append(commands, strings.TrimSpace(command)), append(outputs, "")
		} else if len(outputs) > 0 {
			outputs[len(outputs)-1] += line
		}
	}
	return commands, outputs
}

var setsVariable = regexp.MustCompile(`^(\. |[A-Z_]+=\S*\$\()`)

func (p *shellPage) runCommands(block shellBlock) int {
	p.t.Helper()
	commands, outputs := commandsOf(block.text)
	for i, command := range commands {
		if setsVariable.MatchString(command) {
			p.prelude += p.place(command) + "\n"
			continue
		}
		ctx, cancel := context.WithTimeout(p.t.Context(), commandWithin)
		output, err := p.shell(ctx, command).CombinedOutput()
		cancel()
		if err != nil {
			p.t.Fatalf("%s:%d: %s: %v\n%s", integrateFile, p.line, command, err, output)
		}
		p.wantLines(command, outputs[i], string(output))
	}
	return len(commands)
}

func (p *shellPage) shell(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -eu\n"+p.prelude+p.place(command))
	cmd.Dir, cmd.Env = p.dir, p.env
	return cmd
}

var (
	shellTimes   = regexp.MustCompile(`\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+Z)?|\b\d{2}:\d{2}:\d{2}\b|rtt \S+`)
	shellIDs     = regexp.MustCompile(`\b[0-9A-Z]{26}\b|\b[0-9A-Za-z]{22}\b|Msg-Id: \S+|\bgrid\w+|_INBOX_\S+"`)
	shellDrawing = regexp.MustCompile(`[─╭╮╰╯├┤┬┴┼│]+|\b0\.1\.0\b`) // a table shows a version once
	shellSpace   = regexp.MustCompile(`\s+`)
)

// plainLines are lines without what differs each time.
func plainLines(output string) (lines []string) {
	for line := range strings.Lines(output) {
		line = shellTimes.ReplaceAllString(line, "TIME")
		line = shellIDs.ReplaceAllString(line, "ID")
		line = shellDrawing.ReplaceAllString(line, " ")
		if line = strings.TrimSpace(shellSpace.ReplaceAllString(line, " ")); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// wantLines wants each line that the page shows in a command's output, in any
// order: services answer in any.
func (p *shellPage) wantLines(command, shown, output string) {
	p.t.Helper()
	have := make(map[string]bool)
	for _, line := range plainLines(output) {
		have[line] = true
	}
	for _, line := range plainLines(shown) {
		if !have[line] {
			p.t.Errorf("%s:%d: %s\ndoes not say %q, but\n%s", integrateFile, p.line, command, line, output)
		}
	}
}

// shellWatch is a command that runs beside those of the next block.
type shellWatch struct {
	page    *shellPage
	line    int
	command string
	shown   string
	output  bytes.Buffer // of stderr until it listens, then of both
	rest    chan error
}

// startWatch returns once the command listens.
func (p *shellPage) startWatch(block shellBlock) *shellWatch {
	p.t.Helper()
	commands, outputs := commandsOf(block.text)
	w := &shellWatch{page: p, line: block.line, command: commands[0], shown: outputs[0], rest: make(chan error, 1)}
	ctx, cancel := context.WithTimeout(p.t.Context(), commandWithin)
	p.t.Cleanup(cancel)
	cmd := p.shell(ctx, "exec "+w.command+" 2>&1")
	lines := p.startLines(cmd)
	for lines.Scan() {
		w.output.WriteString(lines.Text() + "\n")
		if _, pattern, ok := strings.Cut(lines.Text(), "Subscribing on "); ok {
			p.awaitSubscription(strings.TrimSpace(pattern))
			break
		}
	}
	go func() {
		for lines.Scan() {
			w.output.WriteString(lines.Text() + "\n")
		}
		w.rest <- cmd.Wait()
	}()
	return w
}

// awaitSubscription waits until NATS has it: the command says so before.
func (p *shellPage) awaitSubscription(pattern string) {
	p.t.Helper()
	passwords, err := streams.LoadOrCreatePasswords(p.server.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	conn, err := nats.Connect("nats://"+p.server.NATS, nats.UserInfo(string(streams.AdminComponent), passwords.Of(streams.AdminComponent)))
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	harness.Eventually(p.t, "NATS has the subscription "+pattern, func() bool {
		reply, err := conn.Request("$SYS.REQ.SERVER.PING.SUBSZ", []byte(`{"account":"PARLEY","subscriptions":true,"limit":10000}`), commandWithin)
		return err == nil && bytes.Contains(bytes.ReplaceAll(reply.Data, []byte(`\u003e`), []byte(">")), []byte(`"subject":"`+pattern+`"`))
	})
}

func (w *shellWatch) want() {
	w.page.t.Helper()
	if err := <-w.rest; err != nil {
		w.page.t.Fatalf("%s:%d: %s: %v\n%s", integrateFile, w.line, w.command, err, w.output.String())
	}
	w.page.line = w.line
	w.page.wantLines(w.command, w.shown, w.output.String())
}

func (p *shellPage) startLines(cmd *exec.Cmd) *bufio.Scanner {
	p.t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return bufio.NewScanner(stdout)
}

// buildConsumer builds the page's program, within this module, so that the test
// owns its process: `go run` would start another one.
func (p *shellPage) buildConsumer(source string) {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "consumer.go")
	if err := os.WriteFile(file, []byte(source+"\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.program = strings.TrimSuffix(file, ".go")
	output, err := exec.CommandContext(p.t.Context(), "go", "build", "-o", p.program, file).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s:%d: build the program: %v\n%s", integrateFile, p.line, err, output)
	}
}

// runConsumer runs the program until it has said what the page shows, and ends it.
func (p *shellPage) runConsumer(block shellBlock) {
	p.t.Helper()
	commands, outputs := commandsOf(block.text)
	ctx, cancel := context.WithTimeout(p.t.Context(), commandWithin)
	defer cancel()
	environment, _, _ := strings.Cut(commands[0], " go run ")
	cmd := p.shell(ctx, "export "+environment+"\nexec "+p.program)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	lines := p.startLines(cmd)
	var output strings.Builder
	for range strings.Count(strings.TrimSpace(outputs[0]), "\n") + 1 {
		if !lines.Scan() {
			break
		}
		output.WriteString(lines.Text() + "\n")
	}
	p.wantLines(commands[0], outputs[0], output.String())
	_ = cmd.Process.Signal(syscall.SIGTERM)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || stderr.Len() > 0 {
		p.t.Errorf("%s:%d: the program: %v\n%s", integrateFile, p.line, err, stderr.String())
	}
}

// sayFrames says frames in the session of the user that a block names, each a line;
// a hello opens it.
func (p *shellPage) sayFrames(block shellBlock) {
	p.t.Helper()
	user := strings.TrimPrefix(block.kind, "json ")
	for frame := range strings.Lines(block.text) {
		opens := strings.HasPrefix(frame, `{"t":"hello"`)
		if opens {
			frame = strings.Replace(frame, "<token>", p.server.Token(p.t, user), 1)
			dialer := websocket.Dialer{Subprotocols: []string{schemas.Subprotocol}}
			conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(p.server.URL, "http")+"/v1/ws", nil)
			if err != nil {
				p.t.Fatalf("%s:%d: dial: %v", integrateFile, p.line, err)
			}
			p.t.Cleanup(func() { conn.Close() })
			p.talkers[user] = conn
		}
		conn := p.talkers[user]
		if err := conn.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			p.t.Fatalf("%s:%d: %v", integrateFile, p.line, err)
		}
		if !opens {
			continue
		}
		if _, answer, err := conn.ReadMessage(); err != nil || !strings.HasPrefix(string(answer), `{"t":"welcome"`) {
			p.t.Fatalf("%s:%d: hello is answered by %s, %v", integrateFile, p.line, answer, err)
		}
	}
}
