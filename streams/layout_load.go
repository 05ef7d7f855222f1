package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrNotProvisioned is returned by [LoadLayout] where the chat streams are not all there.
var ErrNotProvisioned = errors.New("NATS is not provisioned: run `parley migrate`")

// A cluster that has just started elects the leader of each stream within about 10 s.
const (
	leaderWithin  = 30 * time.Second
	leaderAttempt = 2 * time.Second
	leaderPoll    = 100 * time.Millisecond
)

// LoadLayout reads the layout from the streams that exist. The error wraps
// [ErrNotProvisioned] where one of them is missing.
func LoadLayout(ctx context.Context, js jetstream.JetStream) (Layout, error) {
	existing, err := listStreams(ctx, js)
	if err != nil {
		return Layout{}, fmt.Errorf("load layout: %w", err)
	}
	layout, err := existing.layout()
	if err != nil {
		return Layout{}, fmt.Errorf("load layout: %w", err)
	}
	if layout.Shards == 0 {
		return Layout{}, fmt.Errorf("load layout: there are no chat streams: %w", ErrNotProvisioned)
	}
	for _, shard := range layout.All() {
		if existing[shard.Stream()] == nil {
			return Layout{}, fmt.Errorf("load layout: stream %s is missing: %w", shard.Stream(), ErrNotProvisioned)
		}
	}
	return layout, nil
}

// streamInfos are the streams that exist, by name.
type streamInfos map[string]*jetstream.StreamInfo

// listStreams asks for each stream by itself: a cluster's list leaves out those
// that have no leader yet, and after a restart they would look lost.
func listStreams(ctx context.Context, js jetstream.JetStream) (streamInfos, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderWithin)
	defer cancel()
	names, err := streamNames(ctx, js)
	if err != nil {
		return nil, err
	}
	existing := make(streamInfos, len(names))
	for _, name := range names {
		info, err := streamInfo(ctx, js, name)
		if err != nil {
			return nil, err
		}
		existing[name] = info
	}
	return existing, nil
}

// streamNames asks again where nobody answers: a cluster without a leader lets
// the question fall.
func streamNames(ctx context.Context, js jetstream.JetStream) (names []string, err error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, leaderAttempt)
		lister := js.StreamNames(attempt)
		names = names[:0]
		for name := range lister.Name() {
			names = append(names, name)
		}
		err = lister.Err()
		cancel()
		if err == nil {
			return names, nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
			return nil, fmt.Errorf("list streams: %w: is JetStream running, with enough servers of its cluster?", err)
		}
	}
}

// streamInfo waits for the stream to have a leader. It returns nil for a stream
// that was deleted meanwhile.
func streamInfo(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, leaderAttempt)
		stream, err := js.Stream(attempt, name)
		cancel()
		var api *jetstream.APIError
		switch {
		case err == nil:
			return stream.CachedInfo(), nil
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("look at stream %s: no leader answers: are enough servers of the cluster running?", name)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		case errors.As(err, &api) && api.Code == 503:
			// It answers at once that it has no leader.
			select {
			case <-ctx.Done():
			case <-time.After(leaderPoll):
			}
		default:
			return nil, fmt.Errorf("look at stream %s: %w", name, err)
		}
	}
}

// layout is what the chat streams of the highest generation say of themselves;
// it has 0 shards where there is none.
func (existing streamInfos) layout() (Layout, error) {
	var newest Layout
	for name, info := range existing {
		if info == nil || !strings.HasPrefix(name, "CHAT_") {
			continue
		}
		layout, ok := parseLayout(info.Config.Metadata)
		if !ok {
			return Layout{}, fmt.Errorf("%w: stream %s does not say to which layout it belongs, so Parley did not make it: rename it, or use another NATS account",
				ErrIncompatible, name)
		}
		if layout.Generation == newest.Generation && layout.Shards != newest.Shards {
			return Layout{}, fmt.Errorf("%w: chat streams of generation %d disagree on the number of shards, %d and %d: use another NATS account, or delete those that have no events",
				ErrIncompatible, layout.Generation, layout.Shards, newest.Shards)
		}
		if layout.Generation > newest.Generation {
			newest = layout
		}
	}
	return newest, nil
}

func parseLayout(metadata map[string]string) (Layout, bool) {
	generation, err1 := strconv.Atoi(metadata[generationKey])
	shards, err2 := strconv.Atoi(metadata[shardsKey])
	ok := err1 == nil && err2 == nil && generation >= FirstGeneration && shards >= 1 && shards <= ShardsMax
	return Layout{Generation: generation, Shards: shards}, ok
}
