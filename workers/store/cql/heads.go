package cql

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
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
	selectHeads  = "SELECT " + headColumns + " FROM chats WHERE chat IN ?"
	selectChats  = "SELECT " + headColumns + " FROM chats"

	selectSummaries = "SELECT " + headColumns + ", last_event, last_cut, last_prev, last_expires FROM chats WHERE chat IN ?"

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

// Heads returns the heads of those chats of which something is stored.
func (s *Store) Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error) {
	heads := make(map[schemas.Chat]store.Head, len(chats))
	err := eachOf(ctx, s, chats, func(row *headRow) error {
		chat, err := schemas.ParseChat(row.Chat)
		heads[chat] = row.head()
		return err
	}, selectHeads)
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read heads of %d chats", len(chats)), err)
	}
	return heads, nil
}

// keysPerRead is how many partitions one request names. The node that is asked
// gathers a few dozen with less work than the driver has with as many requests;
// with many more it would be the one that waits for all.
const keysPerRead = 32

// eachOf calls fn with the row of each key that there is, one after the other, in
// no order. The keys are the last value of the statement. It reads up to [Config.ReadsMax] times [keysPerRead] of them at once.
func eachOf[Key fmt.Stringer, Row any](ctx context.Context, s *Store, keys []Key, fn func(*Row) error, text string, values ...any) error {
	var mu sync.Mutex // of fn
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.ReadsMax)
	for some := range slices.Chunk(keys, keysPerRead) {
		group.Go(func() error {
			names := make([]string, len(some))
			for i, key := range some {
				names[i] = key.String()
			}
			return each(groupCtx, s, func(row *Row) (bool, error) {
				mu.Lock()
				defer mu.Unlock()
				return true, fn(row)
			}, text, append(slices.Clone(values), names)...)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// summaryRow is a row of table chats with its last event.
type summaryRow struct {
	headRow
	LastEvent   []byte
	LastCut     bool
	LastPrev    int64
	LastExpires int64
}

// Summaries returns the summaries of those chats of which something is stored. A
// last event that has disappeared is left out of its own.
func (s *Store) Summaries(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Summary, error) {
	summaries := make(map[schemas.Chat]store.Summary, len(chats))
	now := s.cfg.Now()
	err := eachOf(ctx, s, chats, func(row *summaryRow) error {
		chat, err := schemas.ParseChat(row.Chat)
		summaries[chat] = row.summary(now)
		return err
	}, selectSummaries)
	if err != nil {
		return nil, classify(ctx, fmt.Sprintf("read summaries of %d chats", len(chats)), err)
	}
	return summaries, nil
}

func (r *summaryRow) summary(now time.Time) store.Summary {
	summary := store.Summary{Head: r.head(), Cut: r.LastCut, Prev: uint64(r.LastPrev), Expires: timeOf(r.LastExpires)}
	if _, over := ttlOf(summary.Expires, now); !over && len(r.LastEvent) > 0 {
		summary.Last = r.LastEvent
	}
	return summary
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
