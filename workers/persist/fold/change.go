package fold

import (
	"parley/schemas"
	"parley/workers/store"
)

// foldChange adds what an event does to its target, which row, the event's own,
// is not part of yet. Only a message of the same chat that has not disappeared is
// a target; for anything else the event changes nothing. After the delete of a
// message, further deletes and edits change nothing of it, and such an edit is
// stored without its body; it can be unpinned, and nobody is shown its reactions.
func foldChange(chat *store.ChatBatch, t *target, e *Event, row *store.Event) {
	if t == nil || t.row.Seq == 0 || t.row.Type != schemas.Message {
		return
	}
	if !t.row.Expires.IsZero() && !e.Time.Before(t.row.Expires) {
		return
	}
	state := &t.row.State
	gone := state.Deleted != 0 && state.Deleted < e.Seq
	ev := e.Event
	change := store.Change{Type: ev.Type, Seq: e.Seq, Target: t.row.Seq, Bucket: t.row.Bucket, Expires: t.row.Expires, On: !ev.Remove}
	switch ev.Type {
	case schemas.Edit:
		if gone {
			row.JSON = blank(row)
			return
		}
		if ev.From != t.row.Author {
			return
		}
		change.Body, change.Time = ev.Body, e.Time
		row.Expires = t.row.Expires // what it says does not outlive the message
		state.Edited = max(state.Edited, e.Seq)
		t.edits = append(t.edits, *row)
	case schemas.Delete:
		if gone {
			return
		}
		state.Deleted = e.Seq
		change.Blanks = append(change.Blanks, blankOf(&t.row))
		for i := range t.edits {
			if t.edits[i].Seq < e.Seq {
				change.Blanks = append(change.Blanks, blankOf(&t.edits[i]))
			}
		}
	case schemas.React:
		change.Emoji, change.User = ev.Emoji, ev.From
	}
	chat.Changes = append(chat.Changes, change)
}

func blankOf(row *store.Event) store.Blank {
	return store.Blank{Seq: row.Seq, Bucket: row.Bucket, JSON: blank(row)}
}

// blank is a row's JSON without its content. What cannot be read any more, as
// after a way back to an older version, loses all but who said it.
func blank(row *store.Event) []byte {
	if empty, err := schemas.Blank(row.JSON); err == nil {
		return empty
	}
	return []byte(`{"type":"` + string(schemas.Message) + `","id":"` + row.ID.String() + `","from":"` + row.Author.String() + `","body":{}}`)
}
