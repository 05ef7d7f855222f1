// Command keeper holds one shared Cassandra: see the package shared, which builds and starts it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"parley/tests/cassandra/shared"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	dir := flag.String("dir", "", "the folder shared with the users")
	owner := flag.String("owner", "", "the process to end with")
	idle := flag.Duration("idle", 0, "how long to stay without users")
	flag.Parse()
	keeper := shared.Keeper{Dir: *dir, Owner: shared.Owner(*owner), Idle: *idle}
	if err := keeper.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		os.Exit(1)
	}
}
