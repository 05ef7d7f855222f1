package cmd

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/store"
)

const provisionWithin = 60 * time.Second

// shardStore is what provisioning asks of a store, which is migrated.
type shardStore interface {
	// Shards returns the last committed sequence of every shard, by token.
	Shards(ctx context.Context) (map[string]uint64, error)
	// Commit raises the shard's row; a batch without chats does nothing else.
	Commit(ctx context.Context, b store.Batch) error
}

// provision makes the streams with a connection of its own, and has st know of
// every shard, so that no sequence is given out twice where all streams are lost.
// What st knows is read first and written last: of two that remake lost shards
// at once, each sees the other's streams or makes the same ones.
func provision(ctx context.Context, connect streams.ConnectConfig, settings streams.Settings, st shardStore) (streams.Layout, error) {
	ctx, cancel := context.WithTimeout(ctx, provisionWithin)
	defer cancel()
	var none streams.Layout
	conn, err := streams.Connect(ctx, connect)
	if err != nil {
		return none, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return none, fmt.Errorf("open JetStream: %w", err)
	}
	if settings.Stored, err = st.Shards(ctx); err != nil {
		return none, err
	}
	layout, err := streams.Provision(ctx, js, settings)
	if err != nil {
		return none, err
	}
	return layout, recordShards(ctx, st, layout, settings.Stored)
}

// recordShards writes those shards of layout to st that it does not know: up to
// the sequence before their first. Rows only rise, so that persist, which may be
// further by now, is not set back.
func recordShards(ctx context.Context, st shardStore, layout streams.Layout, known map[string]uint64) error {
	for _, shard := range layout.All() {
		if _, ok := known[shard.Token]; ok {
			continue
		}
		if err := st.Commit(ctx, store.Batch{Shard: shard.Token, Committed: shard.FirstSeq() - 1}); err != nil {
			return fmt.Errorf("write shard %s to the store: %w: run it again", shard.Token, err)
		}
	}
	return nil
}

// checkSameLog refuses a store that is ahead of the log: one of them was
// replaced, and what is said now would get sequences that the store has already.
// What cannot be read now is no reason: persist looks again, and waits.
func checkSameLog(ctx context.Context, log *streams.Log, st shardStore) error {
	stored, err := st.Shards(ctx)
	if err != nil {
		return nil
	}
	return log.CheckStored(ctx, stored)
}
