package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

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

// Head returns the head of chat; ok is false where nothing of it is stored.
func (r *Reader) Head(ctx context.Context, chat schemas.Chat) (head store.Head, ok bool, err error) {
	err = r.read(ctx, fmt.Sprintf("read head of %s", chat), func(c *conn) error {
		return c.query(`SELECT chat, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes
			FROM chats WHERE chat = ?`, func(row []driver.Value) error {
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
		return c.query(`SELECT chat, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes
			FROM chats WHERE chat IN (SELECT value FROM json_each(?))`, func(row []driver.Value) error {
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

// jsonNames makes a JSON array of names, in which nothing needs to be escaped.
func jsonNames(chats []schemas.Chat) string {
	var b strings.Builder
	for i, chat := range chats {
		b.WriteString([...]string{`["`, `","`}[min(i, 1)])
		b.WriteString(chat.String())
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
	}
}
