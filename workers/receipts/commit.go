package receipts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/streams"
	"parley/workers/store"
)

const (
	// readsMax bounds the events that are looked up at once.
	readsMax = 16
	// A mark whose event is not stored yet comes again after laterMin, then after twice
	// as long each time, up to laterMax.
	laterMin = 250 * time.Millisecond
	laterMax = 30 * time.Second
)

// commit stores the marks of a batch whose events are, acknowledges them, and has the
// others come again later.
func (w *Worker) commit(ctx context.Context, b *batch) error {
	started := time.Now()
	for _, msg := range b.bad {
		_ = msg.Term() // else it comes again, and is refused again
	}
	heads, err := w.cfg.Store.Heads(ctx, b.chats())
	if err != nil {
		return fmt.Errorf("read heads of marks: %w", err)
	}
	marks, err := w.rows(ctx, b, heads)
	if err != nil {
		return err
	}
	if len(marks) > 0 {
		err = w.cfg.Store.Mark(ctx, marks)
	}
	switch {
	case errors.Is(err, store.ErrBatch): // a defect of ours: no mark is worth to stop the others
		w.log.Error("the store takes these marks never: they are dropped", "marks", len(marks), "err", err)
		w.metrics.dropped.Add(float64(len(marks)))
	case err != nil:
		return fmt.Errorf("store %d marks: %w", len(marks), err)
	default:
		w.metrics.rows.Add(float64(len(marks)))
		w.metrics.seconds.Observe(time.Since(started).Seconds())
		w.tellPrivate(marks)
	}
	return w.acknowledge(b, heads)
}

// rows are those of the marks whose events are stored. What was read up to the chat's
// end is as many messages as the chat has; else the event tells.
func (w *Worker) rows(ctx context.Context, b *batch, heads map[schemas.Chat]store.Head) ([]store.Mark, error) {
	var mu sync.Mutex // of rows
	var rows []store.Mark
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsMax)
	for of, f := range b.marks {
		head := heads[of.chat]
		switch {
		case head.LastSeq < f.highest():
		case f.read == 0 || f.read == head.LastSeq:
			mu.Lock()
			rows = append(rows, of.row(f, head.LastN))
			mu.Unlock()
		default:
			group.Go(func() error {
				n, err := w.messagesUpTo(ctx, of.chat, f.read, head)
				if err == nil {
					mu.Lock()
					rows = append(rows, of.row(f, n))
					mu.Unlock()
				}
				return err
			})
		}
	}
	return rows, group.Wait()
}

// messagesUpTo counts a chat's messages up to a seq. Where that has disappeared, the
// event before it tells.
func (w *Worker) messagesUpTo(ctx context.Context, chat schemas.Chat, seq uint64, head store.Head) (uint64, error) {
	events, _, err := w.cfg.Store.Page(ctx, chat, store.Range{Before: seq + 1, Limit: 1, Head: &head})
	if err != nil {
		return 0, fmt.Errorf("read event %d of %s: %w", seq, chat, err)
	}
	if len(events) == 0 {
		return 0, nil
	}
	return events[0].N, nil
}

// acknowledge ends the marks that were stored.
func (w *Worker) acknowledge(b *batch, heads map[schemas.Chat]store.Head) (failed error) {
	for of, f := range b.marks {
		stored := heads[of.chat].LastSeq >= f.highest()
		for _, msg := range f.msgs {
			var err error
			if stored {
				err = msg.Ack()
			} else {
				w.metrics.early.Inc()
				err = msg.NakWithDelay(later(msg))
			}
			if err != nil {
				failed = fmt.Errorf("acknowledge a mark: %w", err)
			}
		}
	}
	return failed
}

func later(msg jetstream.Msg) time.Duration {
	meta, err := msg.Metadata()
	if err != nil {
		return laterMax
	}
	return min(laterMin<<min(meta.NumDelivered-1, 10), laterMax)
}

// tellPrivate tells users' own sessions what they have read, where nobody else is told:
// on the chat's own subject all who are in it would hear of it.
func (w *Worker) tellPrivate(marks []store.Mark) {
	for i := range marks {
		m := &marks[i]
		if m.Told {
			continue
		}
		frame := schemas.ChatFrame{T: schemas.TChat, Chat: m.Chat, Change: schemas.ChatRead, Seq: m.Read}
		data, err := json.Marshal(schemas.Notice{ChatFrame: frame, Hidden: true})
		if err == nil {
			err = w.cfg.Conn.Publish(streams.Personal(m.User), data)
		}
		if err != nil {
			w.log.Warn("a user's sessions were not told what it has read", "user", m.User, "chat", m.Chat, "err", err)
		}
	}
}
