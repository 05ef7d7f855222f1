package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/repair/check"
	"parley/repair/rebuild"
	"parley/streams"
)

// shardsFlag limits a command to some shards.
type shardsFlag struct {
	Shard []string `help:"Only this shard, as its stream names it: 3 of CHAT_3. May be given again."`
}

func (f shardsFlag) of(layout streams.Layout) ([]streams.Shard, error) {
	all := layout.All()
	if len(f.Shard) == 0 {
		return all, nil
	}
	var shards []streams.Shard
	for _, token := range f.Shard {
		i := slices.IndexFunc(all, func(s streams.Shard) bool { return s.Token == token })
		if i < 0 {
			return nil, fmt.Errorf("--shard %s: there are the shards %s", token, tokens(all))
		}
		if !slices.Contains(shards, all[i]) {
			shards = append(shards, all[i])
		}
	}
	return shards, nil
}

func tokens(shards []streams.Shard) string {
	all := make([]string, len(shards))
	for i, s := range shards {
		all[i] = s.Token
	}
	return strings.Join(all, ", ")
}

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

// progressEvery is how often a line tells how far a command is.
const progressEvery = 2 * time.Second

// withProgress runs work, and says meanwhile on stderr how far it is.
func withProgress(p *process, work func(context.Context) error, line func(elapsed time.Duration) string) error {
	began, done := time.Now(), make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintln(p.stderr, line(time.Since(began)))
			case <-done:
				return
			}
		}
	})
	defer telling.Wait()
	defer close(done)
	return work(p.ctx)
}

func logProgress(done, total uint64, elapsed time.Duration) string {
	rate := perSecond(done, elapsed)
	text := fmt.Sprintf("%s of %s events, %s a second", grouped(done), grouped(total), grouped(rate))
	if rate > 0 {
		left := time.Duration(float64(total-done) / float64(rate) * float64(time.Second))
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}

func perSecond(n uint64, elapsed time.Duration) uint64 {
	return uint64(float64(n) / max(elapsed.Seconds(), 0.001))
}

// grouped writes n with a comma before each three digits.
func grouped(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
