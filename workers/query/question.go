package query

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"parley/schemas"
	"parley/workers/store"
)

// question is a valid request. Equal questions have one answer at a time.
type question struct {
	chat    schemas.Chat
	forward bool   // the oldest above after; else the newest below before
	before  uint64 // 0: no bound
	after   uint64
	from    uint64 // nothing below it is shown; of a forward question, after tells it
	limit   int
	raw     bool
	author  schemas.User // with raw: whose former bodies are shown; zero: everybody's
}

// parse reads a [schemas.HistoryAsk]; empty says that nothing can be in its range.
func parse(data []byte) (q question, empty bool, err error) {
	var r schemas.HistoryAsk
	if err := json.Unmarshal(data, &r); err != nil {
		return q, false, fmt.Errorf("request is not {chat, before or after, limit}: %w", err)
	}
	switch {
	case r.Chat.IsZero():
		return q, false, errors.New("chat is absent")
	case r.Before != nil && r.After != nil:
		return q, false, errors.New("before and after exclude each other")
	case r.Limit != nil && *r.Limit <= 0:
		return q, false, fmt.Errorf("limit %d is not positive", *r.Limit)
	}
	q = question{chat: r.Chat, limit: schemas.PageEventsDefault, raw: r.Raw}
	if r.Limit != nil {
		q.limit = int(min(*r.Limit, schemas.PageEventsMax))
	}
	if r.Raw {
		q.author = r.Author
	}
	if r.After != nil {
		q.forward, q.after = true, *r.After
		if r.From > 0 {
			q.after = max(q.after, r.From-1)
		}
		return q, q.after >= schemas.SeqMax, nil
	}
	q.from = r.From
	if r.Before != nil {
		q.before = *r.Before
		empty = q.before == 0 || q.before <= q.from
	}
	return q, empty || q.from > schemas.SeqMax, nil
}

// passes tells whether what q asks for may end above head.
func (q *question) passes(head store.Head) bool {
	return !q.forward && (q.before == 0 || q.before > head.LastSeq)
}

// shows tells whether an event at seq is in q's range.
func (q *question) shows(seq uint64) bool {
	if q.forward {
		return seq > q.after
	}
	return seq >= q.from && (q.before == 0 || seq < q.before)
}

// showsFormer tells whether a message's former bodies are asked for.
func (q *question) showsFormer(kind schemas.EventType, author schemas.User) bool {
	return q.raw && kind == schemas.Message && (q.author.IsZero() || q.author == author)
}
