// Package foldtest has what tests of the fold and of its users share: logs in memory,
// drawn at random, and stores on a clock that stands still.
package foldtest

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"parley/schemas"
	"parley/streams"
	"parley/workers/persist/fold"
	"parley/workers/store"
	"parley/workers/store/sqlite"
)

// Layout has one shard, the one of a [Log].
var Layout = streams.NewLayout(1)

// Log is a shard's log; deleted sequences are nil.
type Log struct {
	First   uint64
	Expired uint64 // all below it is gone
	Msgs    []*jetstream.RawStreamMsg
}

// Layout returns [Layout].
func (l *Log) Layout() streams.Layout { return Layout }

// Sequence returns the message at seq.
func (l *Log) Sequence(_ context.Context, shard streams.Shard, seq uint64) (*jetstream.RawStreamMsg, error) {
	if msg := l.Msgs[seq-l.First]; msg != nil {
		return msg, nil
	}
	return nil, fmt.Errorf("read %d: %w", seq, streams.ErrGone)
}

// Bounds returns the first sequence that has not expired, and the last.
func (l *Log) Bounds(context.Context, streams.Shard) (first, last uint64, err error) {
	return max(l.First, l.Expired), l.First + uint64(len(l.Msgs)) - 1, nil
}

// Span cuts its answers at limit.
func (l *Log) Span(_ context.Context, _ streams.Shard, from, to uint64, limit, _ int) (msgs []*jetstream.RawStreamMsg, upto uint64, err error) {
	for seq := from; seq <= to; seq++ {
		msg := l.Msgs[seq-l.First]
		if msg == nil || seq < l.Expired {
			continue
		}
		if len(msgs) == limit {
			return msgs, seq - 1, nil
		}
		msgs = append(msgs, msg)
	}
	return msgs, to, nil
}

// Entries returns the messages from index i up to j.
func (l *Log) Entries(i, j int) (entries []fold.Entry) {
	for _, msg := range l.Msgs[i:j] {
		if msg != nil {
			entries = append(entries, fold.Entry{Seq: msg.Sequence, Subject: msg.Subject, Time: msg.Time, Data: msg.Data})
		}
	}
	return entries
}

// Store folds all of the log into an empty store, in one batch.
func (l *Log) Store(t *rapid.T, st *sqlite.Store) {
	var events []fold.Event
	for _, e := range l.Entries(0, len(l.Msgs)) {
		ev, err := fold.Decode(Layout, Layout.At(0), e)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, ev)
	}
	none := func(schemas.Chat) store.Head { return store.Head{} }
	targets, err := fold.LoadTargets(context.Background(), st, none, events)
	if err != nil {
		t.Fatal(err)
	}
	_, last, _ := l.Bounds(context.Background(), Layout.At(0))
	if err := st.Commit(context.Background(), fold.Batch(Layout.At(0).Token, none, targets, events, last)); err != nil {
		t.Fatal(err)
	}
}

// OpenStore opens an empty store with now as its clock.
func OpenStore(t interface{ Fatal(...any) }, path string, now func() time.Time) *sqlite.Store {
	st, err := sqlite.Open(context.Background(), path, sqlite.Clock(now))
	if err == nil {
		err = st.Migrate(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// NoJetStream takes nothing, for logs without a faulty event.
type NoJetStream struct{ jetstream.JetStream }

// Conn returns nil.
func (NoJetStream) Conn() *nats.Conn { return nil }
