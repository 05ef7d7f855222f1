package check

import (
	"fmt"
	"sync"

	"parley/schemas"
)

// Kind is a way in which log and store differ.
type Kind string

const (
	// Missing is an event of the log that the store should have.
	Missing Kind = "missing"
	// Extra is a row whose event the log does not have, though it reaches that far back.
	Extra Kind = "extra"
	// Different is a row that does not say what its event says.
	Different Kind = "different"
	// Order is an n or a bucket that does not follow from the row before.
	Order Kind = "order"
	// Gap is a prev that is not the seq of the row before.
	Gap Kind = "gap"
	// Head is a chat's head that is not that of its last row.
	Head Kind = "head"
)

// Finding is one difference.
type Finding struct {
	Kind  Kind
	Shard string
	Chat  schemas.Chat // zero where it is none of one chat
	Seq   uint64
	Text  string
}

func (f Finding) String() string {
	if f.Chat.IsZero() {
		return fmt.Sprintf("shard %s: %s at %d: %s", f.Shard, f.Kind, f.Seq, f.Text)
	}
	return fmt.Sprintf("shard %s: %s in %s at %d: %s", f.Shard, f.Kind, f.Chat, f.Seq, f.Text)
}

// ShardReport counts what was found in one shard.
type ShardReport struct {
	Shard string

	Events    uint64 // of the log
	Compared  uint64 // of them, with their rows
	GivenUp   uint64 // in the stream DEAD, and not stored: no difference
	NotStored uint64 // above the shard's row in the store when the check began: no difference

	Missing, Extra, Different, Order, Gaps, Heads uint64

	Findings []Finding // the first ones
	More     uint64    // further ones

	findingsMax int
	mu          sync.Mutex // for those who add
}

// Differences counts all kinds.
func (r *ShardReport) Differences() uint64 {
	return r.Missing + r.Extra + r.Different + r.Order + r.Gaps + r.Heads
}

// add counts findings and keeps the first ones.
func (r *ShardReport) add(findings ...Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range findings {
		switch f.Kind {
		case Missing:
			r.Missing++
		case Extra:
			r.Extra++
		case Different:
			r.Different++
		case Order:
			r.Order++
		case Gap:
			r.Gaps++
		case Head:
			r.Heads++
		}
		if len(r.Findings) < r.findingsMax {
			r.Findings = append(r.Findings, f)
		} else {
			r.More++
		}
	}
}

func (r *ShardReport) addCompared(compared, givenUp uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Compared += compared
	r.GivenUp += givenUp
}

// Report is the outcome of a check.
type Report struct{ Shards []*ShardReport }

// Differences counts those of all shards.
func (r *Report) Differences() (n uint64) {
	for _, s := range r.Shards {
		n += s.Differences()
	}
	return n
}
