package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

// warmConnections are opened and closed before idle: what a server makes once
// is not charged to its connections.
const warmConnections = 200

// idle measures what a connection that says nothing takes of the server's memory.
func (w connectionWorkloads) idle(ctx context.Context) error {
	start, err := w.target.scrape(ctx)
	if err != nil {
		return err
	}
	warm, err := w.openIdle(ctx, "w", warmConnections)
	if err != nil {
		return err
	}
	warm.close()
	if err := w.target.connections(ctx, start[connectionsSeries]); err != nil {
		return err
	}
	before, err := w.resident(ctx)
	if err != nil {
		return err
	}
	n := w.sizes.connections
	w.progress("idle: opening %d connections", n)
	began := time.Now()
	all, err := w.openIdle(ctx, "i", n)
	if err != nil {
		return err
	}
	elapsed := time.Since(began)
	defer all.close()
	reading := readAll(all)
	if err := w.target.connections(ctx, start[connectionsSeries]+float64(n)); err != nil {
		return err
	}
	after, err := w.resident(ctx)
	if err != nil {
		return err
	}
	all.close()
	if err := reading.Wait(); err != nil {
		return err
	}
	w.add(Result{
		Workload: idleWorkload, Case: fmt.Sprintf("%d connections", n), Unit: "opened", Rate: float64(n) / elapsed.Seconds(),
		ResidentBytes: after, BytesPerConnection: (after - before) / float64(n),
	})
	return w.target.connections(ctx, start[connectionsSeries])
}

// openIdle opens n connections, each of a user of its own.
func (w connectionWorkloads) openIdle(ctx context.Context, name string, n int) (sessions, error) {
	return openSessions(ctx, n, func(ctx context.Context, i int) (*session, error) {
		return openSession(ctx, w.target, w.user("%s%d", name, i), "", idleBufferBytes)
	})
}

// readAll answers pings until the sessions are closed; anything else that comes is an error.
func readAll(all sessions) *errgroup.Group {
	var group errgroup.Group
	for _, s := range all {
		group.Go(func() error {
			_, payload, err := s.next()
			switch {
			case err == nil:
				return fmt.Errorf("%s has said nothing and gets %.200s", s.user, payload)
			case isClosed(err):
				return nil
			default:
				return err
			}
		})
	}
	return &group
}

// resident is the server's memory when it has collected its garbage.
func (w connectionWorkloads) resident(ctx context.Context) (float64, error) {
	if err := w.target.quiet(ctx); err != nil {
		return 0, err
	}
	if err := w.target.free(ctx); err != nil {
		return 0, err
	}
	s, err := w.target.scrape(ctx)
	return s[residentSeries], err
}

// storm measures how long it takes until all of many clients, which lost their
// connections together, have resumed a chat in which each missed one event.
func (w connectionWorkloads) storm(ctx context.Context) error {
	n := w.sizes.connections / 2 * 2
	w.progress("storm: opening %d connections", n)
	start, err := w.target.scrape(ctx)
	if err != nil {
		return err
	}
	first, err := w.prepareStorm(ctx, n)
	if err != nil {
		return err
	}
	if err := w.target.connections(ctx, start[connectionsSeries]); err != nil {
		return err
	}
	if err := w.target.quiet(ctx); err != nil {
		return err
	}
	before, err := w.target.scrape(ctx)
	if err != nil {
		return err
	}
	w.progress("storm: reconnecting all")
	all, elapsed, latencies, err := w.resumeAll(ctx, n, first)
	if err != nil {
		return err
	}
	defer all.close()
	after, err := w.target.scrape(ctx)
	if err != nil {
		return err
	}
	if asked := after[historySeries] - before[historySeries]; asked != 0 {
		return fmt.Errorf("the server asked the store %.0f times: a resume after minutes is the log's to answer", asked)
	}
	w.add(Result{
		Workload: stormWorkload, Case: fmt.Sprintf("%d clients", n), Unit: "resumed", Rate: float64(n) / elapsed.Seconds(), Seconds: elapsed.Seconds(),
		P50: millis(latencies.quantile(0.5)), P99: millis(latencies.quantile(0.99)),
		CPUSeconds: after[cpuSeries] - before[cpuSeries], ResidentBytes: after[residentSeries],
	})
	all.close()
	return w.target.connections(ctx, start[connectionsSeries])
}

func (w connectionWorkloads) stormUser(i int) schemas.User { return w.user("s%d", i) }

// stormChat is the chat of clients 2·pair and 2·pair+1.
func (w connectionWorkloads) stormChat(pair int) schemas.Chat {
	return schemas.DirectChat(w.stormUser(2*pair), w.stormUser(2*pair+1))
}

// prepareStorm has two messages sent in each pair's chat, returns the seqs of
// the first ones, and closes all connections.
func (w connectionWorkloads) prepareStorm(ctx context.Context, n int) (first []uint64, err error) {
	all, err := openSessions(ctx, n, func(ctx context.Context, i int) (*session, error) {
		return openSession(ctx, w.target, w.stormUser(i), "", idleBufferBytes)
	})
	if err != nil {
		return nil, err
	}
	defer all.close()
	first = make([]uint64, n/2)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * handshakesMax)
	stop := context.AfterFunc(ctx, all.close)
	defer stop()
	for pair := range first {
		group.Go(func() (err error) {
			a, b := all[2*pair], all[2*pair+1]
			frame := newSendFrame(a.user, w.stormChat(pair), "s", w.cfg.TextBytes)
			if err := a.write(frame.append(frame.append(nil, 0, 1), 1, 2)); err != nil {
				return err
			}
			if _, err := a.awaitEvents(2); err != nil {
				return err
			}
			first[pair], err = b.awaitEvents(2)
			return err
		})
	}
	return first, group.Wait()
}

// awaitEvents reads n events and returns the seq of the first.
func (s *session) awaitEvents(n int) (first uint64, err error) {
	if err := s.net.SetReadDeadline(time.Now().Add(drainWithin)); err != nil {
		return 0, err
	}
	for taken := 0; taken < n; {
		k, _, err := s.next()
		if err != nil {
			return 0, fmt.Errorf("%s has %d of %d events: %w", s.user, taken, n, err)
		}
		if k == kindEvent {
			if taken++; taken == 1 {
				first = s.lastSeq
			}
		}
	}
	return first, nil
}

var resumedOne = []byte(`"chats":1`)

// resumeAll connects n clients, and returns the time of all of them and of each.
func (w connectionWorkloads) resumeAll(ctx context.Context, n int, first []uint64) (all sessions, elapsed time.Duration, latencies *histogram, err error) {
	latencies = &histogram{}
	began := time.Now()
	all, err = openSessions(ctx, n, func(ctx context.Context, i int) (*session, error) {
		from := time.Now()
		s, err := w.resume(ctx, i, first[i/2])
		latencies.add(time.Since(from))
		return s, err
	})
	return all, time.Since(began), latencies, err
}

// resume connects client i, which holds its chat up to held, and returns when it has resumed.
func (w connectionWorkloads) resume(ctx context.Context, i int, held uint64) (*session, error) {
	s, err := openSession(ctx, w.target, w.stormUser(i), fmt.Sprintf(`{%q:%d}`, w.stormChat(i/2), held), idleBufferBytes)
	if err != nil {
		return nil, err
	}
	if err := s.awaitResumed(held); err != nil {
		s.close()
		return nil, fmt.Errorf("resume of %s: %w", s.user, err)
	}
	return s, nil
}

func (s *session) awaitResumed(held uint64) error {
	if err := s.net.SetReadDeadline(time.Now().Add(handshakeWithin)); err != nil {
		return err
	}
	s.lastSeq = held
	for events := 0; ; {
		k, payload, err := s.next()
		if err != nil {
			return err
		}
		switch k {
		case kindEvent:
			events++
		case kindResumed:
			if events != 1 || !bytes.Contains(payload, resumedOne) {
				return fmt.Errorf("it brought %d events, want 1: %.300s", events, payload)
			}
			return nil
		default:
			return errors.New("it is answered by something else")
		}
	}
}
