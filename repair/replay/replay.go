// Package replay gives dead letters back: the command `parley dead replay`.
//
// [Letters] reads them and hands each to the [Handler] of its consumer. [Replayer] is
// the handler for the letters of persist.
package replay

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"parley/streams"
	"parley/workers/dead"
)

// Handler takes back what its consumer gave up on.
type Handler interface {
	// Replay does with l what its consumer should have done. It may be called
	// again for the same letter. With a nil error the letter is removed.
	Replay(ctx context.Context, l dead.Letter) error
}

// ErrNoHandler says that no handler was given for a letter's consumer.
var ErrNoHandler = errors.New("no handler for this consumer's letters")

// Letters hands the letters of consumer, or of all where it is "", to the handlers
// by their consumers' names, in the order in which they were given up. Those that
// are handled leave the stream; the others stay. told is called for each with
// its outcome. The error is that of the reading itself.
func Letters(ctx context.Context, js jetstream.JetStream, consumer string, handlers map[string]Handler, told func(dead.Letter, error)) error {
	stream, err := js.Stream(ctx, streams.DeadStream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", streams.DeadStream, err)
	}
	for letter, err := range dead.List(ctx, js, consumer) {
		if letter.ID == 0 {
			return err
		}
		if err == nil {
			err = replayOne(ctx, stream, handlers, letter)
		}
		told(letter, err)
	}
	return nil
}

// replayOne removes the letter last: where that fails it is replayed once more.
func replayOne(ctx context.Context, stream jetstream.Stream, handlers map[string]Handler, l dead.Letter) error {
	handler, ok := handlers[l.Consumer]
	if !ok {
		return fmt.Errorf("replay letter %d of %s: %w", l.ID, l.Consumer, ErrNoHandler)
	}
	if l.Truncated > 0 {
		return fmt.Errorf("replay letter %d: only %d of its %d bytes were kept", l.ID, len(l.Data), l.Truncated)
	}
	if err := handler.Replay(ctx, l); err != nil {
		return fmt.Errorf("replay letter %d: %w", l.ID, err)
	}
	if err := stream.DeleteMsg(ctx, l.ID); err != nil {
		return fmt.Errorf("remove letter %d: %w", l.ID, err)
	}
	return nil
}
