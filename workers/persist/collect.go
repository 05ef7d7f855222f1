package persist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
	"parley/workers/store"
)

// holesMax bounds the sequences that one round reads one by one from the log;
// past it the round commits what it has and the consumer is reset to what follows.
const holesMax = 1000

// entry is one message of the shard's stream.
type entry struct {
	seq     uint64
	subject string
	time    time.Time
	data    []byte
	msg     jetstream.Msg // nil where it was read from the log
}

// event is an entry that decodes.
type event struct {
	entry
	chat  schemas.Chat
	event *schemas.Event
	row   *store.Event // what is stored of it, where a rebuild goes by that
}

// prefix is what may be committed: every sequence from the shard's next up to
// upto is in events, is gone from the log, or is in DEAD.
type prefix struct {
	events []event
	upto   uint64
	ack    jetstream.Msg // the highest delivered message that is not above upto
	holes  int           // sequences that did not come
	cut    error         // why it ends before all that was delivered; nil where it does not
}

// pullFirst waits for one message, at most PollWithin: short, since each pull
// keeps the pin alive. It returns nil where none came.
func (s *shard) pullFirst(ctx context.Context) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PollWithin)
	defer cancel()
	batch, err := s.consumer.Fetch(1, jetstream.FetchContext(ctx), jetstream.FetchPriorityGroup(s.group))
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", s.shard.Stream(), err)
	}
	for msg := range batch.Messages() {
		return msg, nil
	}
	return nil, s.pullError(batch.Error())
}

// pullError returns what of a pull's end is a fault. Losing the pin is none: the
// next message tells its owner by another pin.
func (s *shard) pullError(err error) error {
	switch {
	case err == nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrNoMessages):
		return nil
	case errors.Is(err, jetstream.ErrPinIDMismatch):
		s.drop()
		s.lastPin = ""
		return nil
	}
	return fmt.Errorf("pull from %s: %w", s.shard.Stream(), err)
}

// collect takes what comes after first until the batch is full or its window is
// over: until the oldest event is WindowMax old, but WindowMin at least. A shard
// that lags has full batches at once. This pull runs to its end even where Run is
// to stop: a pull that is given up can swallow a message on its way.
func (s *shard) collect(first jetstream.Msg) ([]entry, error) {
	meta, err := first.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata of a message of %s: %w", s.shard.Stream(), err)
	}
	s.metrics.lag.set(s.shard.Token, meta.Timestamp)
	entries := append(make([]entry, 0, 64), newEntry(first, meta))
	window := min(max(s.cfg.WindowMax-time.Since(meta.Timestamp), s.cfg.WindowMin), s.cfg.WindowMax)
	batch, err := s.consumer.Fetch(s.batchEventsMax-1, jetstream.FetchMaxWait(window), jetstream.FetchPriorityGroup(s.group))
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", s.shard.Stream(), err)
	}
	for msg := range batch.Messages() {
		if meta, err = msg.Metadata(); err != nil {
			return nil, fmt.Errorf("read metadata of a message of %s: %w", s.shard.Stream(), err)
		}
		entries = append(entries, newEntry(msg, meta))
	}
	s.metrics.pending.WithLabelValues(s.shard.Token).Set(float64(meta.NumPending))
	return entries, s.pullError(batch.Error())
}

func newEntry(msg jetstream.Msg, meta *jetstream.MsgMetadata) entry {
	return entry{seq: meta.Sequence.Stream, subject: msg.Subject(), time: meta.Timestamp, data: msg.Data(), msg: msg}
}

// densePrefix returns what of delivered may be committed. A hole before a
// message is read from the log; what is below the shard's next was committed.
func (s *shard) densePrefix(ctx context.Context, delivered []entry) prefix {
	slices.SortFunc(delivered, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	p := prefix{upto: s.next - 1, events: make([]event, 0, len(delivered))}
	for _, e := range delivered {
		s.fillBelow(ctx, &p, e.seq)
		if p.cut == nil && e.seq > p.upto {
			p.cut = s.take(ctx, &p, e)
		}
		if p.cut != nil {
			return p
		}
		p.ack = e.msg
	}
	return p
}

// fillBelow moves p on to the sequence before end, or cuts it where that cannot be.
func (s *shard) fillBelow(ctx context.Context, p *prefix, end uint64) {
	if p.upto+1 < end && p.holes == 0 {
		// Often another owner has acknowledged what is missing: then it has committed it.
		p.cut = s.compareRow(ctx)
	}
	for p.cut == nil && p.upto+1 < end {
		if p.holes++; p.holes > holesMax {
			p.cut = fmt.Errorf("hole in front of %d in %s is longer than %d", end, s.shard.Stream(), holesMax)
			return
		}
		p.cut = s.fillHole(ctx, p, end)
	}
}

// fillHole moves p on by the sequence after upto, which the consumer skipped, or
// to the log's first sequence where that is higher. It stays below end.
func (s *shard) fillHole(ctx context.Context, p *prefix, end uint64) error {
	seq := p.upto + 1
	raw, err := s.cfg.Log.Sequence(ctx, s.shard, seq)
	if err == nil {
		s.metrics.holes.Inc()
		return s.take(ctx, p, entry{seq: raw.Sequence, subject: raw.Subject, time: raw.Time, data: raw.Data})
	}
	if !errors.Is(err, streams.ErrGone) {
		return err
	}
	first, _, err := s.cfg.Log.Bounds(ctx, s.shard)
	if err != nil {
		return err
	}
	if first > seq {
		p.upto = min(first, end) - 1
		s.countLost(seq, p.upto+1)
		return nil
	}
	s.metrics.gone.Inc()
	s.log.Warn("sequence is gone from the log: skipped", "seq", seq)
	p.upto = seq
	return nil
}

// take adds e to p. What is no event of the shard goes to DEAD first; where that
// cannot be written, p ends before it.
func (s *shard) take(ctx context.Context, p *prefix, e entry) error {
	ev, err := s.decode(e)
	if err != nil {
		if err := s.bury(ctx, e, err); err != nil {
			return err
		}
	} else {
		p.events = append(p.events, ev)
	}
	p.upto = e.seq
	return nil
}

func (s *shard) decode(e entry) (event, error) {
	chat, err := chatOf(s.cfg.Log.Layout(), s.shard, e.subject)
	if err != nil {
		return event{}, err
	}
	ev, err := decodeEvent(chat, e.data)
	if err != nil {
		return event{}, err
	}
	return event{entry: e, chat: chat, event: ev}, nil
}

// decodeEvent refuses what an edge would not have let in: whoever got around the
// edges to write into a chat's log gets no further than that.
func decodeEvent(chat schemas.Chat, data []byte) (*schemas.Event, error) {
	ev, err := schemas.DecodeEvent(data)
	if err != nil {
		return nil, err
	}
	if chat.Kind() == schemas.Direct && !chat.HasDirectMember(ev.From) {
		return nil, fmt.Errorf("author %s is not a member of %s", ev.From, chat)
	}
	return ev, nil
}

// chatOf returns the chat whose log subject is, if that log belongs into shard,
// of whatever generation: a chat's place among the shards stays.
func chatOf(layout streams.Layout, shard streams.Shard, subject string) (schemas.Chat, error) {
	chat, ok := streams.TimelineChat(subject)
	if !ok {
		return chat, fmt.Errorf("subject %q is no chat's timeline", subject)
	}
	if home := layout.Shard(chat); home.Index != shard.Index || shard.Timeline(chat) != subject {
		return chat, fmt.Errorf("subject %q is in shard %s: its chat lives in %s", subject, shard.Token, home.Token)
	}
	return chat, nil
}

// bury writes e to DEAD, for reason.
func (s *shard) bury(ctx context.Context, e entry, reason error) error {
	err := dead.Bury(ctx, s.cfg.JetStream, letterOf(s.shard, e, reason))
	if err != nil {
		return err
	}
	s.metrics.deadLetters.Inc()
	s.log.Error("event given up: it is in the stream DEAD", "seq", e.seq, "subject", e.subject, "reason", reason)
	return nil
}

// letterOf is the dead letter of e, which is in shard's log.
func letterOf(shard streams.Shard, e entry, reason error) dead.Letter {
	return dead.Letter{
		Consumer: streams.PersistConsumer,
		Stream:   shard.Stream(),
		Subject:  e.subject,
		Seq:      e.seq,
		Time:     e.time,
		Reason:   reason.Error(),
		Data:     e.data,
	}
}
