package rebuild

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/persist/fold"
	"parley/workers/store"
)

// rowsPerRead bounds one read of a chat's rows.
const rowsPerRead = 1000

// base is where a chat's fold goes on.
type base struct {
	head store.Head
	// top is the bucket of the chat's newest row before the rebuild, -1 where it had none.
	top int64
	// byRows tells that messages may have disappeared between those that the log
	// has: the fold goes by the rows that are there, which know.
	byRows bool
}

// loadBases finds the bases of those chats of events that are met for the first time.
func (s *shard) loadBases(ctx context.Context, events []fold.Event) error {
	here := make(map[schemas.Chat]struct{})
	first := make(map[schemas.Chat]*fold.Event) // the first event of those that are not known
	for i := range events {
		e := &events[i]
		here[e.Chat] = struct{}{}
		if _, known := s.bases[e.Chat]; known {
			continue
		}
		if _, ok := first[e.Chat]; !ok {
			first[e.Chat] = e
		}
	}
	s.makeRoom(len(first), here)
	var mu sync.Mutex // of s.bases
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.Readers)
	for chat, e := range first {
		group.Go(func() error {
			b, err := s.findBase(ctx, chat, e)
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
// again, which are those that were written by then. Those whose fold goes by rows
// stay, since others of their rows may have disappeared by then: at most the chats
// of the shard's log, at some 200 bytes each.
func (s *shard) makeRoom(n int, keep map[schemas.Chat]struct{}) {
	for chat, b := range s.bases {
		if len(s.bases)+n <= s.cfg.HeadsMax {
			return
		}
		if _, ok := keep[chat]; !ok && !b.byRows && !b.head.Disappearing {
			delete(s.bases, chat)
		}
	}
}

// findBase makes the head that chat had before e, from its rows: its row in
// chats may be what is damaged. The rows of a chat with messages that disappear
// may not be all that there were, and e's own row tells more.
//
// The bucket's size is that of its rows as they are: what was deleted or has
// disappeared takes no room any more.
func (s *shard) findBase(ctx context.Context, chat schemas.Chat, e *fold.Event) (base, error) {
	b := base{top: -1}
	newest, _, err := s.cfg.Store.Page(ctx, chat, store.Range{Limit: 1})
	if err != nil {
		return b, err
	}
	if len(newest) > 0 {
		b.top = newest[0].Bucket
	}
	last, oldest, err := s.rowsAround(ctx, chat, e.Seq)
	if err != nil {
		return b, err
	}
	heads, err := s.cfg.Store.Heads(ctx, []schemas.Chat{chat})
	if err != nil {
		return b, err
	}
	stored, ok := heads[chat]
	b.byRows = stored.Disappearing || !ok && b.top >= 0
	if b.head = headAt(last); b.byRows {
		b.head, err = s.findDisappearing(ctx, chat, e, stored, b.head)
	}
	if err != nil || b.head.LastSeq == 0 {
		return b, err
	}
	b.head.Created = stored.Created
	switch {
	case oldest != nil && (oldest.Prev == 0 || !stored.Disappearing):
		b.head.Created = oldest.Time
	case !ok:
		b.head.Created = e.Time // the earliest that is left
	}
	if err := s.findGroup(ctx, chat, &b.head, stored, ok); err != nil {
		return b, err
	}
	return b, s.countBucket(ctx, chat, &b.head, e.Seq)
}

// headAt is the head behind a row, as far as the row tells; nil is that of a chat without rows.
func headAt(row *store.Event) store.Head {
	if row == nil {
		return store.Head{}
	}
	return store.Head{LastSeq: row.Seq, LastN: row.N, LastTime: row.Time, Bucket: row.Bucket}
}

// rowsAround returns the last row below seq and the chat's first one; nil where
// there is none below.
func (s *shard) rowsAround(ctx context.Context, chat schemas.Chat, seq uint64) (last, oldest *store.Event, err error) {
	before, _, err := s.cfg.Store.Page(ctx, chat, store.Range{Before: seq, Limit: 1})
	if err != nil || len(before) == 0 {
		return nil, nil, err
	}
	first, _, err := s.cfg.Store.Page(ctx, chat, store.Range{Forward: true, Limit: 1})
	if err != nil || len(first) == 0 {
		return nil, nil, err
	}
	return &before[0], &first[0], nil
}

// findDisappearing makes the head before e of a chat whose rows before e may have
// disappeared: from e's own row, or from the time at which the chat began. left is
// the head behind the last row that is left. Where the stored head is gone, nothing
// but e's row tells that others have disappeared.
func (s *shard) findDisappearing(ctx context.Context, chat schemas.Chat, e *fold.Event, stored, left store.Head) (head store.Head, err error) {
	head.Disappearing = stored.Disappearing
	if left.LastSeq == 0 && stored.Created.Equal(e.Time) {
		return head, nil
	}
	var own *store.Event
	for row, err := range s.rows(ctx, chat, e.Seq, e.Seq) {
		if err != nil {
			return head, err
		}
		own = row
	}
	there := own != nil && mayGoBy(left, own, e)
	switch {
	case !there && !stored.Disappearing:
		return left, nil
	case !there:
		return head, fmt.Errorf("messages of %s have disappeared, and the row of its first event in the log, %d, is missing or damaged: nothing tells how many messages came before it: %w",
			chat, e.Seq, ErrBeyondLog)
	}
	head.Bucket, head.LastTime = own.Bucket, e.Time
	head.LastSeq = left.LastSeq
	goBy(&head, own)
	return head, nil
}

// loadRows returns the stored rows of events of the chats whose fold goes by rows, by seq.
func (s *shard) loadRows(ctx context.Context, events []fold.Event) (map[uint64]*store.Event, error) {
	wanted := make(map[schemas.Chat][2]uint64) // from one seq to another
	for i := range events {
		if e := &events[i]; s.bases[e.Chat].byRows {
			from, ok := wanted[e.Chat]
			if !ok {
				from[0] = e.Seq
			}
			wanted[e.Chat] = [2]uint64{from[0], e.Seq}
		}
	}
	var mu sync.Mutex // of found
	found := make(map[uint64]*store.Event)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.Readers)
	for chat, span := range wanted {
		group.Go(func() error {
			for row, err := range s.rows(ctx, chat, span[0], span[1]) {
				if err != nil {
					return fmt.Errorf("read rows of %s: %w", chat, err)
				}
				mu.Lock()
				found[row.Seq] = row
				mu.Unlock()
			}
			return nil
		})
	}
	return found, group.Wait()
}

// rows yields the chat's rows from one seq to another, by rising seq. It reads pages,
// which find rows in SQLite also where their bucket's row is gone.
func (s *shard) rows(ctx context.Context, chat schemas.Chat, from, to uint64) iter.Seq2[*store.Event, error] {
	return func(yield func(*store.Event, error) bool) {
		for after, more := from-1, true; more && after < to; {
			start := after
			page, further, err := s.cfg.Store.Page(ctx, chat, store.Range{Forward: true, After: after, Limit: int(min(to-after, rowsPerRead))})
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				if after = page[i].Seq; after <= to && !yield(&page[i], nil) {
					return
				}
			}
			more = further && after > start // rows in wrong buckets come out of order
		}
	}
}

// findGroup completes a group's head by what it is called and how many are in it,
// as the stored head says; where that is gone, as its rows before do. The log's
// events that changed it come again.
func (s *shard) findGroup(ctx context.Context, chat schemas.Chat, head *store.Head, stored store.Head, ok bool) error {
	if chat.Kind() != schemas.Group {
		return nil
	}
	if ok {
		head.Name, head.Members, head.History = stored.Name, stored.Members, stored.History
		return nil
	}
	for row, err := range s.rows(ctx, chat, 1, head.LastSeq) {
		if err != nil {
			return err
		}
		describe(head, row)
	}
	return nil
}

// describe applies to a group's head what the event of row changed of the group.
func describe(head *store.Head, row *store.Event) {
	if row.Type != schemas.GroupEvent && row.Type != schemas.MemberEvent {
		return
	}
	ev, err := schemas.DecodeEvent(row.JSON)
	if err != nil {
		return // a row that is damaged tells nothing
	}
	fold.Group(head, ev)
}

// countBucket counts the rows of the head's bucket below seq. A bucket of which
// there is none begins there, as far as rows can tell.
func (s *shard) countBucket(ctx context.Context, chat schemas.Chat, head *store.Head, seq uint64) error {
	for before := seq; ; {
		rows, more, err := s.cfg.Store.Page(ctx, chat, store.Range{Before: before, Limit: rowsPerRead})
		if err != nil {
			return err
		}
		for i := range rows {
			if rows[i].Bucket == head.Bucket {
				head.BucketEvents++
				head.BucketBytes += int64(len(rows[i].JSON))
				head.Disappearing = head.Disappearing || !rows[i].Expires.IsZero()
			}
		}
		if !more || len(rows) == 0 || rows[0].Bucket != head.Bucket || rows[0].Seq >= before {
			break
		}
		before = rows[0].Seq
	}
	if head.BucketEvents == 0 && head.Bucket > 0 {
		head.Bucket, head.BucketEvents = head.Bucket-1, store.BucketEventsMax
	}
	return nil
}

// compareBuckets refuses to write a row beside the same one in another bucket. It
// happens where rows older than the log are gone, so that the bucket looks emptier
// than it was. Only a chat with several buckets in the log's range is read.
func (s *shard) compareBuckets(ctx context.Context, batch *store.Batch) error {
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
		for row, err := range s.rows(ctx, c.Chat, c.Events[0].Seq, c.Head.LastSeq) {
			if err != nil {
				return fmt.Errorf("read rows of %s: %w", c.Chat, err)
			}
			if bucket, ok := bucketOf[row.Seq]; ok && bucket != row.Bucket {
				return fmt.Errorf("event %d of %s is stored in bucket %d and would go into %d: rows before it are missing or damaged, and older than the log: %w",
					row.Seq, c.Chat, row.Bucket, bucket, ErrBeyondLog)
			}
		}
	}
	return nil
}
