package cql

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"parley/workers/store"
)

// Bounds of one request to write. A larger batch takes the database longer as a
// whole; one row a request would cost it twice the work.
const (
	batchRowsMax  = 50
	batchBytesMax = 256 << 10
	// eventBytesMax is below what a mutation may have, which is half a segment of
	// the commit log: 16 MiB by default.
	eventBytesMax = 8 << 20
)

// Commit stores b: every chat's events and what they change, then its buckets,
// then its roles and read marks, then its head, and the shard's row when all chats
// have theirs. It may be given again: what is newer stays. It returns
// store.ErrBatch where nothing of it was written, store.ErrUnavailable where some
// of it may have been, or the error of ctx.
func (s *Store) Commit(ctx context.Context, b store.Batch) error {
	what := "commit shard " + b.Shard
	if err := b.Validate(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := fits(&b); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	c := &commit{store: s, now: s.cfg.Now(), writes: make(chan struct{}, s.cfg.WritesMax)}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.WritesMax)
	for i := range b.Chats {
		group.Go(func() error { return c.writeChat(groupCtx, &b.Chats[i]) })
	}
	err := group.Wait()
	if err == nil {
		err = s.write(ctx, insertShard, b.Shard, int64(b.Committed), int64(b.Committed))
	}
	return classify(ctx, what, err)
}

// fits returns store.ErrBatch for what the database would refuse for ever.
func fits(b *store.Batch) error {
	for i := range b.Chats {
		c := &b.Chats[i]
		check := func(what string, seq uint64, text []byte) error {
			if len(text) > eventBytesMax {
				return fmt.Errorf("%w: %s %d of %s has %d bytes, more than %d", store.ErrBatch, what, seq, c.Chat, len(text), eventBytesMax)
			}
			if !utf8.Valid(text) {
				return fmt.Errorf("%w: %s %d of %s is no UTF-8", store.ErrBatch, what, seq, c.Chat)
			}
			return nil
		}
		err := check("the group's name at", c.Head.LastSeq, []byte(c.Head.Name))
		for j := 0; j < len(c.Events) && err == nil; j++ {
			err = check("event", c.Events[j].Seq, c.Events[j].JSON)
		}
		for j := 0; j < len(c.Changes) && err == nil; j++ {
			err = changeFits(&c.Changes[j], check)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func changeFits(c *store.Change, check func(what string, seq uint64, text []byte) error) error {
	if err := check("the body of edit", c.Seq, c.Body); err != nil {
		return err
	}
	if err := check("the emoji of reaction", c.Seq, []byte(c.Emoji)); err != nil {
		return err
	}
	for i := range c.Blanks {
		if err := check("the blank of", c.Blanks[i].Seq, c.Blanks[i].JSON); err != nil {
			return err
		}
	}
	return nil
}

// commit is one as it is written. It has a place in writes for each request under
// way: a group of a thousand, too, keeps to [Config.WritesMax].
type commit struct {
	store  *Store
	now    time.Time
	writes chan struct{}
}

// write runs statements of one partition, when there is a place.
func (c *commit) write(ctx context.Context, all []statement) error {
	select {
	case c.writes <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.writes }()
	return c.store.writeAll(ctx, all)
}

// writeChat writes one thing after the other, so that who sees a row sees what it
// stands for.
func (c *commit) writeChat(ctx context.Context, b *store.ChatBatch) error {
	if err := c.writeTimeline(ctx, b); err != nil {
		return err
	}
	for _, bucket := range b.Buckets {
		first := int64(bucket.FirstSeq)
		one := statement{text: insertBucket, values: []any{b.Chat.String(), first, bucket.Bucket, first}}
		if err := c.write(ctx, []statement{one}); err != nil {
			return err
		}
	}
	if err := c.writeUsers(ctx, b); err != nil {
		return err
	}
	return c.write(ctx, headOf(b, c.now))
}

// writeTimeline writes the events of a chat and what they change in batches that
// each stay in one partition, one after the other, so that no reader sees an event
// before those under it.
func (c *commit) writeTimeline(ctx context.Context, b *store.ChatBatch) error {
	events, changes := timelineOf(b, c.now)
	// By falling bucket: most changes are of what is new, and go with the last events.
	slices.SortStableFunc(changes, func(a, b statement) int { return cmp.Compare(b.bucket, a.bucket) })
	for all := append(events, changes...); len(all) > 0; {
		n := batchOf(all)
		if err := c.write(ctx, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// writeUsers writes who is in a chat, and what its users have read, side by side:
// their stamps say which is later.
func (c *commit) writeUsers(ctx context.Context, b *store.ChatBatch) error {
	if len(b.Roles) == 0 && len(b.Reads) == 0 {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.store.cfg.WritesMax)
	for members := membersOf(b); len(members) > 0; {
		n := batchOf(members)
		some := members[:n]
		members = members[n:]
		group.Go(func() error { return c.write(ctx, some) })
	}
	for _, one := range usersOf(b) {
		group.Go(func() error { return c.write(ctx, []statement{one}) })
	}
	return group.Wait()
}
