package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"iter"
	"strings"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// headColumns are what headOf reads.
const headColumns = "chat, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes, name, members, history, disappearing"

// Committed returns the sequence up to which shard is stored, 0 where nothing is.
func (r *Reader) Committed(ctx context.Context, shard string) (committed uint64, err error) {
	err = r.read(ctx, "read shard "+shard, func(c *conn) error {
		ints, err := c.int64s("SELECT committed FROM shards WHERE shard = ?", shard)
		if len(ints) > 0 {
			committed = uint64(ints[0])
		}
		return err
	})
	return committed, err
}

// Shards returns how far each shard is stored of which anything is.
func (r *Reader) Shards(ctx context.Context) (map[string]uint64, error) {
	shards := make(map[string]uint64)
	err := r.read(ctx, "read shards", func(c *conn) error {
		return c.query("SELECT shard, committed FROM shards", func(row []driver.Value) error {
			shards[text(row[0])] = uint64(integer(row[1]))
			return nil
		})
	})
	return shards, err
}

// Head returns the head of chat; ok is false where nothing of it is stored.
func (r *Reader) Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error) {
	err = r.read(ctx, fmt.Sprintf("read head of %s", chat), func(c *conn) error {
		return c.query("SELECT "+headColumns+" FROM chats WHERE chat = ?", func(row []driver.Value) error {
			head, ok = headOf(row), true
			return nil
		}, chat.String())
	})
	return head, ok, err
}

// Heads returns the heads of those chats of which something is stored, all as of one moment.
func (r *Reader) Heads(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Head, error) {
	heads := make(map[schemas.Chat]store.Head, len(chats))
	if len(chats) == 0 {
		return heads, ctx.Err()
	}
	err := r.read(ctx, fmt.Sprintf("read heads of %d chats", len(chats)), func(c *conn) error {
		return c.query("SELECT "+headColumns+" FROM chats WHERE chat IN (SELECT value FROM json_each(?))", func(row []driver.Value) error {
			chat, err := schemas.ParseChat(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of chats: %w", err)
			}
			heads[chat] = headOf(row)
			return nil
		}, jsonNames(chats))
	})
	return heads, err
}

const selectSummaries = "SELECT " + headColumns + `, CAST(last_event AS BLOB), last_cut, last_prev, last_expires
	FROM chats WHERE chat IN (SELECT value FROM json_each(?))`

// Summaries returns the summaries of those chats of which something is stored, all
// as of one moment. A last event that has disappeared is left out of its own.
func (r *Reader) Summaries(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]store.Summary, error) {
	summaries := make(map[schemas.Chat]store.Summary, len(chats))
	if len(chats) == 0 {
		return summaries, ctx.Err()
	}
	now := r.cfg.now()
	err := r.read(ctx, fmt.Sprintf("read summaries of %d chats", len(chats)), func(c *conn) error {
		return c.query(selectSummaries, func(row []driver.Value) error {
			chat, err := schemas.ParseChat(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of chats: %w", err)
			}
			s := store.Summary{Head: headOf(row), Cut: integer(row[13]) != 0, Prev: uint64(integer(row[14])), Expires: timeOf(row[15])}
			if last, _ := row[12].([]byte); len(last) > 0 && !over(s.Expires, now) {
				s.Last = last
			}
			summaries[chat] = s
			return nil
		}, jsonNames(chats))
	})
	return summaries, err
}

// chatsPerRead bounds what Chats holds in memory, and how long one of its reads
// keeps the WAL from being emptied.
const chatsPerRead = 1000

// Chats yields every chat of which something is stored, once, with its head, in
// no particular order. A chat that is stored only meanwhile may be left out. An
// error comes last.
func (r *Reader) Chats(ctx context.Context) iter.Seq2[store.ChatHead, error] {
	return func(yield func(store.ChatHead, error) bool) {
		for after := ""; ; {
			chats, err := r.chatsAfter(ctx, after)
			if err != nil {
				yield(store.ChatHead{}, err)
				return
			}
			for _, chat := range chats {
				if !yield(chat, nil) {
					return
				}
			}
			if len(chats) < chatsPerRead {
				return
			}
			after = chats[len(chats)-1].Chat.String()
		}
	}
}

func (r *Reader) chatsAfter(ctx context.Context, after string) (chats []store.ChatHead, err error) {
	err = r.read(ctx, "read chats", func(c *conn) error {
		return c.query("SELECT "+headColumns+" FROM chats WHERE chat > ? ORDER BY chat LIMIT ?", func(row []driver.Value) error {
			chat, err := schemas.ParseChat(text(row[0]))
			if err != nil {
				return fmt.Errorf("read a row of chats: %w", err)
			}
			chats = append(chats, store.ChatHead{Chat: chat, Head: headOf(row)})
			return nil
		}, after, int64(chatsPerRead))
	})
	return chats, err
}

// jsonNames makes a JSON array of names of chats or users, in which nothing needs to be escaped.
func jsonNames[Name fmt.Stringer](names []Name) string {
	var b strings.Builder
	for i, name := range names {
		b.WriteString([...]string{`["`, `","`}[min(i, 1)])
		b.WriteString(name.String())
	}
	b.WriteString(`"]`)
	return b.String()
}

func headOf(row []driver.Value) store.Head {
	return store.Head{
		Created:      time.Unix(0, integer(row[1])).UTC(),
		LastSeq:      uint64(integer(row[2])),
		LastN:        uint64(integer(row[3])),
		LastTime:     time.Unix(0, integer(row[4])).UTC(),
		Bucket:       integer(row[5]),
		BucketEvents: integer(row[6]),
		BucketBytes:  integer(row[7]),
		Name:         text(row[8]),
		Members:      uint64(integer(row[9])),
		History:      schemas.HistoryMode(text(row[10])),
		Disappearing: integer(row[11]) != 0,
	}
}
