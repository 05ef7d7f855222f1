package sqlite

import "time"

// sweepRowsMax bounds the rows of a table that one transaction sweeps, and with
// it how long a commit waits for it.
const sweepRowsMax = 1000

// What has disappeared leaves the file. These are the only statements that take
// rows away; what comes again after its time is not written (over).
const (
	sweepEvents = `DELETE FROM events WHERE (chat, bucket, seq) IN (
		SELECT chat, bucket, seq FROM events WHERE expires > 0 AND expires <= ?1 LIMIT ?2)`
	sweepEdits = `DELETE FROM edits WHERE (chat, bucket, target, seq) IN (
		SELECT chat, bucket, target, seq FROM edits WHERE expires > 0 AND expires <= ?1 LIMIT ?2)`
	sweepReactions = `DELETE FROM reactions WHERE (chat, bucket, target, emoji, user) IN (
		SELECT chat, bucket, target, emoji, user FROM reactions WHERE expires > 0 AND expires <= ?1 LIMIT ?2)`
	sweepChats = `UPDATE chats SET last_event = '' WHERE chat IN (
		SELECT chat FROM chats WHERE last_expires > 0 AND last_event <> '' AND last_expires <= ?1 LIMIT ?2)`
)

// sweepOnce takes a chunk of what has disappeared out of each table, and tells
// whether there may be more. Where it cannot, the next round does: no read returns
// those rows meanwhile, and what keeps it from writing keeps commits too, which say so.
func (w *writer) sweepOnce(now time.Time) (more bool) {
	err := w.transact(func(c *conn) error {
		for _, statement := range []string{sweepEvents, sweepEdits, sweepReactions, sweepChats} {
			rows, err := c.execCount(statement, now.UnixNano(), int64(sweepRowsMax))
			if err != nil {
				return err
			}
			more = more || rows == sweepRowsMax
		}
		return nil
	})
	return more && err == nil
}
