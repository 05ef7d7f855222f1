package bench

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"parley/workers/store"
	"parley/workers/store/sqlite"
)

// The filler's batches are what a store takes, and the pages are those that the ranges name.
func TestPagesOfAFilledChat(t *testing.T) {
	t.Parallel()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "pages.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &run{cfg: Config{TextBytes: 8}, name: "abc123"}
	filler := &chatFiller{run: r, store: st}
	random := rand.New(rand.NewPCG(1, 2))
	for _, events := range []int{60, store.BucketEventsMax + 100} {
		filled, err := filler.fill(t.Context(), events)
		if err != nil {
			t.Fatal(err)
		}
		head, ok, err := st.Head(t.Context(), filled.chat)
		if err != nil || !ok || head.LastN != uint64(events) || head.LastSeq != filled.first+uint64(events)-1 {
			t.Fatalf("head of %d events: %+v %t %v", events, head, ok, err)
		}
		if buckets := int64((events - 1) / store.BucketEventsMax); head.Bucket != buckets {
			t.Fatalf("%d events end in bucket %d, want %d", events, head.Bucket, buckets)
		}
		for _, kind := range []pageKind{newestPage, pageBefore, pageAfter} {
			for range 20 {
				rng, first := filled.page(kind, random)
				page, _, err := st.Page(t.Context(), filled.chat, rng)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) != pageEvents || page[0].Seq != first || page[0].Seq < filled.first {
					t.Fatalf("%s %+v of %d has %d events, want %d from %d on", kind, rng, events, len(page), pageEvents, first)
				}
			}
		}
	}
}

func TestStoresAreEachRunsOwn(t *testing.T) {
	t.Parallel()
	r := &run{cfg: Config{StoreURL: "cql://u:p@a,b:9042/bench?replication=3"}, name: "abc123"}
	stores := r.testedStores(persistWorkload)
	want := []testedStore{{"sqlite", ""}, {"cql", "cql://u:p@a,b:9042/bench_abc123_persist?replication=3"}}
	if len(stores) != 2 || stores[0] != want[0] || stores[1] != want[1] {
		t.Errorf("stores %+v, want %+v", stores, want)
	}
	r.cfg.StoreURL = ""
	if stores := r.testedStores(pagesWorkload); len(stores) != 1 || strings.Contains(stores[0].url, "_") {
		t.Errorf("stores %+v, want SQLite alone", stores)
	}
}
