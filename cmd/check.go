package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/repair/check"
	"parley/streams"
)

// checkCommand compares log and store.
type checkCommand struct {
	natsFlags
	dataFlag
	storeFlag
	shardsFlag
	Deep     bool `help:"Also the rows that are older than the log: whether each follows from the one before."`
	Readers  int  `help:"Reads of the store at once." default:"8"`
	Findings int  `help:"How many differences of each shard are printed." default:"20"`
}

func (c *checkCommand) Run(p *process) error {
	if c.Readers < 1 || c.Findings < 1 {
		return fmt.Errorf("--readers %d, --findings %d: at least 1", c.Readers, c.Findings)
	}
	return withLogAndStore(p, c.natsFlags, c.Data, c.storeFlag, func(js jetstream.JetStream, layout streams.Layout, st permanentStore) error {
		shards, err := c.of(layout)
		if err != nil {
			return err
		}
		checker, err := check.New(check.Config{
			JetStream: js, Log: streams.NewLog(js, layout), Layout: layout, Store: st,
			Shards: shards, Deep: c.Deep, Readers: c.Readers, FindingsMax: c.Findings,
		})
		if err != nil {
			return err
		}
		var report *check.Report
		err = withProgress(p, func(ctx context.Context) (err error) {
			report, err = checker.Run(ctx)
			return err
		}, func(elapsed time.Duration) string {
			at := checker.Progress()
			if at.Done == at.Total && at.Chats > 0 {
				return fmt.Sprintf("log compared; %s chats and %s rows of the store looked at", grouped(at.Chats), grouped(at.Rows))
			}
			return logProgress(at.Done, at.Total, elapsed)
		})
		switch {
		case p.ctx.Err() != nil:
			return errors.New("the check was interrupted: nothing is known of what it had not reached")
		case err != nil:
			return err
		}
		return printReport(p.stdout, report)
	})
}

// printReport returns an error where log and store differ.
func printReport(w io.Writer, report *check.Report) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "SHARD\tIN LOG\tCOMPARED\tMISSING\tEXTRA\tDIFFERENT\tOUT OF ORDER\tGAPS IN PREV\tHEADS\tGIVEN UP\tNOT YET STORED\t")
	for _, s := range report.Shards {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n",
			s.Shard, s.Events, s.Compared, s.Missing, s.Extra, s.Different, s.Order, s.Gaps, s.Heads, s.GivenUp, s.NotStored)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range report.Shards {
		for _, finding := range s.Findings {
			fmt.Fprintln(w, finding)
		}
		if s.More > 0 {
			fmt.Fprintf(w, "shard %s: and %d more\n", s.Shard, s.More)
		}
	}
	fmt.Fprintln(w, "table chats_by_user was not compared")
	if n := report.Differences(); n > 0 {
		return fmt.Errorf("log and store differ in %d places: `parley rebuild` repairs what the log still has, once the workers are stopped", n)
	}
	var notStored uint64
	for _, s := range report.Shards {
		notStored += s.NotStored
	}
	if notStored > 0 {
		fmt.Fprintf(w, "log and store agree in what is stored; %s events of the log are not yet\n", grouped(notStored))
		return nil
	}
	fmt.Fprintln(w, "log and store agree")
	return nil
}
