package sqlite

import (
	"database/sql/driver"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// What an event does to rows that are there: where one is not, it has disappeared.
const (
	// A body yields to the last edit and to the delete alike.
	editEvent = `UPDATE events SET edited = ?4, body = CAST(?5 AS TEXT)
		WHERE chat = ?1 AND bucket = ?2 AND seq = ?3 AND ?4 >= edited AND ?4 >= deleted`
	blankEvent = `UPDATE events SET stamp = ?4, deleted = ?4, event = CAST(?5 AS TEXT), body = ''
		WHERE chat = ?1 AND bucket = ?2 AND seq = ?3 AND ?4 >= stamp`
	pinEvent = `UPDATE events SET pinned_stamp = ?4, pinned = ?5
		WHERE chat = ?1 AND bucket = ?2 AND seq = ?3 AND ?4 >= pinned_stamp`
	blankEdit = `UPDATE edits SET stamp = ?5, body = ''
		WHERE chat = ?1 AND bucket = ?2 AND target = ?3 AND seq = ?4 AND ?5 >= stamp`

	insertEdit = `INSERT INTO edits (chat, bucket, target, seq, stamp, time, expires, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT))
		ON CONFLICT (chat, bucket, target, seq) DO UPDATE SET stamp = excluded.stamp, time = excluded.time,
			expires = excluded.expires, body = excluded.body
		WHERE excluded.stamp >= edits.stamp`
	insertReaction = `INSERT INTO reactions (chat, bucket, target, emoji, user, seq, is_on, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (chat, bucket, target, emoji, user) DO UPDATE SET seq = excluded.seq, is_on = excluded.is_on,
			expires = excluded.expires
		WHERE excluded.seq >= reactions.seq`
)

// writeChange does to rows what an event says, unless they have disappeared.
func writeChange(c *conn, chat driver.Value, change *store.Change, now time.Time) error {
	if over(change.Expires, now) {
		return nil
	}
	target, seq := int64(change.Target), int64(change.Seq)
	switch change.Type {
	case schemas.Edit:
		if err := c.exec(editEvent, chat, change.Bucket, target, seq, change.Body); err != nil {
			return err
		}
		return c.exec(insertEdit, chat, change.Bucket, target, seq, seq, change.Time.UnixNano(), nanos(change.Expires), change.Body)
	case schemas.Delete:
		return writeBlanks(c, chat, change)
	case schemas.React:
		return c.exec(insertReaction, chat, change.Bucket, target, change.Emoji, change.User.String(), seq, flag(change.On), nanos(change.Expires))
	case schemas.Pin:
		return c.exec(pinEvent, chat, change.Bucket, target, seq, flag(change.On))
	}
	return nil
}

// writeBlanks takes the content from a deleted event's row and from its edits'.
func writeBlanks(c *conn, chat driver.Value, change *store.Change) error {
	for i := range change.Blanks {
		blank := &change.Blanks[i]
		if err := c.exec(blankEvent, chat, blank.Bucket, int64(blank.Seq), int64(change.Seq), blank.JSON); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		if err := c.exec(blankEdit, chat, change.Bucket, int64(change.Target), int64(blank.Seq), int64(change.Seq)); err != nil {
			return err
		}
	}
	return nil
}
