package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Each power of two of microseconds is cut into subBuckets: a quantile is off by at most 1.6 %.
const (
	subBits    = 6
	subBuckets = 1 << subBits
	// bucketsMax reaches beyond an hour.
	bucketsMax = subBuckets * (32 - subBits + 2)
)

// histogram counts durations. Its methods may be called at the same time.
type histogram struct {
	counts [bucketsMax]atomic.Uint64
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(max(d, 0))].Add(1)
}

// bucketOf: below subBuckets one bucket each, above a power of two and its next subBits bits.
func bucketOf(d time.Duration) int {
	us := uint64(d / time.Microsecond)
	exp := max(bits.Len64(us)-subBits-1, 0)
	return min(exp<<subBits+int(us>>exp), bucketsMax-1)
}

// bucketEnd is the largest duration of a bucket.
func bucketEnd(bucket int) time.Duration {
	exp := max(bucket>>subBits-1, 0)
	us := uint64(bucket-exp<<subBits+1)<<exp - 1
	return time.Duration(us) * time.Microsecond
}

// merge adds what another has counted.
func (h *histogram) merge(other *histogram) {
	for i := range h.counts {
		h.counts[i].Add(other.counts[i].Load())
	}
}

func (h *histogram) count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// sum is that of all durations, each taken for the largest of its bucket.
func (h *histogram) sum() (sum time.Duration) {
	for i := range h.counts {
		sum += time.Duration(h.counts[i].Load()) * bucketEnd(i)
	}
	return sum
}

// quantile returns the duration that the share q of all does not exceed; 0 of none.
func (h *histogram) quantile(q float64) time.Duration {
	n := h.count()
	if n == 0 {
		return 0
	}
	rank := uint64(q*float64(n) + 0.999999)
	for i := range h.counts {
		c := h.counts[i].Load()
		if c >= rank {
			return bucketEnd(i)
		}
		rank -= c
	}
	return bucketEnd(bucketsMax - 1)
}
