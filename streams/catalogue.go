package streams

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of what is beside the log.
const (
	// DeadMaxAge and deadMaxBytes bound the dead letters. When they are full
	// persist stops at the next one: rather that than to lose it.
	DeadMaxAge   = 30 * 24 * time.Hour
	deadMaxBytes = 256 << 20
	// presenceMaxBytes is room for 300,000 sessions; the next ones are not shown as online.
	presenceMaxBytes = 128 << 20
	// PresenceMarkerTTL is how long the bucket tells that a session has ended. Who
	// watches it hears of that at once, and who did not watch finds the key gone.
	PresenceMarkerTTL = 5 * time.Second
	// receiptsMaxAge and receiptsMaxBytes bound the marks that are not stored yet, some
	// 500,000. When they are full the oldest go: a later mark says more.
	receiptsMaxAge   = 24 * time.Hour
	receiptsMaxBytes = 128 << 20
)

// The consumer receipts: see workers/receipts.
const (
	// ReceiptsAckPending bounds the marks that workers hold, or wait with.
	ReceiptsAckPending = 16_384
	// ReceiptsAckWait is how long a worker may hold a mark before another gets it.
	ReceiptsAckWait = 30 * time.Second
)

// The consumer persist: see workers/persist.
const (
	// PinGroup is the priority group in which one persister is pinned and the others wait.
	PinGroup = "persist"
	// PinnedTTL is how long a pinned persister may be silent before another is pinned.
	PinnedTTL = 4 * time.Second
	// MaxAckPending bounds what persist holds of one shard.
	MaxAckPending = 16_384
	// AckWait is longer than a slow store takes for its largest batch.
	AckWait = 60 * time.Second
	// maxWaiting bounds the pull requests that wait: a few for each worker.
	maxWaiting = 128
)

// Metadata of the chat streams, by which [LoadLayout] knows the layout.
const (
	generationKey = "parley.generation"
	shardsKey     = "parley.shards"
	// remadeKey lists the shards that were made anew together with this one.
	remadeKey = "parley.remade"
	// retiredKey marks a stream whose shard has a newer one.
	retiredKey = "parley.retired"
)

// declaredStreams are all streams and buckets of Parley.
func declaredStreams(layout Layout, s Settings) []jetstream.StreamConfig {
	streams := append([]jetstream.StreamConfig{deadStream(s)}, memoryStreams(s)...)
	for _, shard := range layout.All() {
		streams = append(streams, chatStream(layout, shard, s))
	}
	return streams
}

// memoryStreams are those that a NATS server loses when it ends: see [ProvisionMemory].
func memoryStreams(s Settings) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{receiptsStream(s), presenceStream(s)}
}

// chatStream is the log of a shard's chats. When its bytes are full it refuses
// what is new: an old event is never lost to a new one before its age.
func chatStream(layout Layout, shard Shard, s Settings) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        shard.Stream(),
		Description: "timelines of the chats in shard " + shard.Token,
		Subjects:    shard.TimelinePatterns(),
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxAge:      s.MaxAge,
		MaxBytes:    s.MaxBytes,
		Duplicates:  s.Duplicates,
		Replicas:    s.Replicas,
		AllowDirect: true,
		AllowMsgTTL: true,
		FirstSeq:    shard.FirstSeq(),
		RePublish:   &jetstream.RePublish{Source: "chat." + shard.Token + ".>", Destination: "live.>"},
		Metadata: map[string]string{
			generationKey: strconv.Itoa(shard.Generation),
			shardsKey:     strconv.Itoa(layout.Shards()),
		},
	}
}

// deadStream keeps what a consumer gave up on.
func deadStream(s Settings) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        DeadStream,
		Description: "dead letters",
		Subjects:    []string{DeadPattern},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxAge:      DeadMaxAge,
		MaxBytes:    deadMaxBytes,
		Duplicates:  defaultDuplicates,
		Replicas:    s.Replicas,
		AllowDirect: true,
	}
}

// receiptsStream has the marks that are not stored yet. A mark is no promise:
// clients send theirs again, so memory will do. Only what the others in a chat are
// told of is republished.
func receiptsStream(s Settings) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        ReceiptsStream,
		Description: "how far users have got in chats",
		Subjects:    MarkPatterns(),
		Storage:     jetstream.MemoryStorage,
		Retention:   jetstream.InterestPolicy,
		Discard:     jetstream.DiscardOld,
		MaxAge:      receiptsMaxAge,
		MaxBytes:    receiptsMaxBytes,
		Duplicates:  defaultDuplicates,
		Replicas:    s.Replicas,
		RePublish:   &jetstream.RePublish{Source: "chat.*.>", Destination: "live.>"},
	}
}

// presenceStream is the key-value bucket presence, as js.CreateKeyValue would
// make it. Its keys carry their own TTL; it is rebuilt within one after a loss,
// so it is kept in memory.
func presenceStream(s Settings) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                   PresenceStream,
		Description:            "sessions, by <user>.<session>",
		Subjects:               []string{presencePrefix + ">"},
		Storage:                jetstream.MemoryStorage,
		Retention:              jetstream.LimitsPolicy,
		Discard:                jetstream.DiscardNew,
		MaxBytes:               presenceMaxBytes,
		MaxMsgsPerSubject:      1,
		Duplicates:             defaultDuplicates,
		Replicas:               s.Replicas,
		AllowDirect:            true,
		AllowRollup:            true,
		DenyDelete:             true,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: PresenceMarkerTTL,
	}
}

// consumer is a durable consumer and the stream that it is of.
type consumer struct {
	stream string
	config jetstream.ConsumerConfig
}

// declaredConsumers are all durable consumers of Parley.
func declaredConsumers(layout Layout, s Settings) []consumer {
	consumers := memoryConsumers()
	for _, shard := range layout.All() {
		consumers = append(consumers, consumer{shard.Stream(), persistConsumer()})
		for _, name := range s.Services {
			consumers = append(consumers, consumer{shard.Stream(), serviceConsumer(name)})
		}
	}
	return consumers
}

// memoryConsumers are those of [memoryStreams].
func memoryConsumers() []consumer {
	return []consumer{{ReceiptsStream, receiptsConsumer()}}
}

// receiptsConsumer is shared by all workers: the order of marks does not matter.
func receiptsConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       ReceiptsConsumer,
		Description:   "marks, on their way into the permanent store",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		AckWait:       ReceiptsAckWait,
		MaxDeliver:    -1,
		MaxAckPending: ReceiptsAckPending,
		MaxWaiting:    maxWaiting,
		MemoryStorage: true,
	}
}

// persistConsumer acknowledges by prefix and redelivers for ever: whether an
// event is stored is decided by the store's committed sequence, and an event
// that cannot be stored is acknowledged once it is a dead letter.
func persistConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:        PersistConsumer,
		Description:    "the permanent store",
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckAllPolicy,
		ReplayPolicy:   jetstream.ReplayInstantPolicy,
		AckWait:        AckWait,
		MaxDeliver:     -1,
		MaxAckPending:  MaxAckPending,
		MaxWaiting:     maxWaiting,
		PriorityPolicy: jetstream.PriorityPolicyPinned,
		PriorityGroups: []string{PinGroup},
		PinnedTTL:      PinnedTTL,
	}
}

// serviceConsumer is for somebody else's service, on which Parley does not wait.
func serviceConsumer(name string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       name,
		Description:   "a service beside Parley",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		AckWait:       AckWait,
		MaxDeliver:    -1,
		MaxAckPending: MaxAckPending,
		MaxWaiting:    maxWaiting,
	}
}
