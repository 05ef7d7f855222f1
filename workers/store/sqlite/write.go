package sqlite

import (
	"database/sql/driver"

	"parley/schemas"
	"parley/workers/store"
)

// Every statement that writes one of these tables carries the row's stamp and
// yields to a higher one; a test reads them all.
const (
	insertEvent = `INSERT INTO events (chat, bucket, seq, stamp, prev, n, time, type, author, id, event)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT))
		ON CONFLICT (chat, bucket, seq) DO UPDATE SET stamp = excluded.stamp, prev = excluded.prev, n = excluded.n,
			time = excluded.time, type = excluded.type, author = excluded.author, id = excluded.id, event = excluded.event
		WHERE excluded.stamp >= events.stamp`

	insertBucket = `INSERT INTO buckets (chat, bucket, stamp, first_seq) VALUES (?, ?, ?, ?)
		ON CONFLICT (chat, bucket) DO UPDATE SET stamp = excluded.stamp, first_seq = excluded.first_seq
		WHERE excluded.stamp >= buckets.stamp`

	insertChat = `INSERT INTO chats (chat, stamp, kind, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (chat) DO UPDATE SET stamp = excluded.stamp, kind = excluded.kind, created = excluded.created,
			last_seq = excluded.last_seq, last_n = excluded.last_n, last_time = excluded.last_time,
			bucket = excluded.bucket, bucket_events = excluded.bucket_events, bucket_bytes = excluded.bucket_bytes
		WHERE excluded.stamp >= chats.stamp`

	insertChatByUser = `INSERT INTO chats_by_user (user, chat, stamp, role, since) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (user, chat) DO UPDATE SET stamp = excluded.stamp, role = excluded.role, since = excluded.since
		WHERE excluded.stamp >= chats_by_user.stamp`

	insertShard = `INSERT INTO shards (shard, committed) VALUES (?, ?)
		ON CONFLICT (shard) DO UPDATE SET committed = excluded.committed
		WHERE excluded.committed >= shards.committed`
)

// writeBatches writes a group's rows in the transaction that c is in.
func writeBatches(c *conn, group []*commit) error {
	for _, one := range group {
		for i := range one.batch.Chats {
			if err := writeChat(c, &one.batch.Chats[i]); err != nil {
				return err
			}
		}
		if err := c.exec(insertShard, one.batch.Shard, int64(one.batch.Committed)); err != nil {
			return err
		}
	}
	return nil
}

func writeChat(c *conn, b *store.ChatBatch) error {
	chat := driver.Value(b.Chat.String())
	for i := range b.Events {
		e := &b.Events[i]
		if err := c.exec(insertEvent, chat, e.Bucket, int64(e.Seq), int64(e.Seq), int64(e.Prev), int64(e.N),
			e.Time.UnixNano(), string(e.Type), e.Author.String(), e.ID.String(), e.JSON); err != nil {
			return err
		}
	}
	for _, bucket := range b.Buckets {
		if err := c.exec(insertBucket, chat, bucket.Bucket, int64(bucket.FirstSeq), int64(bucket.FirstSeq)); err != nil {
			return err
		}
	}
	h := &b.Head
	if err := c.exec(insertChat, chat, int64(h.LastSeq), string(b.Chat.Kind()), h.Created.UnixNano(), int64(h.LastSeq),
		int64(h.LastN), h.LastTime.UnixNano(), h.Bucket, h.BucketEvents, h.BucketBytes); err != nil {
		return err
	}
	if !b.Opened {
		return nil
	}
	return writeMembers(c, b.Chat, int64(b.Events[0].Seq))
}

// writeMembers lists a direct chat with both its users; notes to oneself write one row twice.
func writeMembers(c *conn, chat schemas.Chat, since int64) error {
	first, second, ok := chat.Users()
	if !ok {
		return nil
	}
	if err := c.exec(insertChatByUser, first.String(), chat.String(), since, store.RoleMember, since); err != nil {
		return err
	}
	return c.exec(insertChatByUser, second.String(), chat.String(), since, store.RoleMember, since)
}
