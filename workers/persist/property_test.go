package persist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"parley/schemas"
	"parley/workers/persist/fold"
	"parley/workers/persist/foldtest"
	"parley/workers/store"
	"parley/workers/store/sqlite/sqlitetest"
)

// owner is a shard's state as it is after a takeover.
func owner(t *rapid.T, st Store, l *foldtest.Log) *shard {
	p, err := New(Config{JetStream: foldtest.NoJetStream{}, Log: l, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	s := newShard(p, foldtest.Layout.At(0))
	if s.row, s.next, err = s.position(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

// entries are messages of the log as the consumer delivers them.
func entries(l *foldtest.Log, i, j int) (delivered []entry) {
	for _, e := range l.Entries(i, j) {
		delivered = append(delivered, entry{Entry: e})
	}
	return delivered
}

// deliver is a round from what was delivered to the commit. An owner that was
// overtaken stops, and nothing else may stop it.
func (s *shard) deliver(entries []entry) {
	p := s.densePrefix(context.Background(), entries)
	err := s.commit(context.Background(), context.Background(), p.events, p.upto)
	if err := cmp.Or(err, p.cut); err != nil && !errors.Is(err, errTakenOver) {
		panic(err)
	}
}

// However a log is cut into deliveries, with what was delivered before, with
// holes, with owners that die in a commit or between commit and ack and with
// owners that wake after others, the store holds what one pass makes; be it that
// some of it has disappeared by then.
func TestAnyDeliveryMakesTheSameStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		log := foldtest.Draw(t)
		now := foldtest.Start.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "now")) * time.Second)
		oncePath, path := filepath.Join(dir, fmt.Sprintf("once%d.db", runs)), filepath.Join(dir, fmt.Sprintf("many%d.db", runs))
		once := foldtest.OpenStore(t, oncePath, func() time.Time { return now })
		defer once.Close()
		owner(t, once, log).deliver(entries(log, 0, len(log.Msgs)))

		st := foldtest.OpenStore(t, path, func() time.Time { return now })
		defer st.Close()
		owners := []*shard{owner(t, st, log)}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			at := rapid.IntRange(0, len(owners)-1).Draw(t, "owner")
			s := owners[at]
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0: // dies, and comes again
				owners[at] = owner(t, st, log)
				continue
			case 1: // another takes over while it is paused
				owners = append(owners, owner(t, st, log))
				continue
			}
			// Is given a part of what is not acknowledged, or was.
			to := rapid.IntRange(0, len(log.Msgs)).Draw(t, "to")
			from := rapid.IntRange(0, to).Draw(t, "from")
			switch rapid.IntRange(0, 3).Draw(t, "how") {
			case 0: // paused between comparing the row and committing
				s.commitWithoutComparing(entries(log, from, to))
			case 1: // dies in the commit, of a store that takes chat by chat
				s.commitChats(entries(log, from, to), rapid.IntRange(0, 5).Draw(t, "chats"))
				owners[at] = owner(t, st, log)
			default:
				s.deliver(entries(log, from, to))
			}
		}
		owner(t, st, log).deliver(entries(log, 0, len(log.Msgs)))
		if diff := gocmp.Diff(sqlitetest.Dump(t, oncePath), sqlitetest.Dump(t, path)); diff != "" {
			t.Fatalf("the rows differ; -want +got:\n%s", diff)
		}
	})
}

// foldNext folds what may be committed of entries; ok is false where nothing may.
func (s *shard) foldNext(entries []entry) (batch store.Batch, ok bool) {
	p := s.densePrefix(context.Background(), entries)
	if p.upto < s.next {
		return batch, false
	}
	batch, err := s.fold(context.Background(), p.events, p.upto)
	if err != nil {
		panic(err)
	}
	return batch, true
}

// commitChats commits the first n chats of a batch alone, and not the shard's row.
// It is the shard's owner.
func (s *shard) commitChats(entries []entry, n int) {
	if err := s.compareRow(context.Background()); err != nil {
		return
	}
	batch, ok := s.foldNext(entries)
	if !ok {
		return
	}
	batch.Chats = batch.Chats[:min(n, len(batch.Chats))]
	batch.Committed = s.row
	if err := s.cfg.Store.Commit(context.Background(), batch); err != nil {
		panic(err)
	}
}

// commitWithoutComparing is a commit whose comparison was true once: this owner's
// row and heads are those of its last commit.
func (s *shard) commitWithoutComparing(entries []entry) {
	batch, ok := s.foldNext(entries)
	if !ok {
		return
	}
	if err := s.cfg.Store.Commit(context.Background(), batch); err != nil {
		panic(err)
	}
	s.row, s.next = batch.Committed, batch.Committed+1
	s.heads.apply(&batch)
}

// The log's beginning expired under a running owner: it goes on at the log's
// first sequence, without asking for each that is gone.
func TestHoleThatReachesTheLogsBeginningIsSkippedAtOnce(t *testing.T) {
	t.Parallel()
	log := &foldtest.Log{First: foldtest.Layout.At(0).FirstSeq(), Msgs: make([]*jetstream.RawStreamMsg, 3*holesMax)}
	p, err := New(Config{JetStream: foldtest.NoJetStream{}, Log: log, Store: rowStore{}})
	if err != nil {
		t.Fatal(err)
	}
	s := newShard(p, foldtest.Layout.At(0))
	s.next = log.First
	a, _ := schemas.ParseUser("alice")
	chat := schemas.DirectChat(a, a)
	last := log.First + 3*holesMax - 1
	delivered := []entry{{Entry: fold.Entry{Seq: last, Subject: s.shard.Timeline(chat), Data: []byte(`{"type":"later","id":"m","from":"alice"}`)}}}
	log.Expired = last
	prefix := s.densePrefix(t.Context(), delivered)
	if prefix.cut != nil || prefix.upto != last || len(prefix.events) != 1 {
		t.Errorf("the prefix has %d events, reaches %d and is cut by %v; want one at %d", len(prefix.events), prefix.upto, prefix.cut, last)
	}
	log.Expired = 0
	prefix = s.densePrefix(t.Context(), delivered)
	if prefix.cut == nil || prefix.upto != log.First+holesMax-1 {
		t.Errorf("a hole within the log: the prefix reaches %d and is cut by %v; want %d and a cut", prefix.upto, prefix.cut, log.First+holesMax-1)
	}
}

// rowStore has no rows.
type rowStore struct{ Store }

func (rowStore) Committed(context.Context, string) (uint64, error) { return 0, nil }
