package cmd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"parley/bench"
	"parley/streams"
	"parley/workers/store/sqlite"
)

// benchCommand measures a server.
type benchCommand struct {
	Workloads []string      `arg:"" optional:"" help:"Loads to run: ceiling, direct, fanout, group, latency, receipts, history, idle, storm, replicas, restart, persist, pages, connect, chats, create, presence; without any, all. Those from replicas on start servers of their own."`
	Duration  time.Duration `help:"Of each measurement; 0: 10s, and 60s of persist; with --short 1s, and 6s." default:"0"`
	Short     bool          `help:"A tenth of each size, and less of restart's, to see that it works."`
	TextBytes int           `help:"Bytes of text in each message." default:"64"`
	JSON      bool          `name:"json" help:"Print a line of JSON for each result instead of a table."`
	NATSNodes int           `name:"nats-nodes" help:"NATS servers of the server that is started: 1 or 3." default:"1" enum:"1,3"`
	Store     string        `help:"A store that persist and those behind it measure beside SQLite, like cql://user@127.0.0.1:9042/bench with its password in PARLEY_STORE_PASSWORD. Each run makes keyspaces of its own, whose names begin with the one given, and leaves them there." env:"-"`
	StorePID  int           `name:"store-process" help:"Process of that store, whose CPU time is told too; on Linux." hidden:"" env:"-"`
	Events    int           `help:"Events in the log of restart; 0: 10,000,000, and with --short 100,000." default:"0"`
	Chats     int           `help:"Chats in the log of restart; 0: 1,000,000, and with --short 10,000." default:"0"`
	Addr      string        `help:"A dev server that runs already, with --max-sessions, --user-rate=0 and --address-rate=0, like http://127.0.0.1:8080; without it, one is started in a temporary directory."`
	AdminAddr string        `help:"Its admin address." default:"http://127.0.0.1:8081"`
	natsFlags
	dataFlag
}

func (c *benchCommand) Run(p *process) error {
	config := bench.Config{
		OpenStore: openBenchStore, NewStore: newBenchStore, StoreURL: c.Store,
		Workloads: c.Workloads, Duration: c.Duration, Short: c.Short, TextBytes: c.TextBytes, NATSNodes: c.NATSNodes,
		LogEvents: c.Events, LogChats: c.Chats,
		JSON: c.JSON, Out: p.stdout, Progress: p.stderr,
	}
	if c.StorePID != 0 {
		config.StoreCPU = func() (float64, error) { return processCPU(c.StorePID) }
	}
	if c.Addr == "" {
		config.Start, config.StartLog, config.StartWorker = startBenchServer, startBenchLog, startBenchWorker
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

// openBenchStore opens the store as a history worker of another process does.
func openBenchStore(ctx context.Context, path string) (bench.Store, error) {
	reader, err := sqlite.OpenReader(ctx, path)
	if err != nil {
		return nil, err
	}
	return reader, nil
}

// newBenchStore takes a password from where the server that is started takes it.
func newBenchStore(ctx context.Context, url string) (bench.WritableStore, error) {
	return storeFlag{Store: url, StorePassword: os.Getenv("PARLEY_STORE_PASSWORD")}.openAndMigrate(ctx, slog.New(slog.DiscardHandler))
}

// processCPU returns the CPU time of a process in seconds, as Linux tells it.
func processCPU(pid int) (seconds float64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
	}
	// The process's name, in brackets, may have spaces; behind it utime and stime
	// are the 12th and 13th field, in hundredths of a second.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read CPU time of process %d: %q", pid, stat)
	}
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
		}
		seconds += float64(ticks) / 100
	}
	return seconds, nil
}
