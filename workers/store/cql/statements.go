package cql

import (
	"context"
	"time"

	"github.com/gocql/gocql"

	"parley/schemas"
	"parley/workers/store"
)

// Every statement that writes one of these tables has the stamp of what it writes
// as its timestamp, none is conditional, and none deletes; a test reads them all.
// A TTL of 0 is none.
const (
	insertEvent = `INSERT INTO events (chat, bucket, seq, prev, n, time, type, author, id, event, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?`
	editEvent      = "INSERT INTO events (chat, bucket, seq, body, edited) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"
	blankEvent     = "INSERT INTO events (chat, bucket, seq, event, body, deleted) VALUES (?, ?, ?, ?, '', ?) USING TIMESTAMP ? AND TTL ?"
	pinEvent       = "INSERT INTO events (chat, bucket, seq, pinned) VALUES (?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"
	insertEdit     = "INSERT INTO edits (chat, bucket, target, seq, time, body) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"
	blankEdit      = "INSERT INTO edits (chat, bucket, target, seq, body) VALUES (?, ?, ?, ?, '') USING TIMESTAMP ? AND TTL ?"
	insertReaction = `INSERT INTO reactions (chat, bucket, target, emoji, user, is_on, seq)
		VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?`

	insertBucket = "INSERT INTO buckets (chat, first_seq, bucket) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertShard  = "INSERT INTO shards (shard, committed) VALUES (?, ?) USING TIMESTAMP ?"

	insertMemberRole = "INSERT INTO members_by_chat (chat, user, role) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertMemberJoin = "INSERT INTO members_by_chat (chat, user, role, since, visible) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
	insertUserRole   = "INSERT INTO chats_by_user (user, chat, role) VALUES (?, ?, ?) USING TIMESTAMP ?"
	insertUserJoin   = "INSERT INTO chats_by_user (user, chat, role, since, visible) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
	insertUserRead   = "INSERT INTO chats_by_user (user, chat, read, read_n) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"

	insertChat = `INSERT INTO chats (chat, kind, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes,
			name, members, history, disappearing, last_cut, last_prev, last_expires, last_event)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	// Of a last event that disappears: the head stays.
	insertHead = `INSERT INTO chats (chat, kind, created, last_seq, last_n, last_time, bucket, bucket_events, bucket_bytes,
			name, members, history, disappearing, last_cut, last_prev, last_expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	insertLast = "INSERT INTO chats (chat, last_event) VALUES (?, ?) USING TIMESTAMP ? AND TTL ?"
)

// statement is a write with its values. Those of one batch are in one partition.
type statement struct {
	text   string
	values []any
	bucket int64 // that of events, edits and reactions
	bytes  int   // about
}

// rowBytes is what a row has besides its JSON, about.
const rowBytes = 100

// batchOf returns how many of all make one batch: of one bucket, and within the bounds.
func batchOf(all []statement) int {
	bytes := 0
	for i := range all {
		bytes += all[i].bytes
		if i > 0 && (i == batchRowsMax || bytes > batchBytesMax || all[i].bucket != all[0].bucket) {
			return i
		}
	}
	return len(all)
}

// timelineOf returns what a chat's batch writes beside its events: their own rows,
// then what they change. What has disappeared by now is left out.
func timelineOf(b *store.ChatBatch, now time.Time) (events, changes []statement) {
	chat := b.Chat.String()
	events = make([]statement, 0, len(b.Events))
	for i := range b.Events {
		e := &b.Events[i]
		ttl, over := ttlOf(e.Expires, now)
		if over {
			continue // it came again after its time
		}
		events = append(events, statement{insertEvent, []any{chat, e.Bucket, int64(e.Seq), int64(e.Prev), int64(e.N), e.Time.UnixNano(),
			string(e.Type), e.Author.String(), e.ID.String(), e.JSON, nanos(e.Expires), int64(e.Seq), ttl}, e.Bucket, rowBytes + len(e.JSON)})
	}
	for i := range b.Changes {
		if ttl, over := ttlOf(b.Changes[i].Expires, now); !over {
			changes = appendChange(changes, chat, &b.Changes[i], ttl)
		}
	}
	return events, changes
}

// appendChange adds what an event does to the rows of its target.
func appendChange(to []statement, chat string, c *store.Change, ttl int) []statement {
	target, seq := int64(c.Target), int64(c.Seq)
	add := func(text string, bucket int64, bytes int, values ...any) {
		to = append(to, statement{text, append(values, seq, ttl), bucket, rowBytes + bytes})
	}
	switch c.Type {
	case schemas.Edit:
		add(editEvent, c.Bucket, len(c.Body), chat, c.Bucket, target, c.Body, seq)
		add(insertEdit, c.Bucket, len(c.Body), chat, c.Bucket, target, seq, c.Time.UnixNano(), c.Body)
	case schemas.Delete:
		for i := range c.Blanks {
			blank := &c.Blanks[i]
			add(blankEvent, blank.Bucket, len(blank.JSON), chat, blank.Bucket, int64(blank.Seq), blank.JSON, seq)
			if i > 0 {
				add(blankEdit, c.Bucket, 0, chat, c.Bucket, target, int64(blank.Seq))
			}
		}
	case schemas.React:
		add(insertReaction, c.Bucket, 0, chat, c.Bucket, target, c.Emoji, c.User.String(), c.On, seq)
	case schemas.Pin:
		add(pinEvent, c.Bucket, 0, chat, c.Bucket, target, c.On)
	}
	return to
}

// membersOf returns what a group's batch writes into its list of members.
func membersOf(b *store.ChatBatch) (all []statement) {
	if b.Chat.Kind() != schemas.Group {
		return nil
	}
	chat := b.Chat.String()
	for i := range b.Roles {
		r := &b.Roles[i]
		one := statement{insertMemberRole, []any{chat, r.User.String(), string(r.Role), int64(r.Seq)}, 0, rowBytes}
		if r.Joins {
			one.text, one.values = insertMemberJoin, []any{chat, r.User.String(), string(r.Role), int64(r.Seq), int64(r.From), int64(r.Seq)}
		}
		all = append(all, one)
	}
	return all
}

// usersOf returns what a batch writes into its users' lists of chats: each is in a
// partition of its own.
func usersOf(b *store.ChatBatch) (all []statement) {
	chat := b.Chat.String()
	for i := range b.Roles {
		r := &b.Roles[i]
		one := statement{insertUserRole, []any{r.User.String(), chat, string(r.Role), int64(r.Seq)}, 0, rowBytes}
		if r.Joins {
			one.text, one.values = insertUserJoin, []any{r.User.String(), chat, string(r.Role), int64(r.Seq), int64(r.From), int64(r.Seq)}
		}
		all = append(all, one)
	}
	for i := range b.Reads {
		r := &b.Reads[i]
		all = append(all, statement{insertUserRead, []any{r.User.String(), chat, int64(r.Seq), int64(r.N), int64(r.Seq)}, 0, rowBytes})
	}
	return all
}

// headOf returns what a batch writes into its chat's head.
func headOf(b *store.ChatBatch, now time.Time) []statement {
	h, last := &b.Head, &b.Events[len(b.Events)-1]
	event, cut := b.Last()
	values := []any{b.Chat.String(), string(b.Chat.Kind()), h.Created.UnixNano(), int64(h.LastSeq), int64(h.LastN), h.LastTime.UnixNano(),
		h.Bucket, h.BucketEvents, h.BucketBytes, h.Name, int64(h.Members), string(h.History), h.Disappearing, cut, int64(last.Prev), nanos(last.Expires)}
	ttl, over := ttlOf(last.Expires, now)
	if over {
		event = nil
	}
	if event == nil {
		event = []byte{} // a null would be a tombstone
	}
	if ttl == 0 {
		return []statement{{insertChat, append(values, event, int64(h.LastSeq)), 0, rowBytes}}
	}
	return []statement{
		{insertHead, append(values, int64(h.LastSeq)), 0, rowBytes},
		{insertLast, []any{b.Chat.String(), event, int64(h.LastSeq), ttl}, 0, rowBytes},
	}
}

// ttlOf returns the seconds that are left of what expires, 0 for what never does.
// They are rounded up, and reads leave out what is over to the nanosecond.
func ttlOf(expires, now time.Time) (seconds int, over bool) {
	if expires.IsZero() {
		return 0, false
	}
	left := expires.Sub(now)
	if left <= 0 {
		return 0, true
	}
	return int(min((left+time.Second-1)/time.Second, schemas.TTLMax)), false
}

// nanos is a time as the tables have it, 0 for none; timeOf reads it.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// writeAll runs the statements of a batch, which are in one partition, once.
func (s *Store) writeAll(ctx context.Context, all []statement) error {
	if len(all) == 1 {
		return s.write(ctx, all[0].text, all[0].values...)
	}
	session, err := s.keyspace()
	if err != nil {
		return err
	}
	// Unlogged: in one partition it is one mutation, which is whole or not at all.
	batch := session.Session.BatchWithContext(ctx, gocql.UnloggedBatch).RetryPolicy(retryNever)
	for i := range all {
		batch.Query(all[i].text, all[i].values...)
		batch.Entries[i].Idempotent = true
	}
	return batch.Exec()
}

// write runs a statement once.
func (s *Store) write(ctx context.Context, text string, values ...any) error {
	session, err := s.keyspace()
	if err != nil {
		return err
	}
	return session.ContextQuery(ctx, text, nil).Bind(values...).Idempotent(true).RetryPolicy(retryNever).ExecRelease()
}
