package check

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// walkChats checks the rows of each chat by themselves: those in the log's range,
// or all. A chat whose head is older than that range has none in it.
func (c *Checker) walkChats(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.cfg.Readers)
	var failed error
	for row, err := range c.cfg.Store.Chats(ctx) {
		if err != nil {
			failed = fmt.Errorf("read chats: %w", err)
			break
		}
		s, ok := c.shards[c.cfg.Layout.Shard(row.Chat)]
		if !ok || !c.cfg.Deep && row.Head.LastSeq < s.first {
			continue
		}
		group.Go(func() error {
			defer c.chats.Add(1)
			return c.checkChat(ctx, s, row)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return failed
}

// checkChat checks one chat, and where something is wrong once more, with its
// head as it is then.
func (c *Checker) checkChat(ctx context.Context, s *shard, row store.ChatHead) error {
	findings, err := c.checkRows(ctx, s, row)
	if err != nil || len(findings) == 0 {
		return err
	}
	heads, err := again(ctx, c.cfg.RetryWithin, func() (map[schemas.Chat]store.Head, error) {
		return c.cfg.Store.Heads(ctx, []schemas.Chat{row.Chat})
	})
	if err != nil {
		return fmt.Errorf("read head of %s: %w", row.Chat, err)
	}
	row.Head = heads[row.Chat]
	if findings, err = c.checkRows(ctx, s, row); err != nil {
		return err
	}
	s.report.add(findings...)
	return nil
}

// checkRows walks the chat's rows up to the head, or to the shard's row where that
// is higher: there may be no row between the two. Above both, others are being
// written.
func (c *Checker) checkRows(ctx context.Context, s *shard, row store.ChatHead) ([]Finding, error) {
	ch := chain{s: s, chat: row.Chat, disappearing: row.Head.Disappearing}
	after := uint64(0)
	if !c.cfg.Deep && s.first > 0 {
		after = s.first - 1
		older, _, err := c.page(ctx, row.Chat, store.Range{Before: s.first, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(older) > 0 {
			ch.begin(older[0])
		}
	}
	top := max(row.Head.LastSeq, s.committed)
	for more := true; more; {
		var events []store.Event
		var err error
		if events, more, err = c.page(ctx, row.Chat, store.Range{Forward: true, After: after, Limit: rowsPerRead}); err != nil {
			return nil, err
		}
		c.rows.Add(uint64(len(events)))
		start := after
		for i := range events {
			if events[i].Seq <= top {
				ch.follow(&events[i])
			}
			after = max(after, events[i].Seq)
		}
		// Rows in wrong buckets come out of order, and after may stand still.
		more = more && after > start && after <= top
	}
	if _, known := s.badHeads[row.Chat]; !known {
		ch.compareHead(row.Head)
	}
	return ch.findings, c.findNewestExtra(ctx, &ch)
}

// findNewestExtra finds rows above the last that the log has of the chat: those
// below were met along the log.
func (c *Checker) findNewestExtra(ctx context.Context, ch *chain) error {
	s := ch.s
	cmp := comparer{c: c, s: s, comparison: comparison{chat: ch.chat}}
	seen := c.lasts.get(ch.chat)
	for i := len(ch.newest) - 1; i >= 0; i-- {
		seq := ch.newest[i].seq
		if seq <= seen || seq < s.first {
			break
		}
		in, err := c.inLog(ctx, s, ch.chat, seq)
		if err != nil {
			return err
		}
		if in {
			break
		}
		if !isOver(ch.newest[i].expires) {
			cmp.extra = append(cmp.extra, seq)
		}
	}
	err := cmp.addExtra(ctx)
	ch.findings = append(ch.findings, cmp.findings...)
	return err
}
