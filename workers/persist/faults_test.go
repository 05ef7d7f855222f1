package persist_test

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/persist"
	"parley/workers/store"
)

// faultyStore is a store whose calls may be stopped or fail.
type faultyStore struct {
	persist.Store
	beforeCommitted func(ctx context.Context) error
	beforeCommit    func(ctx context.Context, b store.Batch) error
	afterCommit     func(ctx context.Context) error
}

func (s *faultyStore) Committed(ctx context.Context, shard string) (uint64, error) {
	if s.beforeCommitted != nil {
		if err := s.beforeCommitted(ctx); err != nil {
			return 0, err
		}
	}
	return s.Store.Committed(ctx, shard)
}

func (s *faultyStore) Commit(ctx context.Context, b store.Batch) error {
	if s.beforeCommit != nil {
		if err := s.beforeCommit(ctx, b); err != nil {
			return err
		}
	}
	if err := s.Store.Commit(ctx, b); err != nil {
		return err
	}
	if s.afterCommit != nil {
		return s.afterCommit(ctx)
	}
	return nil
}

// faultyLog does not answer the first questions for a sequence.
type faultyLog struct {
	persist.Log
	failures int // only the shard's goroutine asks
}

func (l *faultyLog) Sequence(ctx context.Context, shard streams.Shard, seq uint64) (*jetstream.RawStreamMsg, error) {
	if l.failures > 0 {
		l.failures--
		return nil, errRefused
	}
	return l.Log.Sequence(ctx, shard, seq)
}

// gate stops whoever passes once it is closed, until it is opened.
type gate struct {
	closed  atomic.Bool
	reached chan struct{} // one token for each that was stopped
	open    chan struct{}
}

func newGate() *gate {
	g := &gate{reached: make(chan struct{}, 16), open: make(chan struct{})}
	g.closed.Store(true)
	return g
}

// pass stops the first that comes.
func (g *gate) pass() {
	if g.closed.CompareAndSwap(true, false) {
		g.reached <- struct{}{}
		<-g.open
	}
}

// faultyJetStream has consumers whose messages may be hidden, and may refuse to publish.
type faultyJetStream struct {
	jetstream.JetStream
	hide       func(seq uint64) bool
	failAck    func() bool
	refuseDead *atomic.Bool
}

var errRefused = errors.New("refused by the test")

func (js *faultyJetStream) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if js.refuseDead != nil && js.refuseDead.Load() {
		return nil, errRefused
	}
	return js.JetStream.PublishMsg(ctx, msg, opts...)
}

func (js *faultyJetStream) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	c, err := js.JetStream.Consumer(ctx, stream, name)
	if err != nil {
		return nil, err
	}
	return &faultyConsumer{Consumer: c, js: js}, nil
}

type faultyConsumer struct {
	jetstream.Consumer
	js *faultyJetStream
}

func (c *faultyConsumer) Fetch(batch int, opts ...jetstream.FetchOpt) (jetstream.MessageBatch, error) {
	b, err := c.Consumer.Fetch(batch, opts...)
	if err != nil {
		return nil, err
	}
	msgs := make(chan jetstream.Msg, batch)
	out := &faultyBatch{MessageBatch: b, msgs: msgs}
	go func() {
		defer close(msgs)
		for msg := range b.Messages() {
			meta, err := msg.Metadata()
			if err == nil && c.js.hide != nil && c.js.hide(meta.Sequence.Stream) {
				continue
			}
			msgs <- &faultyMsg{Msg: msg, js: c.js}
		}
	}()
	return out, nil
}

type faultyBatch struct {
	jetstream.MessageBatch
	msgs chan jetstream.Msg
}

func (b *faultyBatch) Messages() <-chan jetstream.Msg { return b.msgs }

type faultyMsg struct {
	jetstream.Msg
	js *faultyJetStream
}

func (m *faultyMsg) DoubleAck(ctx context.Context) error {
	if m.js.failAck != nil && m.js.failAck() {
		return errRefused
	}
	return m.Msg.DoubleAck(ctx)
}
