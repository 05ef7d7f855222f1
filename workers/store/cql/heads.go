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
	selectHead   = "SELECT " + headColumns + " FROM chats WHERE chat = ?"
	selectChats  = "SELECT " + headColumns + " FROM chats"

	selectSummary = "SELECT " + headColumns + ", last_event, last_cut, last_prev, last_expires FROM chats WHERE chat = ?"

	headColumns = "chat, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes, name, members, history, disappearing"
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
	Name         string
	Members      int64
	History      string
	Disappearing bool
}

func (r *headRow) head() store.Head {
	return store.Head{
		Created: time.Unix(0, r.Created).UTC(), LastSeq: uint64(r.LastSeq), LastN: uint64(r.LastN), LastTime: time.Unix(0, r.LastTime).UTC(),
		Bucket: r.Bucket, BucketEvents: r.BucketEvents, BucketBytes: r.BucketBytes,
		Name: r.Name, Members: uint64(r.Members), History: schemas.HistoryMode(r.History), Disappearing: r.Disappearing,
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
	heads, err := sideBySide(ctx, s.cfg.ReadsMax, chats, s.Head)
	return heads, classify(ctx, fmt.Sprintf("read heads of %d chats", len(chats)), err)
}

// sideBySide reads one thing for each key, up to limit at once, and returns those that there are.
func sideBySide[Key comparable, Value any](ctx context.Context, limit int, keys []Key,
	read func(context.Context, Key) (Value, bool, error)) (map[Key]Value, error) {
	values, found := make([]Value, len(keys)), make([]bool, len(keys))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(limit)
	for i, key := range keys {
		group.Go(func() (err error) {
			values[i], found[i], err = read(groupCtx, key)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := make(map[Key]Value, len(keys))
	for i, key := range keys {
		if found[i] {
			all[key] = values[i]
		}
	}
	return all, ctx.Err()
}

// summaryRow is a row of table chats with its last event.
type summaryRow struct {
	headRow
	LastEvent   []byte
	LastCut     bool
	LastPrev    int64
	LastExpires int64
}

// Summaries returns the summaries of those chats of which something is stored,
// read as [Store.Heads] does. A last event that has disappeared is left out of its own.
func (s *Store) Summaries(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Summary, error) {
	summaries, err := sideBySide(ctx, s.cfg.ReadsMax, chats, s.summary)
	return summaries, classify(ctx, fmt.Sprintf("read summaries of %d chats", len(chats)), err)
}

func (s *Store) summary(ctx context.Context, chat schemas.Chat) (summary store.Summary, ok bool, err error) {
	var row summaryRow
	q, err := s.read(ctx, selectSummary, chat.String())
	if err == nil {
		err = q.GetRelease(&row)
	}
	if errors.Is(err, gocql.ErrNotFound) {
		return summary, false, nil
	}
	summary = store.Summary{Head: row.head(), Cut: row.LastCut, Prev: uint64(row.LastPrev), Expires: timeOf(row.LastExpires)}
	if _, over := ttlOf(summary.Expires, s.cfg.Now()); !over && len(row.LastEvent) > 0 {
		summary.Last = row.LastEvent
	}
	return summary, err == nil, err
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
