package cmd

import (
	"fmt"
	"time"

	"parley/streams"
)

// migrateCommand makes tables and streams.
type migrateCommand struct {
	natsFlags
	storeFlag
	Shards     int           `help:"Chat streams, fixed at the first run; 0: 8, or what is there." default:"0"`
	Replicas   int           `help:"Replicas of every stream: 1, 3 or 5; 0: 1, or what is there." default:"0"`
	MaxAge     time.Duration `help:"How long the log keeps events; 0: 24h, or what is there." default:"0"`
	MaxBytes   int64         `help:"Bytes that each chat stream may take on a disk; 0: 1 GiB, or what is there." default:"0"`
	RemakeLost bool          `help:"Lay chat streams that are lost anew, with higher sequences. What was acknowledged there and is not in the store yet stays lost."`
	Services   []string      `name:"service" help:"Names of services that get a durable consumer on every chat stream."`
}

func (c *migrateCommand) Run(p *process) error {
	connect, err := c.config(streams.WorkerComponent, "")
	if err != nil {
		return err
	}
	connect.Log = p.log
	// The store is first: it knows how far the log was.
	st, err := c.openAndMigrate(p.ctx, p.log)
	if err != nil {
		return err
	}
	defer st.Close()
	layout, err := provision(p.ctx, connect, streams.Settings{
		Shards: c.Shards, Replicas: c.Replicas, MaxAge: c.MaxAge, MaxBytes: c.MaxBytes, Services: c.Services, RemakeLost: c.RemakeLost,
	}, st)
	if err != nil {
		return err
	}
	for _, shard := range layout.All() {
		if shard.Generation > streams.FirstGeneration {
			fmt.Fprintf(p.stdout, "shard %d is stream %s, the one of generation %d\n", shard.Index, shard.Stream(), shard.Generation)
		}
	}
	fmt.Fprintln(p.stdout, "store is migrated\nstreams are provisioned")
	return nil
}
