package receipts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
	"parley/workers/worker"
)

const (
	// readsMax bounds the events that are looked up at once.
	readsMax = 16
	// A mark that could not be stored yet comes again after laterMin, then after twice
	// as long each time, up to laterMax.
	laterMin = 250 * time.Millisecond
	laterMax = 30 * time.Second
)

// commit stores the marks whose events are, acknowledges them, and has the others come
// again later.
func (w *Worker) commit(ctx context.Context, received []received) error {
	started := time.Now()
	heads, err := w.cfg.Store.Heads(ctx, chatsOf(received))
	if err != nil {
		return fmt.Errorf("read heads of marks: %w", err)
	}
	highest, early := fold(received, heads)
	marks, err := w.rows(ctx, highest, heads)
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
	w.metrics.early.Add(float64(len(early)))
	giveBack(early)
	return acknowledge(received, heads)
}

// rows are the marks as they are stored. What was read up to the chat's end is as many
// messages as the chat has; else what follows tells.
func (w *Worker) rows(ctx context.Context, highest map[markOf]folded, heads map[schemas.Chat]store.Head) ([]store.Mark, error) {
	var mu sync.Mutex // of rows
	rows := make([]store.Mark, 0, len(highest))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsMax)
	for of, f := range highest {
		head := heads[of.chat]
		if f.read == 0 || f.read == head.LastSeq {
			mu.Lock()
			rows = append(rows, of.row(f, head.LastN))
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			n, err := w.messagesUpTo(ctx, of.chat, f.read, head)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			rows = append(rows, of.row(f, n))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return rows, nil
}

// messagesUpTo counts a chat's messages up to a seq, below the chat's end: its event
// tells, or where that has disappeared the one behind it.
func (w *Worker) messagesUpTo(ctx context.Context, chat schemas.Chat, seq uint64, head store.Head) (uint64, error) {
	events, _, err := w.cfg.Store.Page(ctx, chat, store.Range{Before: seq + 1, Limit: 1, Head: &head})
	if err != nil {
		return 0, fmt.Errorf("read event %d of %s: %w", seq, chat, err)
	}
	if len(events) > 0 && events[0].Seq == seq {
		return events[0].N, nil
	}
	events, _, err = w.cfg.Store.Page(ctx, chat, store.Range{Forward: true, After: seq, Before: head.LastSeq + 1, Limit: 1, Head: &head})
	switch {
	case err != nil:
		return 0, fmt.Errorf("read what follows %d in %s: %w", seq, chat, err)
	case len(events) == 0:
		return head.LastN, nil
	case events[0].Type == schemas.Message:
		return events[0].N - 1, nil
	}
	return events[0].N, nil
}

// acknowledge ends the marks whose events are stored.
func acknowledge(received []received, heads map[schemas.Chat]store.Head) (failed error) {
	for i := range received {
		m := &received[i]
		if m.seq > heads[m.chat].LastSeq {
			continue
		}
		if err := m.msg.Ack(); err != nil {
			failed = fmt.Errorf("acknowledge a mark: %w", err)
		}
	}
	return failed
}

// giveBack has marks come again later, to this worker or another.
func giveBack(received []received) {
	for i := range received {
		_ = received[i].msg.NakWithDelay(later(received[i].msg)) // else when their time here is over
	}
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
		notice := schemas.Notice{ChatFrame: frame, Hidden: true}
		if err := worker.Notify(w.cfg.Conn, m.User, notice); err != nil {
			w.log.Warn("a user's sessions were not told what it has read", "user", m.User, "chat", m.Chat, "err", err)
		}
	}
}
