package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrLost says that a shard's stream is gone, or is not the one that the
// permanent store was filled from. Its text ends with what to do.
var ErrLost = errors.New("the log is not whole: " +
	"restore its streams from a backup that is not older than the store (`nats stream restore`), or run `parley migrate --remake-lost`, on a development server `parley dev --remake-lost`: " +
	"it lays each lost shard anew with higher sequences, and what was acknowledged there and is not in the store yet stays lost. " +
	"If the store is another system's, see --nats and --store")

// storedShards is what the permanent store knows of shards: its last committed
// sequences by token.
type storedShards map[string]uint64

// newest returns the stored shard of the highest generation at index, and its
// last committed sequence.
func (s storedShards) newest(index int) (newest Shard, committed uint64) {
	for token, seq := range s {
		if shard, ok := ParseShard(token); ok && shard.Index == index && shard.Generation > newest.Generation {
			newest, committed = shard, seq
		}
	}
	return newest, committed
}

// highest returns the number of shards that the store knows of, and the highest generation.
func (s storedShards) highest() (shards, generation int, err error) {
	for token := range s {
		shard, ok := ParseShard(token)
		if !ok {
			return 0, 0, fmt.Errorf("%w: the store knows a shard %q: run the Parley that wrote it, or use another store", ErrIncompatible, token)
		}
		shards, generation = max(shards, shard.Index+1), max(generation, shard.Generation)
	}
	return shards, generation, nil
}

// lost tells why a shard's stream, whose last sequence is last, is not what the
// store was filled from; "" where nothing says so.
func (s storedShards) lost(shard Shard, last uint64) string {
	newest, committed := s.newest(shard.Index)
	switch {
	case newest.Generation > shard.Generation:
		return fmt.Sprintf("the store knows shard %d as stream %s, which is missing", shard.Index, newest.Stream())
	case newest.Generation == shard.Generation && committed > last:
		return fmt.Sprintf("the store has shard %s up to %d and its stream ends at %d", shard.Token, committed, last)
	}
	return ""
}

// CheckStored compares the log with what the permanent store knows of its shards,
// last committed sequences by token. Where the store is ahead the error wraps
// [ErrLost]: what is said now would get sequences that the store has already. A
// stream that cannot be read now is no reason.
func (l *Log) CheckStored(ctx context.Context, stored map[string]uint64) error {
	for _, shard := range l.Layout().All() {
		_, last, err := l.Bounds(ctx, shard)
		if err != nil {
			continue
		}
		if reason := storedShards(stored).lost(shard, last); reason != "" {
			return fmt.Errorf("%s: %w", reason, ErrLost)
		}
	}
	return nil
}

// reasonsMax bounds how many lost shards an error names.
const reasonsMax = 4

// remake is how the chat streams that are lost are laid anew.
type remake struct {
	indexes []int            // of the lost shards, rising
	reasons []string         // why each is one
	lists   map[Shard]string // what each new stream says of the remake that it belongs to
}

// findLost compares the streams that exist with what the store knows.
func findLost(found chatStreams, stored storedShards) (r remake) {
	for i := range found.shards {
		reason := ""
		switch info := found.serving[i]; {
		case info != nil:
			reason = stored.lost(shardOf(info), info.State.LastSeq)
		default:
			reason = fmt.Sprintf("the stream of shard %d is missing", i)
		}
		if reason != "" {
			r.indexes, r.reasons = append(r.indexes, i), append(r.reasons, reason)
		}
	}
	return r
}

func (r *remake) err() error {
	reasons := r.reasons
	if more := len(reasons) - reasonsMax; more > 0 {
		reasons = append(slices.Clone(reasons[:reasonsMax]), fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%w: %s: %w", ErrIncompatible, strings.Join(reasons, "; "), ErrLost)
}

// layout gives each lost shard the generation after all that anybody knows of.
// A remake that was begun, by a process that died or by one that works right now,
// is completed in its own generation: two at once lay the same streams. That it
// was not completed before is seen by the store, which does not know the shard yet.
func (r *remake) layout(found chatStreams, stored storedShards) (Layout, error) {
	_, known, err := stored.highest()
	if err != nil {
		return Layout{}, err
	}
	known = max(known, found.generation)
	if known >= generationMax {
		return Layout{}, fmt.Errorf("%w: generation %d is the last one", ErrIncompatible, known)
	}
	list := indexesText(r.indexes)
	begun := found.remakes[known]
	layout := found.layout()
	r.lists = make(map[Shard]string)
	for _, i := range r.indexes {
		shard, text := NewShard(known, i), begun
		if _, completed := stored[shard.Token]; completed || !slices.Contains(strings.Split(begun, ","), strconv.Itoa(i)) {
			shard, text = NewShard(known+1, i), list
		}
		layout = layout.Remade(i, shard.Generation)
		r.lists[shard] = text
	}
	return layout, nil
}

func indexesText(indexes []int) string {
	texts := make([]string, len(indexes))
	for i, index := range indexes {
		texts[i] = strconv.Itoa(index)
	}
	return strings.Join(texts, ",")
}
