package streams

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// difference is a field in which what exists is not what is declared. A fixed
// one cannot be changed without loss.
type difference struct {
	field      string
	have, want string
	fixed      bool
}

func (d difference) String() string {
	return fmt.Sprintf("%s: is %s, should be %s", d.field, d.have, d.want)
}

type differences []difference

func (ds differences) String() string {
	texts := make([]string, len(ds))
	for i, d := range ds {
		texts[i] = d.String()
	}
	return strings.Join(texts, "; ")
}

// fixed are those that forbid an update.
func (ds differences) fixed() differences {
	return slices.DeleteFunc(slices.Clone(ds), func(d difference) bool { return !d.fixed })
}

const (
	isFixed   = true
	mayChange = false
)

func compare[T comparable](ds *differences, field string, fixed bool, have, want T) {
	if have != want {
		*ds = append(*ds, difference{field, fmt.Sprint(have), fmt.Sprint(want), fixed})
	}
}

func compareStreams(have, want jetstream.StreamConfig) differences {
	var ds differences
	compare(&ds, "subjects", isFixed, sortedList(have.Subjects), sortedList(want.Subjects))
	compare(&ds, "storage", isFixed, have.Storage, want.Storage)
	compare(&ds, "retention", isFixed, have.Retention, want.Retention)
	compare(&ds, "first sequence", isFixed, have.FirstSeq, want.FirstSeq)
	compare(&ds, "persist mode", isFixed, have.PersistMode, want.PersistMode)
	for _, key := range []string{generationKey, shardsKey} {
		compare(&ds, "metadata "+key, isFixed, have.Metadata[key], want.Metadata[key])
	}
	compare(&ds, "replicas", mayChange, have.Replicas, want.Replicas)
	compare(&ds, "max age", mayChange, have.MaxAge, want.MaxAge)
	compare(&ds, "max bytes", mayChange, have.MaxBytes, want.MaxBytes)
	compare(&ds, "duplicate window", mayChange, have.Duplicates, want.Duplicates)
	compare(&ds, "discard", mayChange, have.Discard, want.Discard)
	compare(&ds, "max messages per subject", mayChange, max(have.MaxMsgsPerSubject, 0), want.MaxMsgsPerSubject)
	compare(&ds, "direct get", mayChange, have.AllowDirect, want.AllowDirect)
	compare(&ds, "rollup", mayChange, have.AllowRollup, want.AllowRollup)
	compare(&ds, "message TTL", mayChange, have.AllowMsgTTL, want.AllowMsgTTL)
	compare(&ds, "delete marker TTL", mayChange, have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL)
	compare(&ds, "republish", mayChange, republishText(have.RePublish), republishText(want.RePublish))
	return ds
}

func compareConsumers(have, want jetstream.ConsumerConfig) differences {
	var ds differences
	compare(&ds, "ack policy", isFixed, have.AckPolicy, want.AckPolicy)
	compare(&ds, "deliver policy", isFixed, have.DeliverPolicy, want.DeliverPolicy)
	compare(&ds, "replay policy", isFixed, have.ReplayPolicy, want.ReplayPolicy)
	compare(&ds, "deliver subject", isFixed, have.DeliverSubject, want.DeliverSubject)
	compare(&ds, "max waiting", isFixed, have.MaxWaiting, want.MaxWaiting)
	compare(&ds, "filters", isFixed, filtersText(have), filtersText(want))
	compare(&ds, "priority policy", isFixed, have.PriorityPolicy, want.PriorityPolicy)
	compare(&ds, "priority groups", isFixed, sortedList(have.PriorityGroups), sortedList(want.PriorityGroups))
	compare(&ds, "pinned TTL", mayChange, have.PinnedTTL, want.PinnedTTL)
	compare(&ds, "ack wait", mayChange, have.AckWait, want.AckWait)
	compare(&ds, "max ack pending", mayChange, have.MaxAckPending, want.MaxAckPending)
	compare(&ds, "max deliver", mayChange, have.MaxDeliver, want.MaxDeliver)
	compare(&ds, "inactive threshold", mayChange, have.InactiveThreshold, want.InactiveThreshold)
	return ds
}

// updatedStream is what the update of a stream asks for: all that is declared,
// beside what an operator added to have.
func updatedStream(have, want jetstream.StreamConfig) jetstream.StreamConfig {
	want.Placement = have.Placement
	metadata := maps.Clone(have.Metadata)
	if metadata == nil {
		metadata = make(map[string]string)
	}
	maps.Copy(metadata, want.Metadata)
	want.Metadata = metadata
	return want
}

func sortedList(items []string) string {
	return "[" + strings.Join(slices.Sorted(slices.Values(items)), " ") + "]"
}

func republishText(r *jetstream.RePublish) string {
	if r == nil {
		return "none"
	}
	return r.Source + " to " + r.Destination
}

func filtersText(cfg jetstream.ConsumerConfig) string {
	filters := cfg.FilterSubjects
	if cfg.FilterSubject != "" {
		filters = append(slices.Clone(filters), cfg.FilterSubject)
	}
	return sortedList(filters)
}
