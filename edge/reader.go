package edge

import (
	"context"
	"errors"

	"parley/schemas"
	"parley/streams"
)

// reader reads the timeline of a chat where it is: in the log, or in the permanent
// store by way of a history worker.
type reader struct {
	*base
	services *services
	logWatch *logWatch
}

// after returns a chat's events after a seq from where they stand together:
// the log, which ends at last for this chat as far as is known, or the store.
func (rd *reader) after(ctx context.Context, chat schemas.Chat, after, last uint64) (events []schemas.StoredEvent, more bool, err error) {
	if rd.logWatch.covers(chat, after, last) {
		return rd.logReader.After(ctx, chat, after, schemas.ResumeEventsMax+1, schemas.ResumeBytesMax)
	}
	limit := int64(schemas.PageEventsMax)
	items, more, refused := rd.services.page(ctx, &schemas.HistoryAsk{History: schemas.History{Chat: chat, After: &after, Limit: &limit}})
	if refused != nil {
		return nil, false, refused
	}
	events = make([]schemas.StoredEvent, len(items))
	for i := range items {
		events[i] = items[i].StoredEvent
	}
	return events, more, nil
}

// message returns the message at a seq of a chat, as far as a member may read it.
func (rd *reader) message(ctx context.Context, m member, chat schemas.Chat, seq uint64) (*schemas.Item, *schemas.Error) {
	after, limit := seq-1, int64(1)
	items, _, err := rd.services.page(ctx, &schemas.HistoryAsk{History: schemas.History{Chat: chat, After: &after, Limit: &limit}, From: m.from})
	if err != nil {
		return nil, err
	}
	if len(items) == 0 || items[0].Seq != seq {
		return nil, schemas.Errorf(schemas.NotFound, "%s has no message %d", chat, seq)
	}
	return &items[0], nil
}

// end returns the seq of a chat's last event, as the log's leader has it, or the
// store where the log has forgotten it.
func (rd *reader) end(ctx context.Context, chat schemas.Chat) (uint64, *schemas.Error) {
	seq, inLog, err := rd.logReader.Last(ctx, chat)
	switch {
	case err != nil:
		return 0, unknownEnd(chat)
	case inLog:
		return seq, nil
	}
	one := int64(1)
	items, _, refused := rd.services.page(ctx, &schemas.HistoryAsk{History: schemas.History{Chat: chat, Limit: &one}})
	if refused != nil || len(items) == 0 {
		return 0, refused
	}
	return items[0].Seq, nil
}

// hasDisappeared tells whether the shard's log has had an event that is gone: a chat's
// last one may be. Whose it was nobody knows any more, but nothing that comes is below it.
func (rd *reader) hasDisappeared(ctx context.Context, chat schemas.Chat, seq uint64) bool {
	if seq < rd.logReader.Layout().Shard(chat).FirstSeq() {
		return false
	}
	gone, err := isGone(ctx, rd.logReader, chat, seq)
	return err == nil && gone
}

// isGone tells whether the log's leader has had a seq, of which there may only have
// been word, and does not hold it any more.
func isGone(ctx context.Context, log *streams.Log, chat schemas.Chat, seq uint64) (bool, error) {
	shard := log.Layout().Shard(chat)
	_, err := log.Sequence(ctx, shard, seq)
	if !errors.Is(err, streams.ErrGone) {
		return false, err
	}
	_, last, err := log.Bounds(ctx, shard)
	return err == nil && seq <= last, err
}

func unknownEnd(chat schemas.Chat) *schemas.Error {
	return &schemas.Error{Code: schemas.Unavailable, Message: "how far " + chat.String() + " has come cannot be read now: send the mark again", RetryAfter: 1}
}
