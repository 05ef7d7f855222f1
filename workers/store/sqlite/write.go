package sqlite

import (
	"database/sql/driver"
	"time"

	"parley/workers/store"
)

// Every statement that writes one of these tables carries the stamp of what it
// writes and yields to a higher one; a test reads them all. Where columns of a row
// are written by different events, each has a stamp and a statement of its own.
const (
	insertEvent = `INSERT INTO events (chat, bucket, seq, stamp, prev, n, time, type, author, id, event, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?)
		ON CONFLICT (chat, bucket, seq) DO UPDATE SET stamp = excluded.stamp, prev = excluded.prev, n = excluded.n,
			time = excluded.time, type = excluded.type, author = excluded.author, id = excluded.id, event = excluded.event,
			expires = excluded.expires
		WHERE excluded.stamp >= events.stamp`

	insertBucket = `INSERT INTO buckets (chat, bucket, stamp, first_seq) VALUES (?, ?, ?, ?)
		ON CONFLICT (chat, bucket) DO UPDATE SET stamp = excluded.stamp, first_seq = excluded.first_seq
		WHERE excluded.stamp >= buckets.stamp`

	insertChat = `INSERT INTO chats (chat, stamp, kind, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes,
			name, members, history, disappearing, last_event, last_cut, last_prev, last_expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?)
		ON CONFLICT (chat) DO UPDATE SET stamp = excluded.stamp, kind = excluded.kind, created = excluded.created,
			last_seq = excluded.last_seq, last_n = excluded.last_n, last_time = excluded.last_time,
			bucket = excluded.bucket, bucket_events = excluded.bucket_events, bucket_bytes = excluded.bucket_bytes,
			name = excluded.name, members = excluded.members, history = excluded.history, disappearing = excluded.disappearing,
			last_event = excluded.last_event, last_cut = excluded.last_cut, last_prev = excluded.last_prev, last_expires = excluded.last_expires
		WHERE excluded.stamp >= chats.stamp`

	insertShard = `INSERT INTO shards (shard, committed) VALUES (?, ?)
		ON CONFLICT (shard) DO UPDATE SET committed = excluded.committed
		WHERE excluded.committed >= shards.committed`
)

// writeBatch writes a batch's rows in the transaction that c is in.
func writeBatch(c *conn, b *store.Batch, now time.Time) error {
	for i := range b.Chats {
		if err := writeChat(c, &b.Chats[i], now); err != nil {
			return err
		}
	}
	return c.exec(insertShard, b.Shard, int64(b.Committed))
}

func writeChat(c *conn, b *store.ChatBatch, now time.Time) error {
	chat := driver.Value(b.Chat.String())
	for i := range b.Events {
		e := &b.Events[i]
		if over(e.Expires, now) {
			continue // it came again after its time
		}
		if err := c.exec(insertEvent, chat, e.Bucket, int64(e.Seq), int64(e.Seq), int64(e.Prev), int64(e.N),
			e.Time.UnixNano(), string(e.Type), e.Author.String(), e.ID.String(), e.JSON, nanos(e.Expires)); err != nil {
			return err
		}
	}
	for i := range b.Changes {
		if err := writeChange(c, chat, &b.Changes[i], now); err != nil {
			return err
		}
	}
	for _, bucket := range b.Buckets {
		if err := c.exec(insertBucket, chat, bucket.Bucket, int64(bucket.FirstSeq), int64(bucket.FirstSeq)); err != nil {
			return err
		}
	}
	if err := writeRoles(c, b); err != nil {
		return err
	}
	return writeHead(c, b, now)
}

func writeHead(c *conn, b *store.ChatBatch, now time.Time) error {
	h, last := &b.Head, &b.Events[len(b.Events)-1]
	event, cut := b.Last()
	if over(last.Expires, now) {
		event = nil
	}
	return c.exec(insertChat, b.Chat.String(), int64(h.LastSeq), string(b.Chat.Kind()), h.Created.UnixNano(), int64(h.LastSeq),
		int64(h.LastN), h.LastTime.UnixNano(), h.Bucket, h.BucketEvents, h.BucketBytes,
		h.Name, int64(h.Members), string(h.History), flag(h.Disappearing), notNull(event), flag(cut), int64(last.Prev), nanos(last.Expires))
}

// over tells whether a row that expires then has disappeared.
func over(expires, now time.Time) bool { return !expires.IsZero() && !now.Before(expires) }

// nanos is a time as the tables have it, 0 for none; timeOf reads it.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(v driver.Value) time.Time {
	if n := integer(v); n != 0 {
		return time.Unix(0, n).UTC()
	}
	return time.Time{}
}

// notNull is what a column that takes no NULL has for nothing.
func notNull(text []byte) []byte {
	if text == nil {
		return []byte{}
	}
	return text
}

func flag(on bool) int64 {
	if on {
		return 1
	}
	return 0
}
