package bench

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
	"parley/workers/store"
)

const (
	pageEvents = 50
	// fillInFlight are the sends in flight while a chat is filled.
	fillInFlight = 256
)

// history measures reading the newest page of a long chat, next to the store alone.
func (w pageWorkloads) history(ctx context.Context) error {
	from, to := w.user("h"), w.user("p")
	chat := schemas.DirectChat(from, to)
	w.progress("history: sending %d messages", w.sizes.events)
	last, err := w.fill(ctx, from, chat, w.sizes.events)
	if err != nil {
		return err
	}
	store, err := w.openStore(ctx, chat, last)
	if err != nil {
		return err
	}
	if store != nil {
		defer store.Close()
	}
	if err := w.target.quiet(ctx); err != nil {
		return err
	}
	w.progress("history: %d readers", w.sizes.readers)
	l := &load{}
	m, err := w.readPages(ctx, from, chat, last, l)
	if err != nil {
		return err
	}
	result := Result{Workload: historyWorkload, Case: fmt.Sprintf("%d readers", w.sizes.readers), Unit: "pages"}
	result.setLoad(m, &l.latencies)
	if store != nil {
		w.progress("history: %d readers of the store alone", w.sizes.readers)
		alone, err := w.readStore(ctx, store, chat)
		if err != nil {
			return err
		}
		result.compare(&Result{Workload: fmt.Sprintf("the store alone (%.0f/s)", alone), Rate: alone}, func(store *Result) float64 { return result.Rate / store.Rate })
	}
	w.add(result)
	return nil
}

// fill sends n messages and returns the seq of the last.
func (w pageWorkloads) fill(ctx context.Context, from schemas.User, chat schemas.Chat, n int) (last uint64, err error) {
	s, err := openSession(ctx, w.target, from, "", busyBufferBytes)
	if err != nil {
		return 0, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	err = s.fill(newSendFrame(from, chat, "h", w.cfg.TextBytes), n)
	return s.lastSeq, err
}

// fill sends n messages, and returns when their acks and events have come.
func (s *session) fill(frame *sendFrame, n int) error {
	var out []byte
	sent, acked, events := 0, 0, 0
	for acked < n || events < n {
		out = out[:0]
		for ; sent < n && sent < acked+fillInFlight; sent++ {
			out = frame.append(out, sent%fillInFlight, uint64(sent))
		}
		if len(out) > 0 {
			if err := s.write(out); err != nil {
				return err
			}
		}
		if err := s.net.SetReadDeadline(time.Now().Add(drainWithin)); err != nil {
			return err
		}
		for more := true; more; more = s.reader.more() {
			k, _, err := s.next()
			if err != nil {
				return fmt.Errorf("%d of %d acks, %d of %d events: %w", acked, n, events, n, err)
			}
			switch k {
			case kindAck:
				acked++
			case kindEvent:
				events++
			}
		}
	}
	return nil
}

// openStore returns the store when it has the chat up to last; nil where none was given.
func (w pageWorkloads) openStore(ctx context.Context, chat schemas.Chat, last uint64) (Store, error) {
	if w.cfg.OpenStore == nil || w.target.StorePath == "" {
		return nil, nil
	}
	store, err := w.cfg.OpenStore(ctx, w.target.StorePath)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	for deadline := time.Now().Add(quietWithin); ; {
		newest, err := newestEvents(ctx, store, chat, 1)
		if err == nil && len(newest) == 1 && newest[0].Seq == last {
			return store, nil
		}
		if err == nil && time.Now().After(deadline) {
			err = fmt.Errorf("the store lacks the newest events of %s after %s", chat, quietWithin)
		}
		if err == nil {
			err = sleep(ctx, 20*time.Millisecond)
		}
		if err != nil {
			store.Close()
			return nil, fmt.Errorf("read the store: %w", err)
		}
	}
}

func (w pageWorkloads) readPages(ctx context.Context, user schemas.User, chat schemas.Chat, last uint64, l *load) (m measurement, err error) {
	all, err := openSessions(ctx, w.sizes.readers, func(ctx context.Context, _ int) (*session, error) {
		return openSession(ctx, w.target, user, "", busyBufferBytes)
	})
	if err != nil {
		return m, err
	}
	defer all.close()
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, all.close)
	defer stop()
	ask := appendMasked(nil, opText, fmt.Appendf(nil, `{"t":"history","ref":1,"chat":%q,"limit":%d}`, chat, pageEvents))
	newest := fmt.Appendf(nil, `"seq":%d,`, last)
	var pages atomic.Uint64
	for _, s := range all {
		group.Go(func() error {
			for !l.stopping.Load() {
				began := time.Now()
				if err := s.write(ask); err != nil {
					return err
				}
				k, payload, err := s.next()
				if err != nil {
					return err
				}
				if events := bytes.Count(payload, seqName); k != kindPage || events != pageEvents || !bytes.Contains(payload, newest) {
					return fmt.Errorf("a page has %d events, want the newest %d: %.200s", events, pageEvents, payload)
				}
				l.record(began)
				pages.Add(1)
			}
			return nil
		})
	}
	group.Go(func() (err error) {
		defer l.stopping.Store(true)
		m, err = w.measure(ctx, func() counts { return counts{operations: pages.Load()} }, l.measuring.Store)
		return err
	})
	return m, group.Wait()
}

func newestEvents(ctx context.Context, s Store, chat schemas.Chat, limit int) ([]store.Event, error) {
	events, _, err := s.Page(ctx, chat, store.Range{Limit: limit})
	return events, err
}

// readStore returns the pages per second that as many readers get of the store.
func (w pageWorkloads) readStore(ctx context.Context, store Store, chat schemas.Chat) (perSecond float64, err error) {
	var l load
	var pages atomic.Uint64
	var m measurement
	group, ctx := errgroup.WithContext(ctx)
	for range w.sizes.readers {
		group.Go(func() error {
			for !l.stopping.Load() {
				events, err := newestEvents(ctx, store, chat, pageEvents)
				if err != nil {
					return fmt.Errorf("read the store: %w", err)
				}
				if len(events) != pageEvents {
					return fmt.Errorf("read the store: a page has %d events, want %d", len(events), pageEvents)
				}
				pages.Add(1)
			}
			return nil
		})
	}
	group.Go(func() (err error) {
		defer l.stopping.Store(true)
		m, err = w.measure(ctx, func() counts { return counts{operations: pages.Load()} }, func(bool) {})
		return err
	})
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return float64(m.operations) / m.elapsed.Seconds(), nil
}
