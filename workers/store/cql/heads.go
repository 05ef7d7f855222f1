package cql

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/gocql/gocql"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

const (
	selectShard  = "SELECT committed FROM shards WHERE shard = ?"
	selectShards = "SELECT shard, committed FROM shards"
	selectHead   = `SELECT chat, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes
		FROM chats WHERE chat = ?`
	selectChats = `SELECT chat, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes
		FROM chats`
)

// chatsPageRows bounds what one request of [Store.Chats] brings.
const chatsPageRows = 1000

// Committed returns the sequence up to which shard is stored, 0 where nothing is.
func (s *Store) Committed(ctx context.Context, shard string) (uint64, error) {
	var committed int64
	q, err := s.read(ctx, selectShard, shard)
	if err == nil {
		err = q.GetRelease(&committed)
	}
	if errors.Is(err, gocql.ErrNotFound) {
		err = nil
	}
	return uint64(committed), classify(ctx, "read shard "+shard, err)
}

// Shards returns the sequence up to which each shard is stored.
func (s *Store) Shards(ctx context.Context) (map[string]uint64, error) {
	var rows []struct {
		Shard     string
		Committed int64
	}
	q, err := s.read(ctx, selectShards)
	if err == nil {
		err = q.SelectRelease(&rows)
	}
	shards := make(map[string]uint64, len(rows))
	for _, row := range rows {
		shards[row.Shard] = uint64(row.Committed)
	}
	return shards, classify(ctx, "read shards", err)
}

// headRow is a row of table chats.
type headRow struct {
	Chat         string
	Created      int64
	LastSeq      int64
	LastN        int64
	LastTime     int64
	Bucket       int64
	BucketEvents int64
	BucketBytes  int64
}

func (r *headRow) head() store.Head {
	return store.Head{
		Created: time.Unix(0, r.Created).UTC(), LastSeq: uint64(r.LastSeq), LastN: uint64(r.LastN), LastTime: time.Unix(0, r.LastTime).UTC(),
		Bucket: r.Bucket, BucketEvents: r.BucketEvents, BucketBytes: r.BucketBytes,
	}
}

// Head returns the head of chat; ok is false where nothing of it is stored.
func (s *Store) Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error) {
	var row headRow
	q, err := s.read(ctx, selectHead, chat.String())
	if err == nil {
		err = q.GetRelease(&row)
	}
	switch {
	case errors.Is(err, gocql.ErrNotFound):
		return store.Head{}, false, nil
	case err != nil:
		return store.Head{}, false, classify(ctx, fmt.Sprintf("read head of %s", chat), err)
	}
	return row.head(), true, nil
}

// Heads returns the heads of those chats of which something is stored. Each is a
// partition of its own: they are read side by side, up to [Config.ReadsMax] at once.
func (s *Store) Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error) {
	found := make([]*store.Head, len(chats))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.ReadsMax)
	for i, chat := range chats {
		group.Go(func() error {
			head, ok, err := s.Head(groupCtx, chat)
			if ok {
				found[i] = &head
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, classify(ctx, fmt.Sprintf("read heads of %d chats", len(chats)), err)
	}
	heads := make(map[schemas.Chat]store.Head, len(chats))
	for i, head := range found {
		if head != nil {
			heads[chats[i]] = *head
		}
	}
	return heads, ctx.Err()
}

// Chats returns every chat with its head, once, in no order. It reads the whole
// table, [chatsPageRows] at a time.
func (s *Store) Chats(ctx context.Context) iter.Seq2[store.ChatHead, error] {
	return func(yield func(store.ChatHead, error) bool) {
		const what = "read chats"
		q, err := s.read(ctx, selectChats)
		if err != nil {
			yield(store.ChatHead{}, classify(ctx, what, err))
			return
		}
		defer q.Release()
		rows := q.PageSize(chatsPageRows).Iter()
		for row := (headRow{}); rows.StructScan(&row); row = (headRow{}) {
			chat, err := schemas.ParseChat(row.Chat)
			if err != nil {
				err = fmt.Errorf("read a row of chats: %w", err)
			}
			if !yield(store.ChatHead{Chat: chat, Head: row.head()}, err) {
				_ = rows.Close() // what is not read has no fault
				return
			}
		}
		if err := rows.Close(); err != nil {
			yield(store.ChatHead{}, classify(ctx, what, err))
		}
	}
}
