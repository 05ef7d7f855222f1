// Package fold turns events of the log into rows of the permanent store.
//
// persist, rebuild and replay share this fold, so that the same events always make
// the same rows. The fold depends on the events, the chats' heads before them, and
// the messages that they change. It reads no clock and keeps no state.
package fold

import (
	"fmt"
	"time"

	"parley/schemas"
	"parley/streams"
	"parley/workers/dead"
)

// Entry is one message of a shard's stream.
type Entry struct {
	Seq     uint64
	Subject string
	Time    time.Time
	Data    []byte
}

// Event is an entry that decodes.
type Event struct {
	Entry
	Chat  schemas.Chat
	Event *schemas.Event
}

// Decode returns the event in e, an entry of shard's stream. Its error is the reason
// for a dead letter: e can never be stored.
func Decode(layout streams.Layout, shard streams.Shard, e Entry) (Event, error) {
	chat, err := chatOf(layout, shard, e.Subject)
	if err != nil {
		return Event{}, err
	}
	ev, err := decodeEvent(chat, e.Data)
	if err != nil {
		return Event{}, err
	}
	return Event{Entry: e, Chat: chat, Event: ev}, nil
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

// Letter returns the dead letter of e, an entry of shard's stream.
func (e Entry) Letter(shard streams.Shard, reason error) dead.Letter {
	return dead.Letter{
		Consumer: streams.PersistConsumer,
		Stream:   shard.Stream(),
		Subject:  e.Subject,
		Seq:      e.Seq,
		Time:     e.Time,
		Reason:   reason.Error(),
		Data:     e.Data,
	}
}
