package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/edge"
	"parley/repair/replay"
	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
)

// dataFlag finds the secrets of a dev server.
type dataFlag struct {
	Data string `help:"Data directory of a dev server, whose secrets are used where none is set." default:"./data"`
}

// tokenCommand prints a token.
type tokenCommand struct {
	User       string        `help:"The user that the token is for." required:""`
	TTL        time.Duration `name:"ttl" help:"How long it is valid." default:"24h"`
	AuthSecret string        `help:"Key of HS256 tokens; without it, that of the data directory."`
	dataFlag
}

func (c *tokenCommand) Run(p *process) error {
	user, err := schemas.ParseUser(c.User)
	if err != nil {
		return err
	}
	if c.TTL < time.Second {
		return fmt.Errorf("--ttl %s: it is at least 1s", c.TTL)
	}
	secret := c.AuthSecret
	if secret == "" {
		text, err := os.ReadFile(filepath.Join(c.Data, secretFile))
		if err != nil {
			return fmt.Errorf("no secret: %w: start `parley dev` once, or set PARLEY_AUTH_SECRET", err)
		}
		secret = strings.TrimSpace(string(text))
	}
	token, err := edge.MintToken([]byte(secret), user, time.Now(), c.TTL)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, token)
	return nil
}

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

// drainCommand asks an edge to leave.
type drainCommand struct {
	Node string `arg:"" help:"The edge's name, as in nats micro ls; that of a dev server is dev."`
	natsFlags
	dataFlag
}

const drainAskWithin = 5 * time.Second

func (c *drainCommand) Run(p *process) error {
	node, err := schemas.ParseID(c.Node)
	if err != nil {
		return err
	}
	return withJetStream(p, c.natsFlags, streams.OperatorComponent, c.Data, func(js jetstream.JetStream) error {
		ctx, cancel := context.WithTimeout(p.ctx, drainAskWithin)
		defer cancel()
		reply, err := js.Conn().RequestWithContext(ctx, streams.NodeSubject(node, "drain"), nil)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return fmt.Errorf("no edge is called %s: nats micro ls shows the edges", node)
		case err != nil:
			return fmt.Errorf("ask %s to drain: %w", node, err)
		}
		fmt.Fprintf(p.stdout, "%s drains: %s\n", node, reply.Data)
		return nil
	})
}

// withJetStream connects for the time of f.
func withJetStream(p *process, flags natsFlags, component streams.Component, data string, f func(jetstream.JetStream) error) error {
	connect, err := flags.config(component, data)
	if err != nil {
		return err
	}
	connect.Log = p.log
	conn, err := streams.Connect(p.ctx, connect)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	return f(js)
}

// withLogAndStore connects to the log and opens the store, which is migrated, for the time of f.
func withLogAndStore(p *process, flags natsFlags, data string, store storeFlag, f func(js jetstream.JetStream, layout streams.Layout, st permanentStore) error) error {
	return withJetStream(p, flags, streams.WorkerComponent, data, func(js jetstream.JetStream) error {
		layout, err := streams.LoadLayout(p.ctx, js)
		if err != nil {
			return err
		}
		st, err := store.openMigrated(p.ctx, p.log)
		if err != nil {
			return err
		}
		defer st.Close()
		return f(js, layout, st)
	})
}
