package persist

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// base is where a chat's fold goes on.
type base struct {
	head store.Head
	// top is the bucket of the chat's newest row before the rebuild, -1 where it had none.
	top int64
}

// loadBases finds the bases of those chats of events that are met for the first time.
func (s *rebuild) loadBases(ctx context.Context, events []event) error {
	here := make(map[schemas.Chat]struct{})
	first := make(map[schemas.Chat]uint64) // the first event of those that are not known
	for i := range events {
		e := &events[i]
		here[e.chat] = struct{}{}
		if _, known := s.bases[e.chat]; known {
			continue
		}
		if _, ok := first[e.chat]; !ok {
			first[e.chat] = e.seq
		}
	}
	s.makeRoom(len(first), here)
	var mu sync.Mutex // of s.bases
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.Readers)
	for chat, seq := range first {
		group.Go(func() error {
			b, err := s.findBase(ctx, chat, seq)
			if err != nil {
				return fmt.Errorf("read rows of %s: %w", chat, err)
			}
			mu.Lock()
			defer mu.Unlock()
			s.bases[chat] = b
			return nil
		})
	}
	return group.Wait()
}

// makeRoom forgets chats past the bound; their bases are found from their rows
// again, which are those that were written by then.
func (s *rebuild) makeRoom(n int, keep map[schemas.Chat]struct{}) {
	for chat := range s.bases {
		if len(s.bases)+n <= s.cfg.HeadsMax {
			return
		}
		if _, ok := keep[chat]; !ok {
			delete(s.bases, chat)
		}
	}
}

// findBase makes the head that chat had before its event seq, from its rows: its
// row in chats may be what is damaged.
func (s *rebuild) findBase(ctx context.Context, chat schemas.Chat, seq uint64) (base, error) {
	b := base{top: -1}
	before, _, err := s.cfg.Store.Page(ctx, chat, store.Range{Limit: 1})
	if err != nil || len(before) == 0 {
		return b, err
	}
	b.top = before[0].Bucket
	if before[0].Seq >= seq {
		if before, _, err = s.cfg.Store.Page(ctx, chat, store.Range{Before: seq, Limit: 1}); err != nil || len(before) == 0 {
			return b, err
		}
	}
	oldest, _, err := s.cfg.Store.Page(ctx, chat, store.Range{Forward: true, Limit: 1})
	if err != nil || len(oldest) == 0 {
		return b, err
	}
	last := before[0]
	b.head = store.Head{Created: oldest[0].Time, LastSeq: last.Seq, LastN: last.N, LastTime: last.Time, Bucket: last.Bucket}
	if err := s.findGroup(ctx, chat, &b.head); err != nil {
		return b, err
	}
	return b, s.countBucket(ctx, chat, &b.head)
}

// findGroup completes a group's head by what its rows do not tell: what it is
// called and how many are in it. The head as it is stored says so; the log's
// events that changed that come again.
func (s *rebuild) findGroup(ctx context.Context, chat schemas.Chat, head *store.Head) error {
	if chat.Kind() != schemas.Group {
		return nil
	}
	heads, err := s.cfg.Store.Heads(ctx, []schemas.Chat{chat})
	if err != nil {
		return err
	}
	stored := heads[chat]
	head.Name, head.Members, head.History = stored.Name, stored.Members, stored.History
	return nil
}

// countBucket counts the rows of the head's bucket, up to the head.
func (s *rebuild) countBucket(ctx context.Context, chat schemas.Chat, head *store.Head) error {
	before := head.LastSeq + 1
	for {
		rows, more, err := s.cfg.Store.Page(ctx, chat, store.Range{Before: before, Limit: 1000})
		if err != nil {
			return err
		}
		for i := range rows {
			if rows[i].Bucket == head.Bucket {
				head.BucketEvents++
				head.BucketBytes += int64(len(rows[i].JSON))
			}
		}
		if !more || len(rows) == 0 || rows[0].Bucket != head.Bucket || rows[0].Seq >= before {
			return nil
		}
		before = rows[0].Seq
	}
}

// compareBuckets refuses to write a row beside the same one in another bucket. It
// happens where rows older than the log are gone, so that the bucket looks emptier
// than it was. Only a chat with several buckets in the log's range is read.
func (s *rebuild) compareBuckets(ctx context.Context, batch *store.Batch) error {
	for i := range batch.Chats {
		c := &batch.Chats[i]
		b := s.bases[c.Chat]
		if b.top < 0 || b.top == b.head.Bucket && c.Head.Bucket == b.head.Bucket {
			continue
		}
		bucketOf := make(map[uint64]int64, len(c.Events))
		for j := range c.Events {
			bucketOf[c.Events[j].Seq] = c.Events[j].Bucket
		}
		after := c.Events[0].Seq - 1
		for more := true; more && after < c.Head.LastSeq; {
			rows, further, err := s.cfg.Store.Page(ctx, c.Chat, store.Range{Forward: true, After: after, Limit: 1000})
			if err != nil {
				return fmt.Errorf("read rows of %s: %w", c.Chat, err)
			}
			for _, row := range rows {
				if bucket, ok := bucketOf[row.Seq]; ok && bucket != row.Bucket {
					return fmt.Errorf("event %d of %s is stored in bucket %d and would go into %d: rows before it are missing or damaged, and older than the log: %w",
						row.Seq, c.Chat, row.Bucket, bucket, ErrBeyondLog)
				}
			}
			if more = further && len(rows) > 0 && rows[len(rows)-1].Seq > after; more {
				after = rows[len(rows)-1].Seq
			}
		}
	}
	return nil
}
