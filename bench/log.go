package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
)

// persistedWithin bounds the wait until persist has stored everything. A store that
// is slower than the log stores the rest of ceiling in less time.
const persistedWithin = 3 * time.Minute

// log connects to NATS as an edge does. The caller closes the connection.
func (r *run) log(ctx context.Context) (*nats.Conn, jetstream.JetStream, streams.Layout, error) {
	return connectLog(ctx, r.target.NATS)
}

// connectLog connects and reads the layout. The caller closes the connection.
func connectLog(ctx context.Context, config streams.ConnectConfig) (*nats.Conn, jetstream.JetStream, streams.Layout, error) {
	js, err := openJetStream(ctx, config)
	if err != nil {
		return nil, nil, streams.Layout{}, err
	}
	layout, err := streams.LoadLayout(ctx, js)
	if err != nil {
		js.Conn().Close()
		return nil, nil, streams.Layout{}, err
	}
	return js.Conn(), js, layout, nil
}

// openJetStream connects. The caller closes the connection.
func openJetStream(ctx context.Context, config streams.ConnectConfig) (jetstream.JetStream, error) {
	conn, err := streams.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return js, nil
}

// awaitPersisted waits until persist has acknowledged all events in the log, and
// returns how long that took. Persist acknowledges an event after it has stored it.
func (r *run) awaitPersisted(ctx context.Context) (time.Duration, error) {
	conn, js, layout, err := r.log(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	began := time.Now()
	for _, shard := range layout.All() {
		state, err := streamState(ctx, js, shard.Stream())
		if err != nil {
			return 0, err
		}
		for acked := uint64(0); state.Msgs > 0 && acked < state.LastSeq; {
			consumer, err := js.Consumer(ctx, shard.Stream(), streams.PersistConsumer)
			if err != nil {
				return 0, fmt.Errorf("look at consumer %s of %s: %w", streams.PersistConsumer, shard.Stream(), err)
			}
			if acked = consumer.CachedInfo().AckFloor.Stream; acked >= state.LastSeq {
				break
			}
			if time.Since(began) > persistedWithin {
				return 0, fmt.Errorf("persist has acknowledged %d of %d in %s after %s", acked, state.LastSeq, shard.Stream(), persistedWithin)
			}
			if err := sleep(ctx, 20*time.Millisecond); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(began), nil
}

// streamState returns the state of a stream.
func streamState(ctx context.Context, js jetstream.JetStream, name string) (jetstream.StreamState, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("look at stream %s: %w", name, err)
	}
	return stream.CachedInfo().State, nil
}
