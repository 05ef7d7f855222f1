package cmd

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/repair/rebuild"
	"parley/streams"
)

// rebuildCommand applies the log to the store again.
type rebuildCommand struct {
	natsFlags
	dataFlag
	storeFlag
	shardsFlag
}

func (c *rebuildCommand) Run(p *process) error {
	return withLogAndStore(p, c.natsFlags, c.Data, c.storeFlag, func(js jetstream.JetStream, layout streams.Layout, st permanentStore) error {
		shards, err := c.of(layout)
		if err != nil {
			return err
		}
		rebuilder, err := rebuild.New(rebuild.Config{
			JetStream: js, Log: streams.NewLog(js, layout), Layout: layout, Store: st, Shards: shards,
		})
		if err != nil {
			return err
		}
		began := time.Now()
		err = withProgress(p, rebuilder.Run, func(elapsed time.Duration) string {
			at := rebuilder.Progress()
			return logProgress(at.Done, at.Total, elapsed)
		})
		at, elapsed := rebuilder.Progress(), time.Since(began)
		if err == nil || at.Done > 0 {
			fmt.Fprintf(p.stdout, "%s events written in %s, %s a second; %d given up\n",
				grouped(at.Events), elapsed.Round(time.Millisecond), grouped(perSecond(at.Events, elapsed)), at.Buried)
		}
		if p.ctx.Err() != nil {
			return errors.New("the rebuild was interrupted: run it again before a worker, it writes the same once more and goes on to the end")
		}
		return err
	})
}
