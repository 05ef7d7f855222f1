package check

import (
	"fmt"
	"slices"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

const (
	// lateMax bounds the rows without a count of their own that are remembered in
	// a row: the prev of a row behind more of them counts as a gap.
	lateMax = 1000
	// newestMax bounds the rows above a chat's last event that are found at its end.
	newestMax = 1000
)

// chain follows a chat's rows up. Each has the seq of the row before as its prev,
// and an n that counts it. A row that was placed late has the n of the row before,
// and the row behind it has the prev that it had when it was written.
type chain struct {
	s            *shard
	chat         schemas.Chat
	disappearing bool // rows are missing where messages were that disappeared

	begun  bool
	last   store.Event // the row before, without its JSON
	counts uint64      // the seq of the last row that is not late
	late   []uint64    // of those since; at most lateMax
	newest []newRow    // the highest that the shard's row covers, rising; at most newestMax

	// The open bucket, if the walk saw its first row and no gap since.
	whole                 bool
	rows, bytes           int64
	lateRows, lateRowsLen int64
	blanks                bool // rows have lost their content: they had more bytes

	findings []Finding
}

func (ch *chain) find(kind Kind, seq uint64, format string, args ...any) {
	ch.findings = append(ch.findings, Finding{Kind: kind, Shard: ch.s.shard.Token, Chat: ch.chat, Seq: seq, Text: fmt.Sprintf(format, args...)})
}

// begin takes the row before those that are followed, as it is.
func (ch *chain) begin(row store.Event) {
	ch.begun, ch.counts = true, row.Seq
	row.JSON = nil
	ch.last = row
}

// follow compares a row with the one before it.
func (ch *chain) follow(row *store.Event) {
	late := ch.isLate(row)
	if !ch.begun || row.Bucket != ch.last.Bucket {
		ch.whole, ch.rows, ch.bytes, ch.lateRows, ch.lateRowsLen, ch.blanks = true, 0, 0, 0, 0, false
	}
	switch {
	case !ch.begun:
		ch.followFirst(row)
	case row.Seq <= ch.last.Seq:
		ch.find(Order, row.Seq, "the row stands behind %d, in bucket %d", ch.last.Seq, row.Bucket)
	default:
		ch.followRow(row)
	}
	ch.rows++
	ch.bytes += int64(len(row.JSON))
	ch.blanks = ch.blanks || row.State.Deleted != 0 || row.Type == schemas.Edit && isBlank(row.JSON)
	if late {
		ch.lateRows++
		ch.lateRowsLen += int64(len(row.JSON))
		ch.late = keepLast(ch.late, row.Seq, lateMax)
	} else {
		ch.counts, ch.late = row.Seq, ch.late[:0]
	}
	if row.Seq <= ch.s.committed {
		ch.newest = keepLast(ch.newest, newRow{row.Seq, row.Expires}, newestMax)
	}
	ch.begun, ch.last = true, *row
	ch.last.JSON = nil
}

// isLate tells whether row looks like one that was placed late.
func (ch *chain) isLate(row *store.Event) bool {
	if !ch.begun {
		return row.N == 0 && row.Prev == 0
	}
	return row.N == ch.last.N
}

func (ch *chain) followFirst(row *store.Event) {
	if row.Prev != 0 && ch.disappearing {
		ch.whole = false
		return
	}
	if row.Prev != 0 {
		ch.find(Gap, row.Seq, "prev is %d, and the store has no row before this", row.Prev)
		ch.whole = false
		return
	}
	if row.N > 1 {
		ch.find(Order, row.Seq, "n is %d in the chat's first row", row.N)
	}
	if row.Bucket != 0 {
		ch.find(Order, row.Seq, "the chat's first row is in bucket %d", row.Bucket)
	}
}

func (ch *chain) followRow(row *store.Event) {
	gap := row.Prev != ch.last.Seq && row.Prev != ch.counts && !slices.Contains(ch.late, row.Prev)
	if gap {
		ch.whole = false
	}
	// What disappeared stood between this row and the last that it may name.
	disappeared := gap && ch.disappearing && row.Prev > ch.counts && row.Prev < row.Seq
	if gap && !disappeared {
		ch.find(Gap, row.Seq, "prev is %d, the row before is %d", row.Prev, ch.last.Seq)
	}
	most := ch.last.N
	if row.Type == schemas.Message {
		most++
	}
	// What a gap swallowed was counted, and was in the bucket.
	if row.N < ch.last.N || row.N > most && !gap {
		ch.find(Order, row.Seq, "n is %d, in the row before %d", row.N, ch.last.N)
	}
	if row.Bucket < ch.last.Bucket || row.Bucket > ch.last.Bucket+1 && !disappeared {
		ch.find(Order, row.Seq, "bucket is %d, of the row before %d", row.Bucket, ch.last.Bucket)
	}
}

// compareHead compares the head with the last row, and with the open bucket where
// the walk saw all of it. Rows that were placed late may be in its size or not.
func (ch *chain) compareHead(head store.Head) {
	left := head.Disappearing && head.LastSeq > ch.last.Seq // the last row has disappeared
	switch {
	case left && !ch.begun:
		return
	case !ch.begun:
		ch.find(Head, head.LastSeq, "the chat has a head and no row")
		return
	case left:
		ch.compareLeft(head)
		return
	case head.LastSeq != ch.last.Seq:
		ch.find(Head, head.LastSeq, "the last row is %d", ch.last.Seq)
		return
	}
	differs := func(what string, got, want any) {
		if got != want {
			ch.find(Head, head.LastSeq, "the head has %s %v, the last row %v", what, got, want)
		}
	}
	differs("n", head.LastN, ch.last.N)
	differs("bucket", head.Bucket, ch.last.Bucket)
	differs("time", head.LastTime.UTC(), ch.last.Time.UTC())
	if !ch.whole {
		return
	}
	outside := func(what string, got, most, late int64, mayBeMore bool) {
		if got > most && !mayBeMore || got < most-late {
			ch.find(Head, head.LastSeq, "the head has %d %s in bucket %d, its rows are %d", got, what, head.Bucket, most)
		}
	}
	outside("events", head.BucketEvents, ch.rows, ch.lateRows, head.Disappearing)
	outside("bytes", head.BucketBytes, ch.bytes, ch.lateRowsLen, head.Disappearing || ch.blanks)
}

// compareLeft compares the head with the last row that is left before the one of
// the head, which has disappeared.
func (ch *chain) compareLeft(head store.Head) {
	if head.LastN < ch.last.N || head.Bucket < ch.last.Bucket {
		ch.find(Head, head.LastSeq, "the head has n %d and bucket %d, the row %d before it %d and %d", head.LastN, head.Bucket, ch.last.Seq, ch.last.N, ch.last.Bucket)
	}
	if head.Bucket == ch.last.Bucket && head.BucketEvents < ch.rows-ch.lateRows {
		ch.find(Head, head.LastSeq, "the head has %d events in bucket %d, its rows are %d", head.BucketEvents, head.Bucket, ch.rows)
	}
}

// newRow is a row at the end of a chat.
type newRow struct {
	seq     uint64
	expires time.Time
}

func keepLast[T any](all []T, one T, max int) []T {
	if len(all) == max {
		all = append(all[:0], all[max/2:]...)
	}
	return append(all, one)
}
