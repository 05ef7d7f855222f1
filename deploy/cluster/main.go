//go:build unix

// Command cluster runs all of Parley on this machine as it runs on many: three
// NATS servers, Cassandra, two workers, two edges and HAProxy, each a process of
// its own on 127.0.0.1.
//
//	go run ./deploy/cluster [--data DIR]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// flags are the command line; kong reads them.
type flags struct {
	Listen string `help:"Address of HAProxy, for the web page and clients." default:"127.0.0.1:8080"`
	Data   string `help:"Directory of all data, which the next start goes on with. Without it: a temporary one, removed at the end." placeholder:"DIR"`
	Store  string `help:"The permanent store: cassandra, or sqlite where there is no Java." enum:"cassandra,sqlite" default:"cassandra"`
	Shards int    `help:"Chat streams, fixed when the data directory is new." default:"8"`
}

const description = `Runs all of Parley on this machine, as it runs on many: three NATS servers,
Cassandra, two workers, two edges and HAProxy. It prints the address of the web
page, and how to look inside. Ctrl-C ends everything in order.

Kill any of its processes: the others go on, and it starts again after 2 s.

It needs Go and haproxy, and for Cassandra Java 11 to 17 and, the first time,
Maven. The first start takes some minutes, a later one half of one.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends this process at once, and the kernel its children
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// run runs a cluster until ctx ends. It returns when none of its processes is left.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	var f flags
	exited := false
	parser, err := kong.New(&f, kong.Name("cluster"), kong.Description(description),
		kong.Writers(stdout, stdout), kong.Exit(func(int) { exited = true }))
	if err != nil {
		return fmt.Errorf("read command line: %w", err)
	}
	if _, err := parser.Parse(args); exited {
		return nil
	} else if err != nil {
		return fmt.Errorf("%w: see --help", err)
	}
	c, err := newCluster(f, &terminal{w: stdout})
	if err != nil {
		return err
	}
	defer c.removeData()
	err = c.start(ctx)
	if err == nil {
		c.tell()
		c.keep(ctx)
	}
	stopErr := c.stop()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // asked to end while it started
	}
	return errors.Join(err, stopErr)
}
