package check_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"parley/repair/check"
	"parley/repair/rebuild"
	"parley/schemas"
	"parley/streams"
	"parley/streams/streamstest"
	"parley/workers/persist"
	"parley/workers/store/sqlite"
	"parley/workers/store/sqlite/sqlitetest"
	"parley/workers/workerstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server with a log, and the file of a store that persisted it.
type world struct {
	*workerstest.World
	fast jetstream.JetStream // publishes much at once
	path string              // of the store; nobody has it open
	said int                 // events, by say
}

func newWorld(t testing.TB, options streamstest.Options) *world {
	t.Helper()
	options.Administrator = true
	w := &world{World: workerstest.NewWorld(t, options), path: filepath.Join(t.TempDir(), "parley.db")}
	var err error
	w.fast, err = jetstream.New(w.Edge, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		t.Fatal(err)
	}
	st := openStore(t, w.path)
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeStore(t, st)
	return w
}

func openStore(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	st, err := sqlite.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func closeStore(t testing.TB, st *sqlite.Store) {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

func message(id string, textBytes int) []byte {
	return []byte(`{"type":"message","id":"` + id + `","from":"alice","body":{"kind":"text","text":"` + strings.Repeat("x", textBytes) + `"}}`)
}

// publish puts data into the logs of chats in turn, n times each.
func (w *world) publish(n int, data func(i int) []byte, chats ...schemas.Chat) {
	w.T.Helper()
	var acks []jetstream.PubAckFuture
	for i := range n {
		for _, chat := range chats {
			ack, err := w.fast.PublishAsync(w.Layout.Shard(chat).Timeline(chat), data(i), jetstream.WithStallWait(time.Minute))
			if err != nil {
				w.T.Fatal(err)
			}
			acks = append(acks, ack)
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			w.T.Fatal(err)
		}
	}
}

// bounds are those of a shard's log.
func (w *world) bounds(shard streams.Shard) (first, last uint64) {
	w.T.Helper()
	first, last, err := w.Log().Bounds(context.Background(), shard)
	if err != nil {
		w.T.Fatal(err)
	}
	return first, last
}

// waitStored waits until st has all that the log has.
func (w *world) waitStored(st persist.Store) {
	w.T.Helper()
	for _, shard := range w.Layout.All() {
		_, last := w.bounds(shard)
		workerstest.WaitFor(w.T, fmt.Sprintf("shard %s is stored up to %d", shard.Token, last), func() bool {
			committed, err := st.Committed(context.Background(), shard.Token)
			if err != nil {
				w.T.Fatal(err)
			}
			return committed >= last
		})
	}
}

// persistAll persists all of the log into the world's store.
func (w *world) persistAll() {
	w.T.Helper()
	st := openStore(w.T, w.path)
	stop := workerstest.Persist(w.T, w.Env, st)
	w.waitStored(st)
	stop()
	closeStore(w.T, st)
}

// purge lets the first n sequences of each shard's log expire, and returns the
// first one that is left.
func (w *world) purge(n uint64) uint64 {
	w.T.Helper()
	for _, shard := range w.Layout.All() {
		stream, err := w.JetStream.Stream(w.T.Context(), shard.Stream())
		if err != nil {
			w.T.Fatal(err)
		}
		if err := stream.Purge(w.T.Context(), jetstream.WithPurgeSequence(shard.FirstSeq()+n)); err != nil {
			w.T.Fatal(err)
		}
	}
	return w.Layout.At(0).FirstSeq() + n
}

// copyStore returns the path of a copy of the world's store.
func (w *world) copyStore(t testing.TB) string {
	t.Helper()
	sqlitetest.Exec(t, w.path, "PRAGMA wal_checkpoint(TRUNCATE)") // what the last reader left beside the file
	path := filepath.Join(t.TempDir(), "copy.db")
	from, err := os.Open(w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	return path
}

// damagedCopy returns the path of a copy of the world's store on which statements were
// run. Each of them has to change something.
func (w *world) damagedCopy(t testing.TB, statements []string) string {
	t.Helper()
	path := w.copyStore(t)
	for _, statement := range statements {
		if n := sqlitetest.Exec(t, path, statement); n == 0 {
			t.Fatalf("%s changes nothing", statement)
		}
	}
	return path
}

func wantDump(t testing.TB, path string, want []string) {
	t.Helper()
	got := sqlitetest.Dump(t, path)
	if slices.Equal(got, want) {
		return
	}
	diff := cmp.Diff(want, got)
	t.Errorf("the rows differ; -want +got:\n%s", diff[:min(len(diff), 3000)])
}

// check checks the store at path.
func (w *world) check(t testing.TB, path string, change func(*check.Config)) *check.Report {
	t.Helper()
	st := openStore(t, path)
	defer closeStore(t, st)
	cfg := check.Config{JetStream: w.JetStream, Log: w.Log(), Layout: w.Layout, Store: st, Deep: true, WindowEvents: 123}
	if change != nil {
		change(&cfg)
	}
	c, err := check.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	report, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at := c.Progress(); at.Done != at.Total {
		t.Errorf("the check ends at %d of %d", at.Done, at.Total)
	}
	return report
}

// rebuild rebuilds the store at path.
func (w *world) rebuild(t testing.TB, path string) {
	t.Helper()
	st := openStore(t, path)
	defer closeStore(t, st)
	r, err := rebuild.New(rebuild.Config{JetStream: w.JetStream, Log: w.Log(), Layout: w.Layout, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := r.Progress()
	if at.Done != at.Total {
		t.Errorf("the rebuild ends at %d of %d", at.Done, at.Total)
	}
	t.Logf("%d events, %.0f a second", at.Events, float64(at.Events)/time.Since(began).Seconds())
}

// found counts the findings of a report by kind.
func found(report *check.Report) map[check.Kind]uint64 {
	counts := map[check.Kind]uint64{}
	for _, s := range report.Shards {
		for kind, n := range map[check.Kind]uint64{check.Missing: s.Missing, check.Extra: s.Extra, check.Different: s.Different,
			check.Order: s.Order, check.Gap: s.Gaps, check.Head: s.Heads} {
			if n > 0 {
				counts[kind] += n
			}
		}
	}
	return counts
}

func wantClean(t testing.TB, report *check.Report) {
	t.Helper()
	for _, s := range report.Shards {
		for _, f := range s.Findings {
			t.Error(f)
		}
		if s.More > 0 {
			t.Errorf("and %d more", s.More)
		}
	}
}
