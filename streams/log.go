package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

// ErrGone says that the log's leader does not hold a sequence: it expired or was deleted.
var ErrGone = errors.New("sequence is gone from the log")

// numPendingHeader tells in each answer of a batch how many are left to send or to ask for.
const numPendingHeader = "Nats-Num-Pending"

// MultiLastMax is how many subjects one multi_last request may name.
const MultiLastMax = 1024

// LogReadWithin bounds one read of the log where the caller's context has no deadline.
const LogReadWithin = 5 * time.Second

// Log reads back from the chat streams, by direct get where any replica's
// answer will do and from the stream's leader where absence has to be proven:
// a direct get proves presence, never absence.
type Log struct {
	js     jetstream.JetStream
	layout atomic.Pointer[Layout]
}

// NewLog returns a Log on the streams of layout.
func NewLog(js jetstream.JetStream, layout Layout) *Log {
	l := &Log{js: js}
	l.layout.Store(&layout)
	return l
}

// Layout returns the layout that the log is read by: see [Log.FollowLoop].
func (l *Log) Layout() Layout { return *l.layout.Load() }

// Replicated tells whether a direct get may be answered by a replica that lags.
func (l *Log) Replicated() bool { return l.Layout().Replicated() }

// After returns a chat's events with a seq above after, rising, at most limit
// of them and at most bytesMax bytes of JSON and one event more; more tells
// that the log has further ones. The first event's Prev is after itself.
// It costs what lies in the shard between after and the events.
func (l *Log) After(ctx context.Context, chat schemas.Chat, after uint64, limit, bytesMax int) (events []schemas.StoredEvent, more bool, err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	shard := l.Layout().Shard(chat)
	msgs, err := jetstreamext.GetBatch(ctx, l.js, shard.Stream(), limit,
		jetstreamext.GetBatchSeq(after+1), jetstreamext.GetBatchSubject(shard.Timeline(chat)), jetstreamext.GetBatchMaxBytes(bytesMax))
	if err != nil {
		return nil, false, fmt.Errorf("read log of %s after %d: %w", chat, after, err)
	}
	prev := after
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read log of %s after %d: %w", chat, after, err)
		}
		events = append(events, schemas.StoredEvent{Seq: msg.Sequence, Prev: prev, Time: msg.Time, JSON: msg.Data})
		prev = msg.Sequence
		more = msg.Header.Get(numPendingHeader) != "0"
	}
	return events, more, nil
}

// Last returns the highest seq of a chat in the log, or ok false where the log
// holds nothing of it. The answer is the leader's word.
func (l *Log) Last(ctx context.Context, chat schemas.Chat) (seq uint64, ok bool, err error) {
	shard := l.Layout().Shard(chat)
	if l.Replicated() {
		var msg *jetstream.RawStreamMsg
		if msg, err = l.fromLeader(ctx, shard, msgGetRequest{LastFor: shard.Timeline(chat)}); err == nil {
			seq = msg.Sequence
		}
	} else {
		seq, err = l.lastDirect(ctx, shard, shard.Timeline(chat)) // the only replica leads
	}
	if errors.Is(err, ErrGone) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read last of %s: %w", chat, err)
	}
	return seq, true, nil
}

func (l *Log) lastDirect(ctx context.Context, shard Shard, subject string) (seq uint64, err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	msg, err := l.js.Conn().RequestWithContext(ctx, "$JS.API.DIRECT.GET."+shard.Stream()+"."+subject, nil)
	if err != nil {
		return 0, err
	}
	if msg.Header.Get("Status") == "404" {
		return 0, ErrGone
	}
	return strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
}

// Lasts returns the highest seq of each of chats that the answering replicas
// hold anything of: at most [MultiLastMax] a stream and request, a request a stream.
func (l *Log) Lasts(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]uint64, error) {
	lasts := make(map[schemas.Chat]uint64, len(chats))
	err := l.eachLast(ctx, chats, func(chat schemas.Chat, msg *jetstream.RawStreamMsg) { lasts[chat] = msg.Sequence })
	if err != nil {
		return nil, err
	}
	return lasts, nil
}

// LastEvents returns the last event of each of chats that the answering replicas
// hold anything of, asked for as [Log.Lasts] does. Prev is not set.
func (l *Log) LastEvents(ctx context.Context, chats []schemas.Chat) (map[schemas.Chat]schemas.StoredEvent, error) {
	lasts := make(map[schemas.Chat]schemas.StoredEvent, len(chats))
	err := l.eachLast(ctx, chats, func(chat schemas.Chat, msg *jetstream.RawStreamMsg) {
		lasts[chat] = schemas.StoredEvent{Seq: msg.Sequence, Time: msg.Time, JSON: msg.Data}
	})
	if err != nil {
		return nil, err
	}
	return lasts, nil
}

// eachLast visits the last message of each of chats, the streams side by side.
func (l *Log) eachLast(ctx context.Context, chats []schemas.Chat, visit func(schemas.Chat, *jetstream.RawStreamMsg)) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	subjects := make(map[Shard][]string)
	for _, chat := range chats {
		shard := l.Layout().Shard(chat)
		subjects[shard] = append(subjects[shard], shard.Timeline(chat))
	}
	var mu sync.Mutex // of visit
	group, ctx := errgroup.WithContext(ctx)
	for shard, subjects := range subjects {
		group.Go(func() error {
			for some := range slices.Chunk(subjects, MultiLastMax) {
				if err := l.lastsOf(ctx, shard, some, &mu, visit); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (l *Log) lastsOf(ctx context.Context, shard Shard, subjects []string, mu *sync.Mutex, visit func(schemas.Chat, *jetstream.RawStreamMsg)) error {
	msgs, err := jetstreamext.GetLastMsgsFor(ctx, l.js, shard.Stream(), subjects)
	if err != nil {
		return fmt.Errorf("read lasts of %d chats in %s: %w", len(subjects), shard.Stream(), err)
	}
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read lasts of %d chats in %s: %w", len(subjects), shard.Stream(), err)
		}
		if chat, ok := TimelineChat(msg.Subject); ok {
			mu.Lock()
			visit(chat, msg)
			mu.Unlock()
		}
	}
	return nil
}

// Bounds returns the lowest sequence that a shard's stream still holds, and its last.
func (l *Log) Bounds(ctx context.Context, shard Shard) (first, last uint64, err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	stream, err := l.js.Stream(ctx, shard.Stream())
	if err != nil {
		return 0, 0, fmt.Errorf("read bounds of %s: %w", shard.Stream(), err)
	}
	state := stream.CachedInfo().State
	return state.FirstSeq, state.LastSeq, nil
}

// Sequence returns the message at one sequence of a shard's stream, or
// [ErrGone] if the stream's leader says that there is none.
func (l *Log) Sequence(ctx context.Context, shard Shard, seq uint64) (*jetstream.RawStreamMsg, error) {
	msg, err := l.fromLeader(ctx, shard, msgGetRequest{Seq: seq})
	if err != nil {
		return nil, fmt.Errorf("read sequence %d of %s: %w", seq, shard.Stream(), err)
	}
	return msg, nil
}

type msgGetRequest struct {
	Seq     uint64 `json:"seq,omitzero"`
	NextFor string `json:"next_by_subj,omitzero"` // with Seq: the first at or above it
	LastFor string `json:"last_by_subj,omitzero"`
}

type msgGetResponse struct {
	Error   *jetstream.APIError `json:"error"`
	Message *struct {
		Subject string    `json:"subject"`
		Seq     uint64    `json:"seq"`
		Header  []byte    `json:"hdrs"`
		Data    []byte    `json:"data"`
		Time    time.Time `json:"time"`
	} `json:"message"`
}

// fromLeader asks the API that only a stream's leader answers.
func (l *Log) fromLeader(ctx context.Context, shard Shard, req msgGetRequest) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	payload, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	reply, err := l.js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+shard.Stream(), payload)
	if err != nil {
		return nil, err
	}
	var resp msgGetResponse
	if err := json.Unmarshal(reply.Data, &resp); err != nil {
		return nil, err
	}
	switch {
	case resp.Error != nil && resp.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, ErrGone
	case resp.Error != nil:
		return nil, resp.Error
	case resp.Message == nil:
		return nil, errors.New("answer holds no message")
	}
	m := resp.Message
	msg := &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Seq, Data: m.Data, Time: m.Time}
	if len(m.Header) > 0 {
		if msg.Header, err = nats.DecodeHeadersMsg(m.Header); err != nil {
			return nil, fmt.Errorf("decode headers: %w", err)
		}
	}
	return msg, nil
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, LogReadWithin)
}
