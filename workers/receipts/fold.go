package receipts

import (
	"cmp"
	"log/slog"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
)

// received is a mark as it came.
type received struct {
	markOf
	kind streams.MarkKind
	seq  uint64
	msg  jetstream.Msg
}

// markOf is whose mark it is; that of which others are told, and that of which not,
// are two.
type markOf struct {
	chat schemas.Chat
	user schemas.User
	told bool
}

// folded is the highest of some marks.
type folded struct{ delivered, read uint64 }

// parse reads marks. What is none is ended: else it came again, and was refused again.
func parse(msgs []jetstream.Msg, log *slog.Logger) []received {
	marks := make([]received, 0, len(msgs))
	for _, msg := range msgs {
		chat, kind, user, told, ok := streams.ParseMark(msg.Subject())
		var stored schemas.StoredMark
		if err := json.Unmarshal(msg.Data(), &stored); !ok || err != nil || stored.Seq == 0 || stored.Seq > schemas.SeqMax {
			log.Warn("mark cannot be read", "subject", msg.Subject(), "err", err)
			_ = msg.Term()
			continue
		}
		marks = append(marks, received{markOf{chat, user, told}, kind, stored.Seq, msg})
	}
	return marks
}

// chatsOf are those of the marks, once each.
func chatsOf(marks []received) []schemas.Chat {
	chats := make([]schemas.Chat, len(marks))
	for i := range marks {
		chats[i] = marks[i].chat
	}
	slices.SortFunc(chats, func(a, b schemas.Chat) int { return cmp.Compare(a.String(), b.String()) })
	return slices.Compact(chats)
}

// fold returns the highest of the marks whose events are stored, and those whose
// events are not yet.
func fold(marks []received, heads map[schemas.Chat]store.Head) (highest map[markOf]folded, early []received) {
	highest = make(map[markOf]folded)
	for _, m := range marks {
		if m.seq > heads[m.chat].LastSeq {
			early = append(early, m)
			continue
		}
		f := highest[m.markOf]
		if m.kind == streams.MarkRead {
			f.read = max(f.read, m.seq)
		} else {
			f.delivered = max(f.delivered, m.seq)
		}
		highest[m.markOf] = f
	}
	return highest, early
}

// row is the mark as the store takes it, with the messages up to what was read.
func (of markOf) row(f folded, readN uint64) store.Mark {
	return store.Mark{Chat: of.chat, User: of.user, Delivered: f.delivered, Read: f.read, ReadN: readN, Told: of.told}
}
