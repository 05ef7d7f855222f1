package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

// fanoutWindow bounds how far the slowest session may be behind: far below the
// bytes at which a server gives a slow session up.
const fanoutWindow = 256

// fanout is one sender and many sessions in its chat. It is a closed loop:
// a message is sent only once every session has the one fanoutWindow before it.
type fanout struct {
	load      *load
	sender    *session
	receivers sessions
	taken     []paddedCount // by receiver
	total     atomic.Uint64 // of taken
	echoes    atomic.Uint64
	acked     atomic.Uint64
	sent      atomic.Uint64
	complete  atomic.Uint64 // messages that every receiver has
	wake      chan struct{} // another message may be complete
}

// paddedCount keeps counters of different goroutines off one cache line.
type paddedCount struct {
	atomic.Uint64
	_ [56]byte
}

// crowd is a chat of a sender and many sessions.
type crowd struct {
	from     schemas.User
	receiver func(i int) schemas.User
	chat     schemas.Chat
}

// fanout measures deliveries of one chat's messages to many sessions of one user.
func (w messageWorkloads) fanout(ctx context.Context) error {
	for _, sessions := range w.sizes.fanouts {
		if err := w.measureFanout(ctx, sessions); err != nil {
			return err
		}
	}
	return nil
}

func (w messageWorkloads) measureFanout(ctx context.Context, n int) error {
	w.progress("fanout: %d sessions of one user", n)
	from, to := w.user("f%d", n), w.user("m%d", n)
	c := crowd{from: from, receiver: func(int) schemas.User { return to }, chat: schemas.DirectChat(from, to)}
	l := &load{}
	m, err := w.measureCrowd(ctx, c, n, l, "f", w.cfg.Duration)
	if err != nil {
		return err
	}
	result := Result{Workload: fanoutWorkload, Case: fmt.Sprintf("%d sessions", n), Unit: "messages"}
	result.setLoad(m, &l.latencies)
	w.add(result)
	return nil
}

// measureCrowd measures deliveries to n sessions. suffix ends the messages' ids.
func (w messageWorkloads) measureCrowd(ctx context.Context, c crowd, n int, l *load, suffix string, duration time.Duration) (m measurement, err error) {
	all, err := openSessions(ctx, n+1, func(ctx context.Context, i int) (*session, error) {
		if i == n {
			return openSession(ctx, w.target, c.from, "", busyBufferBytes)
		}
		return openSession(ctx, w.target, c.receiver(i), "", busyBufferBytes)
	})
	if err != nil {
		return m, err
	}
	defer all.close()
	l.stopping.Store(false)
	f := &fanout{load: l, sender: all[n], receivers: all[:n], taken: make([]paddedCount, n), wake: make(chan struct{}, 1)}
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, all.close)
	defer stop()
	for i := range f.receivers {
		group.Go(func() error { return f.takeLoop(i) })
	}
	group.Go(f.ackLoop)
	group.Go(func() error {
		defer all.close()
		return f.sendLoop(ctx, newSendFrame(c.from, c.chat, suffix, w.cfg.TextBytes))
	})
	group.Go(func() (err error) {
		defer func() {
			f.load.stopping.Store(true)
			f.wakeSender()
		}()
		m, err = w.measureFor(ctx, duration, func() counts {
			return counts{f.complete.Load(), f.total.Load() + f.echoes.Load()}
		}, f.load.measuring.Store)
		return err
	})
	return m, group.Wait()
}

// takeLoop counts one session's events. Counters are written once per read, not per event.
func (f *fanout) takeLoop(i int) error {
	s := f.receivers[i]
	batch := uint64(0)
	for {
		k, _, err := s.next()
		if err != nil {
			if isClosed(err) {
				return nil
			}
			return fmt.Errorf("session %d of %s, after %d events: %w", i, s.user, f.taken[i].Load(), err)
		}
		if k == kindEvent {
			batch++
		}
		if batch == 0 || s.reader.more() {
			continue
		}
		f.taken[i].Add(batch)
		after := f.total.Add(batch)
		// Crossing a multiple of the sessions is the earliest that a message can be complete.
		if n := uint64(len(f.receivers)); (after-batch)/n != after/n {
			f.wakeSender()
		}
		batch = 0
	}
}

func (f *fanout) wakeSender() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// ackLoop counts the sender's acks and echoes.
func (f *fanout) ackLoop() error {
	for {
		k, _, err := f.sender.next()
		if err != nil {
			if isClosed(err) {
				return nil
			}
			return err
		}
		switch k {
		case kindAck:
			f.acked.Add(1)
		case kindEvent:
			f.echoes.Add(1)
		}
	}
}

// sendLoop keeps the window full until it is to stop, and returns when every
// session has every event.
func (f *fanout) sendLoop(ctx context.Context, frame *sendFrame) error {
	var out []byte
	var sentAt [fanoutWindow]time.Time
	var sent, complete uint64
	var drained <-chan time.Time
	for {
		if f.load.stopping.Load() {
			if complete == sent && f.acked.Load() == sent && f.echoes.Load() == sent {
				return nil
			}
			if drained == nil {
				drained = time.After(drainWithin)
			}
		} else if sent < complete+fanoutWindow {
			out = out[:0]
			for now := time.Now(); sent < complete+fanoutWindow; sent++ {
				sentAt[sent%fanoutWindow] = now
				out = frame.append(out, int(sent%fanoutWindow), sent)
			}
			f.sent.Store(sent)
			if err := f.sender.write(out); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
		poll := time.NewTimer(10 * time.Millisecond) // acks and echoes do not wake
		select {
		case <-f.wake:
		case <-poll.C:
		case <-drained:
			return f.unfinished(sent)
		case <-ctx.Done():
			poll.Stop()
			return context.Cause(ctx)
		}
		poll.Stop()
		for had := f.everyoneHas(); complete < had; complete++ {
			f.load.record(sentAt[complete%fanoutWindow])
		}
		f.complete.Store(complete)
	}
}

// everyoneHas returns how many messages the slowest session has.
func (f *fanout) everyoneHas() uint64 {
	least := f.taken[0].Load()
	for i := range f.taken {
		least = min(least, f.taken[i].Load())
	}
	return least
}

func (f *fanout) unfinished(sent uint64) error {
	behind := 0
	for i := range f.taken {
		if f.taken[i].Load() != sent {
			behind++
		}
	}
	return fmt.Errorf("of %d messages %d are acked and %d came back to the sender; %d of %d sessions lack some, the worst has %d",
		sent, f.acked.Load(), f.echoes.Load(), behind, len(f.taken), f.everyoneHas())
}
