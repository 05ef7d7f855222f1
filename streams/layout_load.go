package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	found, err := existing.chatStreams()
	if err != nil {
		return Layout{}, fmt.Errorf("load layout: %w", err)
	}
	if found.shards == 0 {
		return Layout{}, fmt.Errorf("load layout: there are no chat streams: %w", ErrNotProvisioned)
	}
	if missing := found.missing(); len(missing) > 0 {
		return Layout{}, fmt.Errorf("load layout: no stream serves shards %s: %w", indexesText(missing), ErrNotProvisioned)
	}
	return found.layout(), nil
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

// chatStreams is what the chat streams that exist say of themselves.
type chatStreams struct {
	shards     int                           // 0 where there is none
	generation int                           // the highest
	used       bool                          // one of them has had an event, or is retired
	remakes    map[int]string                // by generation: the shards that were to be made anew in it
	serving    map[int]*jetstream.StreamInfo // by index: the shard's stream of the highest generation
}

// chatStreams finds which stream serves each shard. The number of shards is what
// those of the highest generation say; a stream of another number, as a larger
// layout would leave behind, serves nothing.
func (existing streamInfos) chatStreams() (chatStreams, error) {
	found := chatStreams{serving: make(map[int]*jetstream.StreamInfo), remakes: make(map[int]string)}
	shardsOf := make(map[int]int) // by generation
	for name, info := range existing {
		if info == nil || !strings.HasPrefix(name, chatStreamPrefix) {
			continue
		}
		shard, shards, ok := parseMetadata(info)
		if !ok {
			return found, fmt.Errorf("%w: stream %s does not say to which layout it belongs, so Parley did not make it: rename it, or use another NATS account",
				ErrIncompatible, name)
		}
		if other, ok := shardsOf[shard.Generation]; ok && other != shards {
			return found, fmt.Errorf("%w: chat streams of generation %d disagree on the number of shards, %d and %d: use another NATS account, or delete those that have no events",
				ErrIncompatible, shard.Generation, shards, other)
		}
		shardsOf[shard.Generation] = shards
		if list := info.Config.Metadata[remadeKey]; list != "" {
			found.remakes[shard.Generation] = list
		}
		found.used = found.used || isRetired(info) || info.State.LastSeq >= shard.FirstSeq()
		if shard.Generation > found.generation {
			found.generation, found.shards = shard.Generation, shards
		}
	}
	for name, info := range existing {
		shard, ok := ParseStream(name)
		if info == nil || !ok || isRetired(info) || shardsOf[shard.Generation] != found.shards {
			continue
		}
		if best := found.serving[shard.Index]; best == nil || shardOf(best).Generation < shard.Generation {
			found.serving[shard.Index] = info
		}
	}
	return found, nil
}

// missing are the indexes that no stream serves.
func (c chatStreams) missing() (missing []int) {
	for i := range c.shards {
		if c.serving[i] == nil {
			missing = append(missing, i)
		}
	}
	return missing
}

// layout is that of the serving streams; a missing shard is as in a new system.
func (c chatStreams) layout() Layout {
	layout := NewLayout(c.shards)
	first := true
	for i, info := range c.serving {
		layout.shards[i] = shardOf(info)
		n := info.Config.Replicas
		if first {
			layout.replicasMin, layout.replicasMax, first = n, n, false
		}
		layout.replicasMin, layout.replicasMax = min(layout.replicasMin, n), max(layout.replicasMax, n)
	}
	return layout
}

// example is a chat stream of layout, or where none of it exists, of one before it.
func (existing streamInfos) example(layout Layout) *jetstream.StreamInfo {
	for _, shard := range layout.shards {
		if info := existing[shard.Stream()]; info != nil {
			return info
		}
	}
	for _, name := range slices.Sorted(maps.Keys(existing)) {
		if _, ok := ParseStream(name); ok && existing[name] != nil {
			return existing[name]
		}
	}
	return nil
}

func isRetired(info *jetstream.StreamInfo) bool { return info.Config.Metadata[retiredKey] != "" }

// shardOf is for a stream that [parseMetadata] took.
func shardOf(info *jetstream.StreamInfo) Shard {
	shard, _ := ParseStream(info.Config.Name)
	return shard
}

func parseMetadata(info *jetstream.StreamInfo) (shard Shard, shards int, ok bool) {
	shard, ok = ParseStream(info.Config.Name)
	generation, err1 := strconv.Atoi(info.Config.Metadata[generationKey])
	shards, err2 := strconv.Atoi(info.Config.Metadata[shardsKey])
	return shard, shards, ok && err1 == nil && err2 == nil && generation == shard.Generation && shard.Index < shards && shards <= ShardsMax
}
