package check

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
)

// One question to the log asks for that much: what a connection carries in a moment.
const (
	spanEvents = 1000
	spanBytes  = 4 << 20
)

// badHeadsMax bounds the chats of a shard whose heads were found bad along the
// log; past it, one may be counted twice.
const badHeadsMax = 10_000

// window is a part of the log, whole.
type window struct {
	from, upto uint64
	msgs       []*jetstream.RawStreamMsg
}

// event is a message of a chat's log.
type event struct {
	seq  uint64
	time time.Time
	data []byte
}

// walkLog compares a shard's log with the store up to the shard's row, a window
// at a time; the next window is read meanwhile.
func (c *Checker) walkLog(ctx context.Context, s *shard) error {
	windows := make(chan window)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(windows)
		for from := s.first; from <= s.committed; {
			w, err := c.readWindow(ctx, s, from)
			if err != nil {
				return err
			}
			select {
			case windows <- w:
			case <-ctx.Done():
				return ctx.Err()
			}
			from = w.upto + 1
		}
		return nil
	})
	group.Go(func() error {
		for w := range windows {
			if err := c.compareWindow(ctx, s, w); err != nil {
				return err
			}
			c.done.Add(w.upto + 1 - w.from - uint64(len(w.msgs))) // the others were added chat by chat
		}
		return nil
	})
	return group.Wait()
}

func (c *Checker) readWindow(ctx context.Context, s *shard, from uint64) (window, error) {
	w := window{from: from, upto: from - 1}
	for bytes := 0; w.upto < s.committed && len(w.msgs) < c.cfg.WindowEvents && bytes < c.cfg.WindowBytes; {
		limit := min(spanEvents, c.cfg.WindowEvents-len(w.msgs))
		span, err := again(ctx, c.cfg.RetryWithin, func() (span window, err error) {
			span.msgs, span.upto, err = c.cfg.Log.Span(ctx, s.shard, w.upto+1, s.committed, limit, spanBytes)
			return span, err
		})
		if err != nil {
			return w, err
		}
		for _, msg := range span.msgs {
			bytes += len(msg.Data)
		}
		w.msgs, w.upto = append(w.msgs, span.msgs...), span.upto
	}
	return w, nil
}

func (c *Checker) compareWindow(ctx context.Context, s *shard, w window) error {
	byChat := make(map[schemas.Chat][]event)
	for _, msg := range w.msgs {
		chat, ok := streams.TimelineChat(msg.Subject)
		if !ok || c.cfg.Layout.Shard(chat) != s.shard {
			c.compareStray(s, msg)
			c.done.Add(1)
			continue
		}
		byChat[chat] = append(byChat[chat], event{seq: msg.Sequence, time: msg.Time, data: msg.Data})
	}
	s.report.Events += uint64(len(w.msgs))
	newest, err := c.compareChats(ctx, s, w, byChat)
	if err != nil {
		return err
	}
	for chat, events := range byChat {
		c.lasts.set(chat, events[len(events)-1].seq)
	}
	return c.compareHeads(ctx, s, newest)
}

// compareStray is for a message that is in the log of no chat of its shard:
// persist gives it up.
func (c *Checker) compareStray(s *shard, msg *jetstream.RawStreamMsg) {
	if c.letters.has(s.shard, msg.Sequence) {
		s.report.addCompared(0, 1)
		return
	}
	s.report.add(Finding{Kind: Missing, Shard: s.shard.Token, Seq: msg.Sequence,
		Text: fmt.Sprintf("subject %q is of no chat of this shard, and the stream %s does not have the message either", msg.Subject, streams.DeadStream)})
}

// compareChats compares all chats of a window, and returns the newest row of
// each that has one there.
func (c *Checker) compareChats(ctx context.Context, s *shard, w window, byChat map[schemas.Chat][]event) (newest map[schemas.Chat]uint64, err error) {
	results := make(chan comparison, len(byChat))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.cfg.Readers)
	for chat, events := range byChat {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			found, err := c.compareTwice(ctx, s, w, chat, events)
			results <- found
			c.done.Add(uint64(len(events)))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	close(results)
	newest = make(map[schemas.Chat]uint64, len(byChat))
	for found := range results {
		s.report.addCompared(found.compared, found.givenUp)
		s.report.add(found.findings...)
		s.changes.add(&found)
		s.groups.add(&found)
		if found.newest > 0 {
			newest[found.chat] = found.newest
		}
	}
	return newest, nil
}

// compareHeads finds chats whose head is gone or behind a row that the shard's
// row covers. Heads are written after rows and before the shard's row.
func (c *Checker) compareHeads(ctx context.Context, s *shard, newest map[schemas.Chat]uint64) error {
	chats := make([]schemas.Chat, 0, len(newest))
	for chat := range newest {
		chats = append(chats, chat)
	}
	for len(chats) > 0 {
		part := chats[:min(len(chats), 1000)]
		chats = chats[len(part):]
		heads, err := again(ctx, c.cfg.RetryWithin, func() (map[schemas.Chat]store.Head, error) { return c.cfg.Store.Heads(ctx, part) })
		if err != nil {
			return fmt.Errorf("read heads of %d chats: %w", len(part), err)
		}
		for _, chat := range part {
			head, ok := heads[chat]
			if _, known := s.badHeads[chat]; known || ok && head.LastSeq >= newest[chat] {
				continue
			}
			text := "the chat has no head"
			if ok {
				text = fmt.Sprintf("the head ends at %d, before this row", head.LastSeq)
			}
			s.report.add(Finding{Kind: Head, Shard: s.shard.Token, Chat: chat, Seq: newest[chat], Text: text})
			if len(s.badHeads) < badHeadsMax {
				s.badHeads[chat] = struct{}{}
			}
		}
	}
	return nil
}
