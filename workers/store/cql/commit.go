package cql

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/gocql/gocql"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

// Every statement that writes one of these tables has the row's stamp as its
// timestamp, none is conditional, and none deletes; a test reads them all.
const (
	insertEvent = `INSERT INTO events (chat, bucket, seq, prev, n, time, type, author, id, event)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	insertBucket = "INSERT INTO buckets (chat, first_seq, bucket) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertChat   = `INSERT INTO chats (chat, kind, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	insertChatByUser = "INSERT INTO chats_by_user (user, chat, role, since) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
	insertShard      = "INSERT INTO shards (shard, committed) VALUES (?, ?) USING TIMESTAMP ?"
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

// Commit stores b: every chat's events, then its buckets and members, then its
// head, and the shard's row when all chats have theirs. It may be given again,
// and in any order with others: what is newer stays. It returns store.ErrBatch
// where nothing of it was written, store.ErrUnavailable where some of it may have
// been, or the error of ctx.
func (s *Store) Commit(ctx context.Context, b store.Batch) error {
	what := "commit shard " + b.Shard
	if err := b.Validate(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := fits(&b); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.WritesMax)
	for i := range b.Chats {
		group.Go(func() error { return s.writeChat(groupCtx, &b.Chats[i]) })
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
		for j := range b.Chats[i].Events {
			e := &b.Chats[i].Events[j]
			if len(e.JSON) > eventBytesMax {
				return fmt.Errorf("%w: event %d of %s has %d bytes, more than %d", store.ErrBatch, e.Seq, b.Chats[i].Chat, len(e.JSON), eventBytesMax)
			}
			if !utf8.Valid(e.JSON) {
				return fmt.Errorf("%w: event %d of %s is no UTF-8", store.ErrBatch, e.Seq, b.Chats[i].Chat)
			}
		}
	}
	return nil
}

func (s *Store) writeChat(ctx context.Context, b *store.ChatBatch) error {
	if err := s.writeEvents(ctx, b); err != nil {
		return err
	}
	chat := b.Chat.String()
	for _, bucket := range b.Buckets {
		if err := s.write(ctx, insertBucket, chat, int64(bucket.FirstSeq), bucket.Bucket, int64(bucket.FirstSeq)); err != nil {
			return err
		}
	}
	if b.Opened {
		if err := s.writeMembers(ctx, b.Chat, int64(b.Events[0].Seq)); err != nil {
			return err
		}
	}
	h := &b.Head
	return s.write(ctx, insertChat, chat, string(b.Chat.Kind()), h.Created.UnixNano(), int64(h.LastSeq), int64(h.LastN),
		h.LastTime.UnixNano(), h.Bucket, h.BucketEvents, h.BucketBytes, int64(h.LastSeq))
}

// writeMembers lists a direct chat with both its users; notes to oneself write one row twice.
func (s *Store) writeMembers(ctx context.Context, chat schemas.Chat, since int64) error {
	first, second, ok := chat.Users()
	if !ok {
		return nil
	}
	for _, user := range []schemas.User{first, second} {
		if err := s.write(ctx, insertChatByUser, user.String(), chat.String(), store.RoleMember, since, since); err != nil {
			return err
		}
	}
	return nil
}

// writeEvents writes the events of a chat in batches that each stay in one
// partition, one after the other, so that no reader sees an event before those under it.
func (s *Store) writeEvents(ctx context.Context, b *store.ChatBatch) error {
	chat := b.Chat.String()
	for events := b.Events; len(events) > 0; {
		n := batchOf(events)
		if err := s.writeBatch(ctx, chat, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// batchOf returns how many of events make one batch: of one bucket, and within the bounds.
func batchOf(events []store.Event) int {
	bytes := 0
	for i := range events {
		bytes += len(events[i].JSON)
		if i > 0 && (i == batchRowsMax || bytes > batchBytesMax || events[i].Bucket != events[0].Bucket) {
			return i
		}
	}
	return len(events)
}

func (s *Store) writeBatch(ctx context.Context, chat string, events []store.Event) error {
	if len(events) == 1 {
		return s.write(ctx, insertEvent, eventValues(chat, &events[0])...)
	}
	session, err := s.keyspace()
	if err != nil {
		return err
	}
	// Unlogged: in one partition it is one mutation, which is whole or not at all.
	batch := session.Session.BatchWithContext(ctx, gocql.UnloggedBatch).RetryPolicy(retryNever)
	for i := range events {
		batch.Query(insertEvent, eventValues(chat, &events[i])...)
		batch.Entries[i].Idempotent = true
	}
	return batch.Exec()
}

func eventValues(chat string, e *store.Event) []any {
	return []any{chat, e.Bucket, int64(e.Seq), int64(e.Prev), int64(e.N), e.Time.UnixNano(),
		string(e.Type), e.Author.String(), e.ID.String(), e.JSON, int64(e.Seq)}
}

// write runs a statement once.
func (s *Store) write(ctx context.Context, statement string, values ...any) error {
	session, err := s.keyspace()
	if err != nil {
		return err
	}
	return session.ContextQuery(ctx, statement, nil).Bind(values...).Idempotent(true).RetryPolicy(retryNever).ExecRelease()
}
