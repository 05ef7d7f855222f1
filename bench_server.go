package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"parley/streams/natsserver"
)

const (
	benchStopWithin       = 30 * time.Second
	defaultBenchHeartbeat = 30 * time.Second
)

// benchServer is this program started again, so that its CPU time and memory are its own.
type benchServer struct{ process *exec.Cmd }

// startBenchChild returns once the program has said that it is ready, with what it
// said. Its environment is this one's and env.
func startBenchChild(ctx context.Context, logLevel string, env []string, args ...string) (s benchServer, ready string, err error) {
	program, err := os.Executable()
	if err != nil {
		return s, "", fmt.Errorf("find this program: %w", err)
	}
	s.process = exec.CommandContext(ctx, program, append([]string{"--log-level=" + logLevel}, args...)...)
	s.process.Cancel = func() error { return s.process.Process.Signal(syscall.SIGTERM) }
	s.process.WaitDelay = benchStopWithin
	s.process.Stderr = os.Stderr
	s.process.Env = append(os.Environ(), env...)
	stdout, err := s.process.StdoutPipe()
	if err == nil {
		err = s.process.Start()
	}
	if err != nil {
		return s, "", fmt.Errorf("start server: %w", err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if ready, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			return s, ready, nil
		}
	}
	return s, "", errors.Join(errors.New("the server ended before it was ready"), s.stop())
}

func (s benchServer) stop() error {
	// A server that has ended already is waited for all the same.
	_ = s.process.Process.Signal(syscall.SIGTERM)
	return s.process.Wait()
}

func (s benchServer) kill() error {
	if err := s.process.Process.Kill(); err != nil {
		return fmt.Errorf("kill server: %w", err)
	}
	_ = s.process.Wait() // it says that it was killed
	return nil
}

// startBenchServer starts a dev server without limits.
func startBenchServer(ctx context.Context, options bench.StartOptions) (*bench.Target, error) {
	dir, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return nil, fmt.Errorf("make temporary directory: %w", err)
	}
	admin, err := freePort()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	storeURL := options.Store
	if storeURL == "" {
		storeURL = sqliteURL(dir)
	}
	heartbeat := cmp.Or(options.Heartbeat, defaultBenchHeartbeat)
	server, url, err := startBenchChild(ctx, "warn", nil, "dev", "--listen=127.0.0.1:0", "--admin="+admin, "--nats-listen=127.0.0.1:0",
		"--data="+dir, "--store="+storeURL, "--nats-nodes="+strconv.Itoa(options.NATSNodes), "--shards="+strconv.Itoa(options.Shards), "--max-age="+options.MaxAge.String(),
		"--max-sessions="+strconv.Itoa(options.SessionsMax), "--user-rate=0", "--address-rate=0", "--heartbeat="+heartbeat.String())
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop := func() error { return errors.Join(server.stop(), os.RemoveAll(dir)) }
	target, err := readyTarget(url, "http://"+admin, dir)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	target.Stop = stop
	return target, nil
}

// readyTarget finds the secrets that the server has made.
func readyTarget(url, admin, dir string) (*bench.Target, error) {
	secret, err := loadOrCreateSecret(dir, "")
	if err != nil {
		return nil, err
	}
	env, err := os.ReadFile(filepath.Join(dir, streams.PasswordsFile))
	if err != nil {
		return nil, err
	}
	passwords, err := streams.ReadPasswords(dir)
	if err != nil {
		return nil, err
	}
	_, address, _ := strings.Cut(string(env), "@")
	address, _, _ = strings.Cut(address, "\n")
	nats := streams.ConnectConfig{Component: streams.EdgeComponent, URLs: []string{"nats://" + address}, Password: passwords.Edge}
	return benchTarget(url, admin, dir, secret, nats), nil
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

// startBenchLog starts a NATS server alone, on the data in a directory.
func startBenchLog(ctx context.Context, options bench.LogOptions) (*bench.LogServer, error) {
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	server, url, err := startBenchChild(ctx, "error", nil, "log", "--listen=127.0.0.1:0", "--admin="+admin, "--data="+options.Dir, "--sync-interval="+options.Sync)
	if err != nil {
		return nil, err
	}
	passwords, err := streams.ReadPasswords(options.Dir)
	if err != nil {
		return nil, errors.Join(err, server.stop())
	}
	connect := func(component streams.Component) streams.ConnectConfig {
		// It is ended while there are connections: that is nothing to tell of.
		quiet := slog.New(slog.DiscardHandler)
		return streams.ConnectConfig{Component: component, URLs: []string{url}, Password: passwords.Of(component), Log: quiet}
	}
	return &bench.LogServer{
		AdminURL: "http://" + admin, Worker: connect(streams.WorkerComponent), Edge: connect(streams.EdgeComponent),
		Stop: server.stop, Kill: server.kill,
	}, nil
}

// startBenchWorker starts workers at a NATS server that startBenchLog has started.
func startBenchWorker(ctx context.Context, options bench.WorkerOptions) (*bench.WorkerServer, error) {
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	nats := options.Log.Worker
	password := nats.Component.PasswordVariable() + "=" + nats.Password
	server, url, err := startBenchChild(ctx, "warn", []string{password}, "worker", "--admin="+admin, "--only="+options.Only,
		"--nats="+strings.Join(nats.URLs, ","), "--store="+options.Store)
	if err != nil {
		return nil, err
	}
	return &bench.WorkerServer{AdminURL: url, Stop: server.stop}, nil
}

// logCommand runs the NATS server of a dev server and nothing else.
type logCommand struct {
	Listen       string `help:"Address of the NATS server." default:"127.0.0.1:4222"`
	Admin        string `help:"Address for operators: health, metrics, profiles." default:"127.0.0.1:8081"`
	Data         string `help:"Directory of all data." default:"./data"`
	SyncInterval string `help:"In place of nats.conf's. All but always lose acknowledged messages in a power cut." default:"always"`
}

// syncAlways is the line of nats.conf that [logCommand] writes over.
const syncAlways = "sync_interval: always"

func (c *logCommand) Run(p *process) error {
	conf := strings.Replace(natsConf, syncAlways, "sync_interval: "+strconv.Quote(c.SyncInterval), 1)
	if c.SyncInterval == "always" {
		conf = natsConf
	} else if conf == natsConf {
		return fmt.Errorf("nats.conf has no line %q", syncAlways)
	}
	passwords, err := streams.LoadOrCreatePasswords(c.Data)
	if err != nil {
		return err
	}
	a, err := startAdmin(c.Admin, func(context.Context) error { return nil })
	if err != nil {
		return err
	}
	defer a.Close()
	server, err := natsserver.Start(p.ctx, natsserver.Config{
		Conf: conf, Listen: c.Listen, DataDir: filepath.Join(c.Data, natsDir), Passwords: passwords, Log: p.log,
	})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	fmt.Fprintf(p.stdout, "ready %s\n", server.URLs()[0])
	<-p.ctx.Done()
	return nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
