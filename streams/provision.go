package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrIncompatible is returned by [Provision] where what exists cannot become what is declared.
	ErrIncompatible = errors.New("what is provisioned is not compatible")

	errNoRoom = errors.New("the disk has no room for it")
)

// Codes of the server that nats.go has no name for.
const (
	codeNoSuitablePeers  jetstream.ErrorCode = 10005
	codeStorageExhausted jetstream.ErrorCode = 10047
)

const (
	// provisionTries bounds how often a provisioner yields to another one that
	// works at the same time.
	provisionTries = 5
	// requestWithin bounds one creation or update. A cluster leaves some unanswered
	// where two ask for the same at once; asked again it answers.
	requestWithin = 5 * time.Second
)

// Provision makes every stream, bucket and consumer that is missing and updates
// those that differ from settings where nothing is lost by that. Where something
// would be, it changes nothing of it and returns an error that wraps
// [ErrIncompatible]. It deletes nothing. It may be run again, and by many at once.
func Provision(ctx context.Context, js jetstream.JetStream, settings Settings) (Layout, error) {
	if err := settings.Validate(); err != nil {
		return Layout{}, fmt.Errorf("provision: %w", err)
	}
	p := &provisioner{js: js, asked: settings}
	for try := 1; ; try++ {
		layout, err := p.once(ctx)
		switch {
		case err == nil:
			return layout, nil
		case errors.Is(err, errNoRoom) && p.shrink():
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) && try < provisionTries:
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && try < provisionTries:
		default:
			return Layout{}, fmt.Errorf("provision: %w", err)
		}
	}
}

type provisioner struct {
	js    jetstream.JetStream
	asked Settings

	// maxBytes is what a new chat stream reserves where nobody asked for a size.
	maxBytes int64
	virgin   bool // no chat stream has had an event yet
	// remade has the new streams of lost shards, with what they say of the remake.
	remade map[Shard]string
}

func (p *provisioner) once(ctx context.Context) (Layout, error) {
	existing, err := listStreams(ctx, p.js)
	if err != nil {
		return Layout{}, err
	}
	layout, err := p.layout(existing)
	if err != nil {
		return Layout{}, err
	}
	settings := p.settings(existing, layout)
	// Nothing is touched before everything is known to fit.
	if err := p.check(ctx, existing, layout, settings); err != nil {
		return Layout{}, err
	}
	if err := p.retireOld(ctx, existing, layout); err != nil {
		return Layout{}, err
	}
	for _, cfg := range declaredStreams(layout, settings) {
		if shard, ok := ParseStream(cfg.Name); ok && p.remade[shard] != "" {
			cfg.Metadata[remadeKey] = p.remade[shard]
		}
		if err := p.ensureStream(ctx, cfg, existing[cfg.Name]); err != nil {
			return Layout{}, err
		}
	}
	for _, c := range declaredConsumers(layout, settings) {
		if err := p.ensureConsumer(ctx, c.stream, c.config); err != nil {
			return Layout{}, err
		}
	}
	layout.replicasMin, layout.replicasMax = settings.Replicas, settings.Replicas
	return layout, nil
}

// check reports everything that exists and cannot become what is declared.
func (p *provisioner) check(ctx context.Context, existing streamInfos, layout Layout, settings Settings) error {
	var faults []error
	for _, want := range declaredStreams(layout, settings) {
		if info := existing[want.Name]; info != nil {
			faults = append(faults, p.checkStream(ctx, want, info))
		}
	}
	for _, want := range declaredConsumers(layout, settings) {
		if existing[want.stream] == nil {
			continue
		}
		have, err := p.consumer(ctx, want.stream, want.config.Durable)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound):
		case err != nil:
			faults = append(faults, fmt.Errorf("look at consumer %s of %s: %w", want.config.Durable, want.stream, err))
		default:
			faults = append(faults, checkConsumer(want.stream, want.config, have.CachedInfo().Config))
		}
	}
	return errors.Join(faults...)
}

// layout is that of the streams that exist, or a new one. A lost shard of a log
// that has had events is not made anew as it was: its sequences would begin again
// below those that the store and the clients know.
func (p *provisioner) layout(existing streamInfos) (Layout, error) {
	found, err := existing.chatStreams()
	if err != nil {
		return Layout{}, err
	}
	stored := storedShards(p.asked.Stored)
	storedMin, _, err := stored.highest()
	if err != nil {
		return Layout{}, err
	}
	p.virgin, p.remade = !found.used, nil
	if found.shards == 0 && storedMin == 0 {
		return NewLayout(p.asked.withDefaults().Shards), nil
	}
	if found.shards == 0 { // the store may not know all of them
		found.shards = max(p.asked.Shards, storedMin)
	}
	if p.asked.Shards != 0 && p.asked.Shards != found.shards {
		return Layout{}, fmt.Errorf("%w: %d shards are asked for, %d are provisioned, and a chat stays in its shard: ask for %d, or leave the number away",
			ErrIncompatible, p.asked.Shards, found.shards, found.shards)
	}
	lost := findLost(found, stored)
	switch {
	case len(lost.indexes) == 0:
	case p.virgin && len(stored) == 0 && found.generation == FirstGeneration: // the first provisioning was interrupted
	case !p.asked.RemakeLost:
		return Layout{}, lost.err()
	default:
		layout, err := lost.layout(found, stored)
		p.remade = lost.lists
		return layout, err
	}
	return found.layout(), nil
}

// retireOld takes every stream whose shard has a newer one out of use: before the
// newer one is made, so that nothing is stored where nobody will look.
func (p *provisioner) retireOld(ctx context.Context, existing streamInfos, layout Layout) error {
	for name, info := range existing {
		shard, ok := ParseStream(name)
		if info == nil || !ok || isRetired(info) || shard.Index >= layout.Shards() || shard.Generation >= layout.At(shard.Index).Generation {
			continue
		}
		if err := p.retire(ctx, info); err != nil {
			return err
		}
	}
	return nil
}

// retire takes the subjects from a stream whose shard has a newer one, so that
// who still has the old layout publishes to no stream. What it holds can be read
// until it reaches its age; the stream may be deleted.
func (p *provisioner) retire(ctx context.Context, info *jetstream.StreamInfo) error {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	cfg := updatedStream(info.Config, info.Config)
	shard := shardOf(info)
	cfg.Subjects = []string{"retired." + shard.Token}
	cfg.RePublish = nil
	cfg.Description = "retired: shard " + strconv.Itoa(shard.Index) + " was made anew"
	cfg.Metadata[retiredKey] = "true"
	if _, err := p.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("retire stream %s: %w", cfg.Name, err)
	}
	return nil
}

// settings fills what was not asked for from what is provisioned.
func (p *provisioner) settings(existing streamInfos, layout Layout) Settings {
	s := p.asked
	s.MaxBytes = cmp.Or(s.MaxBytes, p.maxBytes)
	if info := existing.example(layout); info != nil {
		s.Replicas = cmp.Or(s.Replicas, info.Config.Replicas)
		s.MaxAge = cmp.Or(s.MaxAge, info.Config.MaxAge)
		s.MaxBytes = cmp.Or(s.MaxBytes, info.Config.MaxBytes)
		s.Duplicates = cmp.Or(s.Duplicates, min(info.Config.Duplicates, s.MaxAge))
	}
	s = s.withDefaults()
	p.maxBytes = s.MaxBytes
	return s
}

// shrink halves what the chat streams reserve, as long as nobody asked for a
// size and nothing is stored.
func (p *provisioner) shrink() bool {
	if p.asked.MaxBytes != 0 || !p.virgin || p.maxBytes/2 < maxBytesMin {
		return false
	}
	p.maxBytes /= 2
	return true
}

func (p *provisioner) checkStream(ctx context.Context, want jetstream.StreamConfig, info *jetstream.StreamInfo) error {
	if fixed := compareStreams(info.Config, want).fixed(); len(fixed) > 0 {
		return fmt.Errorf("%w: stream %s has %s: run the Parley that made it, or use another NATS account; or, if its events may be lost, delete the stream yourself",
			ErrIncompatible, want.Name, fixed)
	}
	// A stream removes what is over its byte limit, even one that discards what is new.
	if want.MaxBytes < int64(info.State.Bytes) {
		return fmt.Errorf("%w: stream %s holds %d bytes, more than the %d it should be limited to: ask for more, or wait until events have reached their age",
			ErrIncompatible, want.Name, info.State.Bytes, want.MaxBytes)
	}
	if want.MaxAge > 0 && (want.MaxAge < info.Config.MaxAge || info.Config.MaxAge == 0) {
		return p.checkAge(ctx, want)
	}
	return nil
}

// checkAge refuses an age at which events would go that persist has not stored.
func (p *provisioner) checkAge(ctx context.Context, want jetstream.StreamConfig) error {
	consumer, err := p.consumer(ctx, want.Name, PersistConsumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at consumer %s of %s: %w", PersistConsumer, want.Name, err)
	}
	stream, err := p.js.Stream(ctx, want.Name)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", want.Name, err)
	}
	next := consumer.CachedInfo().AckFloor.Stream + 1
	oldest, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(">"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the oldest event of %s that is not stored: %w", want.Name, err)
	}
	if age := time.Since(oldest.Time); age > want.MaxAge {
		return fmt.Errorf("%w: stream %s should keep events for %v, but one of %v ago is not in the permanent store: let the workers catch up first",
			ErrIncompatible, want.Name, want.MaxAge, age.Round(time.Millisecond))
	}
	return nil
}

func (p *provisioner) consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	return p.js.Consumer(ctx, stream, name)
}

func checkConsumer(stream string, want, have jetstream.ConsumerConfig) error {
	fixed := compareConsumers(have, want).fixed()
	if len(fixed) == 0 {
		return nil
	}
	return fmt.Errorf("%w: consumer %s of %s has %s: stop what uses it, delete it (`nats consumer rm %[3]s %[2]s`), and provision again: it then begins at the oldest event",
		ErrIncompatible, want.Durable, stream, fixed)
}

func (p *provisioner) ensureStream(ctx context.Context, want jetstream.StreamConfig, info *jetstream.StreamInfo) error {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	if info == nil {
		_, err := p.js.CreateStream(ctx, want)
		return streamError("create", want, err)
	}
	ds := compareStreams(info.Config, want)
	if len(ds) == 0 {
		return nil
	}
	_, err := p.js.UpdateStream(ctx, updatedStream(info.Config, want))
	return streamError("update ("+ds.String()+")", want, err)
}

// streamError explains what the server refused.
func streamError(verb string, cfg jetstream.StreamConfig, err error) error {
	if err == nil {
		return nil
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch {
		// The server has one code for all kinds of unsuitable peers, and tells them apart in its text only.
		case api.ErrorCode == codeStorageExhausted,
			api.ErrorCode == codeNoSuitablePeers && strings.Contains(api.Description, "insufficient storage"):
			return fmt.Errorf("%s stream %s: %w: it reserves %d bytes: free some space, or ask for fewer bytes",
				verb, cfg.Name, errNoRoom, cfg.MaxBytes)
		case cfg.Replicas > 1:
			return fmt.Errorf("%s stream %s with %d replicas: %w: are so many servers in the cluster, and running?", verb, cfg.Name, cfg.Replicas, err)
		}
	}
	return fmt.Errorf("%s stream %s: %w", verb, cfg.Name, err)
}

func (p *provisioner) ensureConsumer(ctx context.Context, stream string, want jetstream.ConsumerConfig) error {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	consumer, err := p.js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		consumer, err = p.js.CreateConsumer(ctx, stream, want)
	}
	if errors.Is(err, jetstream.ErrConsumerExists) { // another provisioner was first
		consumer, err = p.js.Consumer(ctx, stream, want.Durable)
	}
	if err != nil {
		return fmt.Errorf("make consumer %s of %s: %w", want.Durable, stream, err)
	}
	have := consumer.CachedInfo().Config
	ds := compareConsumers(have, want)
	if len(ds) == 0 {
		return nil
	}
	// Another provisioner may have made it since everything was checked.
	if err := checkConsumer(stream, want, have); err != nil {
		return err
	}
	want.Metadata = have.Metadata
	if _, err := p.js.UpdateConsumer(ctx, stream, want); err != nil {
		return fmt.Errorf("update consumer %s of %s (%s): %w", want.Durable, stream, ds, err)
	}
	return nil
}
