package store

import (
	"cmp"
	"slices"
	"time"
)

// Targets are events of one bucket whose edits or reactions are asked for: a
// store reads one range of a partition for them.
type Targets struct {
	Bucket   int64
	Min, Max uint64
	seqs     []uint64 // rising
}

// TargetsOf groups events by bucket, by rising bucket. Those that have disappeared
// by now are left out.
func TargetsOf(events []Event, now time.Time) (all []Targets) {
	sorted := make([]*Event, 0, len(events))
	for i := range events {
		if e := &events[i]; e.Expires.IsZero() || now.Before(e.Expires) {
			sorted = append(sorted, e)
		}
	}
	slices.SortFunc(sorted, func(a, b *Event) int { return cmp.Compare(a.Seq, b.Seq) }) // and so by bucket
	for _, e := range sorted {
		if len(all) == 0 || all[len(all)-1].Bucket != e.Bucket {
			all = append(all, Targets{Bucket: e.Bucket, Min: e.Seq})
		}
		in := &all[len(all)-1]
		in.Max = e.Seq
		in.seqs = append(in.seqs, e.Seq)
	}
	return all
}

// Has tells whether seq was asked for.
func (t *Targets) Has(seq uint64) bool {
	_, found := slices.BinarySearch(t.seqs, seq)
	return found
}
