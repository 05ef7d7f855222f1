package rebuild

import (
	"parley/schemas"
	"parley/workers/persist/fold"
	"parley/workers/store"
)

// mayGoBy tells whether row is what e made behind the head before, or behind what
// followed that and has disappeared, as far as they tell: a row that is damaged
// must not be trusted.
func mayGoBy(before store.Head, row *store.Event, e *fold.Event) bool {
	if row.Type != e.Event.Type || row.Author != e.Event.From || row.ID != e.Event.ID || !row.Time.Equal(e.Time) {
		return false
	}
	if row.Prev >= row.Seq || row.Type == schemas.Message && row.N == 0 || row.Bucket < before.Bucket {
		return false
	}
	n := countBefore(row)
	// What was placed late is not counted, and the row behind it does not name it.
	return n >= before.LastN && (row.Prev >= before.LastSeq || n == before.LastN)
}

// goBy moves a head to where it was before row, but for its bucket.
func goBy(head *store.Head, row *store.Event) {
	// Nothing is between two rows but what has disappeared.
	head.Disappearing = head.Disappearing || row.Prev > head.LastSeq
	head.LastSeq, head.LastN = row.Prev, countBefore(row)
}

// correct moves a chat's head to where it was before e. It follows row, the stored row
// of e, and does nothing if row is nil or damaged. If row begins a bucket, the fold
// opens that bucket.
func correct(head *store.Head, e *fold.Event, row *store.Event) {
	if row == nil || (row.Prev == 0) != (head.LastSeq == 0) || !mayGoBy(*head, row, e) {
		return
	}
	goBy(head, row)
	if row.Bucket > head.Bucket {
		head.Bucket, head.BucketEvents = row.Bucket-1, store.BucketEventsMax
	}
}

// countBefore is the n of the row before row.
func countBefore(row *store.Event) uint64 {
	if row.Type == schemas.Message {
		return row.N - 1
	}
	return row.N
}
