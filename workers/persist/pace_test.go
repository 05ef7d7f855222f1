package persist

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"parley/workers/persist/foldtest"
	"parley/workers/store"
)

// TestBatchesFollowTheStore: a store that is slow gets smaller batches, down to a
// bound, and one that is quick again larger ones, up to what is configured.
func TestBatchesFollowTheStore(t *testing.T) {
	t.Parallel()
	s := &shard{Persister: &Persister{cfg: Config{BatchEventsMax: 2000}}, batchEventsMax: 2000}
	for _, step := range []struct {
		events int
		took   time.Duration
		want   int
	}{
		{2000, commitWithin, 2000},
		{1500, commitWithin + 1, 1000},
		{1000, time.Minute, 500},
		{500, time.Minute, 250},
		{250, time.Minute, 125},
		{125, time.Minute, 100},
		{100, time.Minute, 100},
		{99, 0, 100}, // it was not the bound that kept it small
		{100, commitWithin / 2, 100},
		{100, commitWithin/2 - 1, 200},
		{200, 0, 400}, {400, 0, 800}, {800, 0, 1600}, {1600, 0, 2000}, {2000, 0, 2000},
	} {
		if s.paceBatches(step.events, step.took); s.batchEventsMax != step.want {
			t.Fatalf("after %d events in %s: %d, want %d", step.events, step.took, s.batchEventsMax, step.want)
		}
	}
	small := &shard{Persister: &Persister{cfg: Config{BatchEventsMax: 10}}, batchEventsMax: 10}
	if small.paceBatches(10, time.Minute); small.batchEventsMax != 10 {
		t.Errorf("%d, want the 10 that are configured", small.batchEventsMax)
	}
}

// slowStore takes a while for each commit, of a time that passes at once.
type slowStore struct {
	Store
	row uint64
}

func (s *slowStore) Committed(context.Context, string) (uint64, error) { return s.row, nil }

func (s *slowStore) Commit(_ context.Context, b store.Batch) error {
	time.Sleep(2 * commitWithin)
	s.row = b.Committed
	return nil
}

func TestSlowCommitMakesTheNextBatchSmaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := New(Config{JetStream: foldtest.NoJetStream{}, Log: &foldtest.Log{}, Store: &slowStore{}})
		if err != nil {
			t.Fatal(err)
		}
		s := newShard(p, foldtest.Layout.At(0))
		for _, want := range []int{1000, 500} {
			if err := s.commitOnce(t.Context(), nil, s.row+1); err != nil || s.batchEventsMax != want {
				t.Fatalf("after a commit of %s: %d events, %v, want %d", 2*commitWithin, s.batchEventsMax, err, want)
			}
		}
	})
}
