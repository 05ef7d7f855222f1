package cmd

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/repair/replay"
	"parley/streams"
	"parley/workers/dead"
)

// deadCommand looks at the stream DEAD.
type deadCommand struct {
	List   deadListCommand   `cmd:"" help:"List what was given up, and why."`
	Replay deadReplayCommand `cmd:"" help:"Hand it back; what is taken leaves the list."`
}

type deadListCommand struct {
	natsFlags
	dataFlag
	Consumer string `help:"Only what this consumer gave up on."`
}

func (c *deadListCommand) Run(p *process) error {
	return withJetStream(p, c.natsFlags, streams.WorkerComponent, c.Data, func(js jetstream.JetStream) error {
		table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tCONSUMER\tSUBJECT\tSEQ\tTIME\tREASON")
		n := 0
		for letter, err := range dead.List(p.ctx, js, c.Consumer) {
			if err != nil {
				return err
			}
			n++
			fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%s\t%s\n", letter.ID, letter.Consumer, letter.Subject, letter.Seq, letter.Time.Format(time.RFC3339), letter.Reason)
		}
		if n == 0 {
			fmt.Fprintln(p.stdout, "no dead letters")
			return nil
		}
		return table.Flush()
	})
}

type deadReplayCommand struct {
	natsFlags
	dataFlag
	storeFlag
	Consumer string `help:"Only what this consumer gave up on."`
}

func (c *deadReplayCommand) Run(p *process) error {
	return withLogAndStore(p, c.natsFlags, c.Data, c.storeFlag, func(js jetstream.JetStream, layout streams.Layout, st permanentStore) error {
		taken, left := 0, 0
		handlers := map[string]replay.Handler{streams.PersistConsumer: replay.New(st, layout)}
		err := replay.Letters(p.ctx, js, c.Consumer, handlers, func(letter dead.Letter, err error) {
			if err != nil {
				left++
				fmt.Fprintf(p.stderr, "%d stays: %v\n", letter.ID, err)
				return
			}
			taken++
		})
		fmt.Fprintf(p.stdout, "%d replayed, %d left\n", taken, left)
		return err
	})
}
