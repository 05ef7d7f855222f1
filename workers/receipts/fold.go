package receipts

import (
	"log/slog"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
)

// batch is what came in one round, as maxima.
type batch struct {
	marks map[markOf]*folded
	bad   []jetstream.Msg // that say nothing
}

// markOf is whose mark it is; that of which others are told, and that of which not,
// are two.
type markOf struct {
	chat schemas.Chat
	user schemas.User
	told bool
}

// folded is the highest of some marks, and what they came in.
type folded struct {
	delivered, read uint64
	msgs            []jetstream.Msg
}

// highest is the seq that has to be stored before.
func (f *folded) highest() uint64 { return max(f.delivered, f.read) }

func fold(msgs []jetstream.Msg, log *slog.Logger) *batch {
	b := &batch{marks: make(map[markOf]*folded)}
	for _, msg := range msgs {
		chat, kind, user, told, ok := streams.ParseMark(msg.Subject())
		var stored schemas.StoredMark
		if err := json.Unmarshal(msg.Data(), &stored); !ok || err != nil || stored.Seq == 0 || stored.Seq > schemas.SeqMax {
			log.Warn("mark cannot be read", "subject", msg.Subject(), "err", err)
			b.bad = append(b.bad, msg)
			continue
		}
		of := markOf{chat, user, told}
		f := b.marks[of]
		if f == nil {
			f = &folded{}
			b.marks[of] = f
		}
		if kind == streams.MarkRead {
			f.read = max(f.read, stored.Seq)
		} else {
			f.delivered = max(f.delivered, stored.Seq)
		}
		f.msgs = append(f.msgs, msg)
	}
	return b
}

// chats are those of the marks, once each.
func (b *batch) chats() []schemas.Chat {
	var chats []schemas.Chat
	for of := range b.marks {
		chats = append(chats, of.chat)
	}
	slices.SortFunc(chats, func(a, b schemas.Chat) int { return compareNames(a, b) })
	return slices.Compact(chats)
}

func compareNames(a, b schemas.Chat) int {
	switch {
	case a.String() < b.String():
		return -1
	case a.String() > b.String():
		return 1
	}
	return 0
}

// row is the mark as the store takes it, with the messages up to what was read.
func (of markOf) row(f *folded, readN uint64) store.Mark {
	return store.Mark{Chat: of.chat, User: of.user, Delivered: f.delivered, Read: f.read, ReadN: readN, Told: of.told}
}
