package bench

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
)

// fillWindow is how many events of a stream are published between two whose ack
// is waited for. It is far below the 100,000 that a stream lets wait.
const fillWindow = 2000

// userChats is how many chats of the log each user begins.
const userChats = 1000

// logFill publishes the events of restart. They go round the chats, so that each
// chat's are spread over the whole log: the worst case for a server's index.
type logFill struct {
	shards []fillShard
	one    []schemas.Chat // of one user
	added  int
}

// fillShard is the share of one stream.
type fillShard struct {
	stream string
	chats  []fillChat
	next   uint64 // of its events
	name   string // begins the ids of its events
}

type fillChat struct {
	subject string
	frame   *sendFrame // of its first user, who says everything
}

func newLogFill(r *run, layout streams.Layout) *logFill {
	f := &logFill{}
	at := map[streams.Shard]int{}
	for i, shard := range layout.All() {
		at[shard] = i
		f.shards = append(f.shards, fillShard{stream: shard.Stream(), name: fmt.Sprintf("%6.6s%04d", r.name, i)})
	}
	var frame *sendFrame
	for i := range r.sizes.logChats {
		from, chat := logChat(r, i)
		if i%userChats == 0 {
			frame = newSendFrame(from, chat, "r", r.cfg.TextBytes)
		}
		if i < userChats {
			f.one = append(f.one, chat)
		}
		shard := layout.Shard(chat)
		s := &f.shards[at[shard]]
		s.chats = append(s.chats, fillChat{shard.Timeline(chat), frame})
	}
	return f
}

// logChat returns the i-th chat of the log, and its first sender.
func logChat(r *run, i int) (schemas.User, schemas.Chat) {
	from := r.user("u%d", i/userChats)
	return from, schemas.DirectChat(from, r.user("v%d", i%userChats))
}

// chatsOfOne are the chats of one user.
func (f *logFill) chatsOfOne() []schemas.Chat { return f.one }

// add publishes about n events, and returns once all are stored. Where ctx ends
// before, some of them are.
func (f *logFill) add(ctx context.Context, server *LogServer, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	chats := 0
	for i := range f.shards {
		chats += len(f.shards[i].chats)
	}
	var began uint64
	for i := range f.shards {
		s := &f.shards[i]
		began += s.next
		share := uint64(n) * uint64(len(s.chats)) / uint64(chats)
		group.Go(func() error { return s.add(ctx, server, share) })
	}
	err := group.Wait()
	for i := range f.shards {
		f.added += int(f.shards[i].next)
	}
	f.added -= int(began)
	return err
}

// add publishes n events on a connection of its own. Only one in fillWindow has
// its ack waited for, and all are counted at the end: the client shares the
// machine with the server, and an ack for each would cost more than the rest.
func (s *fillShard) add(ctx context.Context, server *LogServer, n uint64) error {
	js, err := openJetStream(ctx, server.Edge)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	before, err := streamState(ctx, js, s.stream)
	if err != nil {
		return err
	}
	for i := range n {
		msg := s.message()
		if (i+1)%fillWindow != 0 && i+1 != n {
			if err := js.Conn().PublishMsg(msg); err != nil {
				return fmt.Errorf("publish to %s: %w", msg.Subject, err)
			}
			continue
		}
		ack, err := js.PublishMsg(ctx, msg)
		if err != nil {
			return fmt.Errorf("publish to %s: %w", msg.Subject, err)
		}
		if want := before.LastSeq + i + 1; ack.Sequence != want || ack.Duplicate {
			return fmt.Errorf("publish to %s: event %d has sequence %d: some were refused", msg.Subject, want, ack.Sequence)
		}
	}
	return nil
}

func (s *fillShard) message() *nats.Msg {
	chat := &s.chats[s.next%uint64(len(s.chats))]
	s.next++
	return &nats.Msg{
		Subject: chat.subject, Data: chat.frame.event(s.next),
		Header: nats.Header{jetstream.MsgIDHeader: {fmt.Sprintf("%s%012d", s.name, s.next)}},
	}
}

// acknowledge sets persist's consumer behind all that the log has.
func (f *logFill) acknowledge(ctx context.Context, server *LogServer) error {
	js, err := openJetStream(ctx, server.Worker)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	for i := range f.shards {
		stream := f.shards[i].stream
		state, err := streamState(ctx, js, stream)
		if err != nil {
			return err
		}
		if _, err := js.ResetConsumerToSequence(ctx, stream, streams.PersistConsumer, state.LastSeq+1); err != nil {
			return fmt.Errorf("set consumer of %s behind %d: %w", stream, state.LastSeq, err)
		}
	}
	return nil
}
