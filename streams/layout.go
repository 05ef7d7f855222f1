package streams

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"parley/schemas"
)

// FirstGeneration is the generation of a new system's chat streams.
const FirstGeneration = 1

// generationMax keeps sequences below 2^53, so that they are exact in JavaScript.
const generationMax = 1<<13 - 1

// ShardsMax bounds the shards: each is a stream with its own fsyncs.
const ShardsMax = 64

// Layout maps each chat to its shard. [LoadLayout] reads it from the metadata of
// the provisioned streams. The number of shards alone decides the shard of a chat,
// and it never changes: [Provision] refuses another number. The generation of a
// shard counts how often its stream was lost.
type Layout struct {
	shards []Shard // by index
	// replicas that every chat stream has, and that the one with most has.
	replicasMin, replicasMax int
}

// Shard is one of a layout's chat streams. It is comparable.
type Shard struct {
	// Token is the shard's name in subjects. A later generation has another
	// one, so that a stale edge's publish finds no stream.
	Token string
	// Index is its place in the layout.
	Index int
	// Generation counts how often the shard was laid anew: all sequences of a
	// generation are higher than those of the ones before.
	Generation int
}

// NewLayout returns the layout of a new system.
func NewLayout(shards int) Layout {
	l := Layout{shards: make([]Shard, shards), replicasMin: defaultReplicas, replicasMax: defaultReplicas}
	for i := range l.shards {
		l.shards[i] = NewShard(FirstGeneration, i)
	}
	return l
}

// Remade returns the layout in which the shard of index i is of generation.
func (l Layout) Remade(i, generation int) Layout {
	l.shards = slices.Clone(l.shards)
	l.shards[i] = NewShard(generation, i)
	return l
}

// Shards is the number of chat streams.
func (l Layout) Shards() int { return len(l.shards) }

// Replicas is how many replicas every chat stream has at least.
func (l Layout) Replicas() int { return l.replicasMin }

// CheckReplicas returns an error where a chat stream has fewer than wanted.
func (l Layout) CheckReplicas(wanted int) error {
	if l.replicasMin >= wanted {
		return nil
	}
	return fmt.Errorf("chat streams have %d replicas, %d are wanted: run `parley migrate --replicas %d`, or leave --replicas away",
		l.replicasMin, wanted, wanted)
}

// Replicated tells whether a chat stream may have a replica that lags.
func (l Layout) Replicated() bool { return l.replicasMax > 1 }

// Equal tells whether both have the same shards and replicas.
func (l Layout) Equal(other Layout) bool {
	return slices.Equal(l.shards, other.shards) && l.replicasMin == other.replicasMin && l.replicasMax == other.replicasMax
}

// Shard returns the shard of chat: FNV-1a (32 bits) of its name modulo the number of shards.
func (l Layout) Shard(chat schemas.Chat) Shard {
	h := fnv.New32a()
	h.Write([]byte(chat.String()))
	return l.shards[h.Sum32()%uint32(len(l.shards))]
}

// At returns the i-th shard.
func (l Layout) At(i int) Shard { return l.shards[i] }

// All returns the shards in order.
func (l Layout) All() []Shard { return slices.Clone(l.shards) }

// NewShard returns the shard of a generation and an index.
func NewShard(generation, index int) Shard {
	token := strconv.Itoa(index)
	if generation != FirstGeneration {
		token = strconv.Itoa(generation) + "_" + token
	}
	return Shard{Token: token, Index: index, Generation: generation}
}

// ParseShard returns the shard that has token, the inverse of [NewShard].
func ParseShard(token string) (Shard, bool) {
	generation, index := FirstGeneration, token
	if before, after, ok := strings.Cut(token, "_"); ok {
		var err error
		if generation, err = strconv.Atoi(before); err != nil || generation <= FirstGeneration || generation > generationMax {
			return Shard{}, false
		}
		index = after
	}
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= ShardsMax {
		return Shard{}, false
	}
	shard := NewShard(generation, i)
	return shard, shard.Token == token // no leading zeros or signs
}

// ParseStream returns the shard whose stream has name, the inverse of [Shard.Stream].
func ParseStream(name string) (Shard, bool) {
	token, ok := strings.CutPrefix(name, chatStreamPrefix)
	if !ok {
		return Shard{}, false
	}
	return ParseShard(token)
}

const chatStreamPrefix = "CHAT_"

// Stream is the name of the shard's stream.
func (s Shard) Stream() string { return chatStreamPrefix + s.Token }

// FirstSeq is the first sequence of the shard's stream: seq never goes back in
// any chat, and 2^53 bounds it.
func (s Shard) FirstSeq() uint64 { return uint64(s.Generation) << 40 }
