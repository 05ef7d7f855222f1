package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

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
