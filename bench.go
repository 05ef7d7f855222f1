package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"parley/clients/bench"
	"parley/edge"
	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

// benchCommand measures a server.
type benchCommand struct {
	Workloads []string      `arg:"" optional:"" help:"Loads to run: ceiling, direct, fanout, latency, history, idle, storm; without any, all."`
	Duration  time.Duration `help:"Of each measurement; 0: 10s, 1s with --short." default:"0"`
	Short     bool          `help:"A tenth of each size, to see that it works."`
	TextBytes int           `help:"Bytes of text in each message." default:"64"`
	JSON      bool          `name:"json" help:"Print a line of JSON for each result instead of a table."`
	NATSNodes int           `name:"nats-nodes" help:"NATS servers of the server that is started: 1 or 3." default:"1" enum:"1,3"`
	Addr      string        `help:"A dev server that runs already, with --max-sessions, --user-rate=0 and --address-rate=0, like http://127.0.0.1:8080; without it, one is started in a temporary directory."`
	AdminAddr string        `help:"Its admin address." default:"http://127.0.0.1:8081"`
	natsFlags
	dataFlag
}

func (c *benchCommand) Run(p *process) error {
	config := bench.Config{
		OpenStore: openBenchStore,
		Workloads: c.Workloads, Duration: c.Duration, Short: c.Short, TextBytes: c.TextBytes, NATSNodes: c.NATSNodes,
		JSON: c.JSON, Out: p.stdout, Progress: p.stderr,
	}
	if c.Addr == "" {
		config.Start = startBenchServer
		return bench.Run(p.ctx, config)
	}
	secret, err := loadOrCreateSecret(c.Data, "")
	if err != nil {
		return err
	}
	nats, err := c.config(streams.EdgeComponent, c.Data)
	if err != nil {
		return err
	}
	nats.Log = p.log
	config.Target = benchTarget(c.Addr, c.AdminAddr, c.Data, secret, nats)
	return bench.Run(p.ctx, config)
}

func benchTarget(addr, admin, data string, secret []byte, nats streams.ConnectConfig) *bench.Target {
	return &bench.Target{
		WebSocketURL: "ws" + strings.TrimPrefix(addr, "http") + "/v1/ws",
		AdminURL:     admin,
		NATS:         nats,
		StorePath:    filepath.Join(data, storeFile),
		Token: func(user schemas.User) (string, error) {
			return edge.MintToken(secret, user, time.Now(), devTokenTTL)
		},
	}
}

const benchStopWithin = 30 * time.Second

// startBenchServer starts this program again as a dev server without limits.
func startBenchServer(ctx context.Context, options bench.StartOptions) (*bench.Target, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return nil, fmt.Errorf("make temporary directory: %w", err)
	}
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	server := exec.CommandContext(ctx, program, "--log-level=warn", "dev", "--listen=127.0.0.1:0", "--admin="+admin,
		"--nats-listen=127.0.0.1:0", "--data="+dir, "--nats-nodes="+strconv.Itoa(options.NATSNodes),
		"--max-sessions="+strconv.Itoa(options.SessionsMax), "--user-rate=0", "--address-rate=0")
	server.Cancel = func() error { return server.Process.Signal(syscall.SIGTERM) }
	server.WaitDelay = benchStopWithin
	server.Stderr = os.Stderr
	stdout, err := server.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	stop := func() error {
		// A server that has ended already is waited for all the same.
		_ = server.Process.Signal(syscall.SIGTERM)
		return errors.Join(server.Wait(), os.RemoveAll(dir))
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			return readyTarget(url, "http://"+admin, dir, stop)
		}
	}
	return nil, errors.Join(errors.New("the server ended before it was ready"), stop())
}

// readyTarget finds the secrets that the server has made.
func readyTarget(url, admin, dir string, stop func() error) (*bench.Target, error) {
	secret, err := loadOrCreateSecret(dir, "")
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	env, err := os.ReadFile(filepath.Join(dir, streams.PasswordsFile))
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	passwords, err := streams.ReadPasswords(dir)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	_, address, _ := strings.Cut(string(env), "@")
	address, _, _ = strings.Cut(address, "\n")
	nats := streams.ConnectConfig{Component: streams.EdgeComponent, URLs: []string{"nats://" + address}, Password: passwords.Edge}
	target := benchTarget(url, admin, dir, secret, nats)
	target.Stop = stop
	return target, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// benchStore is the store alone, as a history worker reads it.
type benchStore struct{ *sqlite.Reader }

func openBenchStore(ctx context.Context, path string) (bench.Store, error) {
	reader, err := sqlite.OpenReader(ctx, path)
	if err != nil {
		return nil, err
	}
	return benchStore{reader}, nil
}

func (s benchStore) Newest(ctx context.Context, chat schemas.Chat, limit int) ([]schemas.StoredEvent, error) {
	rows, _, err := s.Page(ctx, chat, store.Range{Limit: limit})
	events := make([]schemas.StoredEvent, len(rows))
	for i := range rows {
		events[i] = schemas.StoredEvent{Seq: rows[i].Seq, Prev: rows[i].Prev, Time: rows[i].Time, N: rows[i].N, JSON: rows[i].JSON}
	}
	return events, err
}
