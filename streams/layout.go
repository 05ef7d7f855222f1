package streams

import (
	"fmt"
	"hash/fnv"
	"strconv"

	"parley/schemas"
)

// FirstGeneration is the generation of a new system's chat streams.
const FirstGeneration = 1

// ShardsMax bounds a generation's shards: each is a stream with its own fsyncs.
const ShardsMax = 64

// Layout tells which shard a chat lives in. It is what the provisioned streams
// say of themselves: see [LoadLayout].
type Layout struct {
	// Generation counts how often the chat streams were laid anew: all
	// sequences of a generation are higher than those of the one before.
	Generation int
	// Shards is the number of chat streams.
	Shards int
}

// Shard is one of a layout's chat streams.
type Shard struct {
	// Token is the shard's name in subjects. A later generation has other
	// tokens, so that a stale edge's publish finds no stream.
	Token string
}

// Shard returns the shard of chat: FNV-1a (32 bits) of its name modulo the number of shards.
func (l Layout) Shard(chat schemas.Chat) Shard {
	h := fnv.New32a()
	h.Write([]byte(chat.String()))
	return l.At(int(h.Sum32() % uint32(l.Shards)))
}

// At returns the i-th shard.
func (l Layout) At(i int) Shard {
	if l.Generation == FirstGeneration {
		return Shard{strconv.Itoa(i)}
	}
	return Shard{fmt.Sprintf("%d_%d", l.Generation, i)}
}

// All returns the shards in order.
func (l Layout) All() []Shard {
	shards := make([]Shard, l.Shards)
	for i := range shards {
		shards[i] = l.At(i)
	}
	return shards
}

// FirstSeq is the first sequence of the generation's streams: seq never goes
// back in any chat, and 2^53 bounds it.
func (l Layout) FirstSeq() uint64 { return uint64(l.Generation) << 40 }

// Stream is the name of the shard's stream.
func (s Shard) Stream() string { return "CHAT_" + s.Token }
