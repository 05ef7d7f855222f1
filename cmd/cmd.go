// Package cmd has the commands of parley, one in each file. It reads flags and the
// environment, puts the parts together, and alone knows all of them.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Main runs the command that the process was started with, until it is done or
// SIGINT or SIGTERM ends it, and returns the exit code. natsConf is the text of
// nats.conf.
func Main(natsConf string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := Run(ctx, os.Args[1:], os.Stdout, os.Stderr, natsConf); err != nil {
		fmt.Fprintln(os.Stderr, "parley:", strings.ReplaceAll(err.Error(), "\n", "; "))
		return 1
	}
	return 0
}

// cli is every command; kong reads flags, environment and defaults from it.
type cli struct {
	LogLevel  slog.Level `help:"Least level that is logged: debug, info, warn or error." default:"info"`
	LogFormat string     `help:"Form of the log: text or json." enum:"text,json" default:"text"`

	Dev     devCommand     `cmd:"" help:"Run everything in one process, with the data in one directory."`
	Edge    edgeCommand    `cmd:"" help:"Run an edge: WebSocket connections and the log."`
	Worker  workerCommand  `cmd:"" help:"Run workers: persist the log, answer about history, chats and users."`
	Migrate migrateCommand `cmd:"" help:"Make or update the streams in NATS and the tables of the store."`
	Token   tokenCommand   `cmd:"" help:"Print a token that a server with the same secret accepts."`
	Bench   benchCommand   `cmd:"" help:"Measure a server under named loads."`
	Dead    deadCommand    `cmd:"" help:"List what workers gave up on, or hand it back to them."`
	Check   checkCommand   `cmd:"" help:"Compare the log with the store, while both are in use."`
	Rebuild rebuildCommand `cmd:"" help:"Apply the log to an empty or damaged store again, while no worker runs."`
	Drain   drainCommand   `cmd:"" help:"Ask an edge to send its clients elsewhere and end."`
	Log     logCommand     `cmd:"" hidden:"" help:"Run the NATS server alone: what bench measures restarts of."`
}

// process is what every command runs with.
type process struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
	log    *slog.Logger

	natsConf string // configures the NATS servers that the command starts
}

// Run runs the command that args name until it is done or ctx ends. Commands print
// results to stdout, and logs and progress to stderr. natsConf is the text of
// nats.conf, which configures the NATS servers that dev and log start.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer, natsConf string) error {
	var commands cli
	exited := false
	parser, err := kong.New(&commands,
		kong.Name("parley"),
		kong.Description("A messaging server whose every conversation is an open, ordered, replayable stream.\n\n"+
			"Begin with: parley dev"),
		kong.DefaultEnvars("PARLEY"),
		kong.Vars{"hostname": hostname()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }), // --help was printed
	)
	if err != nil {
		return fmt.Errorf("read command line: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exited {
		return nil
	}
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("%w: see parley --help", parse)
	}
	if err != nil {
		return err
	}
	return command.Run(&process{ctx: ctx, stdout: stdout, stderr: stderr, log: commands.logger(stderr), natsConf: natsConf})
}

func (c *cli) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// hostname is this machine's name as an id can have it.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "edge"
	}
	return strings.Map(func(r rune) rune {
		if r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
}
