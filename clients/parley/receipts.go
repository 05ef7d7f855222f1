package parley

import (
	"context"

	"parley/schemas"
)

// Delivered tells that a device of the user has all of chat up to seq. Nobody
// answers; the mark is remembered, is told again on each new connection, and only
// rises. What OnEvent was given is told without it, see Options.NoDelivered.
func (c *Client) Delivered(chat schemas.Chat, seq uint64) { c.marks.raise(chat, seq, 0) }

// Read is Delivered for what the user has read, which says that it was delivered too.
func (c *Client) Read(chat schemas.Chat, seq uint64) { c.marks.raise(chat, 0, seq) }

// Receipts returns a page of how far the members of a chat have got; the page's
// Cursor asks for the next. Options.OnReceipt is told of what changes.
func (c *Client) Receipts(ctx context.Context, what schemas.Receipts) (schemas.ReceiptsPage, error) {
	return ask[schemas.ReceiptsPage](ctx, c, schemas.TReceipts, what)
}

// Status is how far a message has got: to Delivered, and Read by, so many of Of others.
type Status struct {
	Delivered, Read, Of int
}

// StatusOf derives the status of the message at seq from how far the members of its
// chat have got. Its author is none of those others, and what was read was delivered.
func StatusOf(seq uint64, author schemas.User, receipts []schemas.Receipt) Status {
	var status Status
	for _, r := range receipts {
		if r.User == author {
			continue
		}
		status.Of++
		if r.Read >= seq {
			status.Read++
		}
		if max(r.Delivered, r.Read) >= seq {
			status.Delivered++
		}
	}
	return status
}
