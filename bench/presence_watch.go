package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/schemas"
)

const (
	toldWithin = 50 * time.Millisecond // p99, of each watcher
	// changeEvery is the pause between a change of which all were told and the next.
	changeEvery = 20 * time.Millisecond
)

// watchers are sessions of users who watch others.
type watchers struct {
	load *presenceLoad
	all  sessions
	told chan telling
}

// telling is a change as one watcher was told it.
type telling struct {
	at     time.Time
	user   string
	status schemas.Status
}

// measureChanges measures how long it takes until each of many sessions, of a user
// each, is told of a change: of the status that a user chooses, from the frame; of one
// who connects, from its hello; and of one who goes, from the end of its
// connection. One change follows the other when all were told of it.
func (p *presenceLoad) measureChanges(ctx context.Context) error {
	r := p.run
	chooser, comer := r.user("chooses"), r.user("comes")
	own, err := openSession(ctx, r.target, chooser, "", idleBufferBytes)
	if err != nil {
		return err
	}
	defer own.close()
	w, err := p.openWatchers(ctx, chooser, comer)
	if err != nil {
		return err
	}
	defer w.all.close()
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { append(w.all, own).close() })
	defer stop()
	for _, s := range w.all {
		group.Go(func() error { return w.takeLoop(ctx, s) })
	}
	group.Go(own.dropLoop)
	group.Go(func() error {
		defer append(w.all, own).close()
		if err := w.measureStatus(ctx, own); err != nil {
			return err
		}
		return w.measureConnects(ctx, comer)
	})
	return group.Wait()
}

// openWatchers opens sessions that watch users, and returns when they do.
func (p *presenceLoad) openWatchers(ctx context.Context, users ...schemas.User) (*watchers, error) {
	r := p.run
	n := r.sizes.watchers
	r.progress("presence: %s: changes, told to %d watchers", p.store.name, n)
	frame := fmt.Appendf(nil, `{"t":"watch","ref":1,"users":[%q,%q]}`, users[0], users[1])
	all, err := openSessions(ctx, n, func(ctx context.Context, i int) (*session, error) {
		s, err := openSession(ctx, r.target, r.user("w%d", i), "", idleBufferBytes)
		if err != nil {
			return nil, err
		}
		if _, err = s.request(frame, kindPresence); err == nil {
			err = s.net.SetReadDeadline(time.Time{})
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("watch: %w", err)
		}
		return s, nil
	})
	return &watchers{load: p, all: all, told: make(chan telling, n)}, err
}

var (
	usersName  = []byte(`"users":{"`)
	statusName = []byte(`"status":"`)
)

// takeLoop notes when a watcher was told what.
func (w *watchers) takeLoop(ctx context.Context, s *session) error {
	for {
		k, payload, err := s.next()
		switch {
		case err != nil && isClosed(err):
			return nil
		case err != nil:
			return err
		case k == kindPresence:
			told := telling{time.Now(), string(textAfter(payload, usersName)), schemas.Status(textAfter(payload, statusName))}
			select {
			case w.told <- told:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// dropLoop reads what comes to a session away, until it is closed.
func (s *session) dropLoop() error {
	for {
		if _, _, err := s.next(); err != nil {
			if isClosed(err) {
				return nil
			}
			return err
		}
	}
}

// await waits until all were told of a change that began at a time.
func (w *watchers) await(ctx context.Context, times *histogram, began time.Time, user schemas.User, status schemas.Status) error {
	late := time.NewTimer(drainWithin)
	defer late.Stop()
	for n := range w.all {
		select {
		case told := <-w.told:
			if told.user != user.String() || told.status != status {
				return fmt.Errorf("a watcher is told that %s is %s, when %s has become %s", told.user, told.status, user, status)
			}
			times.add(told.at.Sub(began))
		case <-late.C:
			return fmt.Errorf("%d of %d watchers were told that %s is %s", n, len(w.all), user, status)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return sleep(ctx, changeEvery)
}

// measureStatus has a user choose by turns to be shown as away and as online.
func (w *watchers) measureStatus(ctx context.Context, own *session) error {
	var times histogram
	elapsed, err := w.repeat(func() { times = histogram{} }, func() error {
		for _, status := range []schemas.Status{schemas.Away, schemas.Online} {
			frame := appendMasked(nil, opText, fmt.Appendf(nil, `{"t":"status","ref":1,"status":%q}`, status))
			said := time.Now()
			if err := own.write(frame); err != nil {
				return err
			}
			if err := w.await(ctx, &times, said, own.user, status); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.addResult("status", &times, elapsed, true)
	return nil
}

// measureConnects has a user come and go.
func (w *watchers) measureConnects(ctx context.Context, comer schemas.User) error {
	var comes, goes histogram
	elapsed, err := w.repeat(func() { comes, goes = histogram{}, histogram{} }, func() error {
		s, err := openSession(ctx, w.load.run.target, comer, "", idleBufferBytes)
		if err != nil {
			return err
		}
		err = w.await(ctx, &comes, s.saidHello, comer, schemas.Online)
		ended := time.Now()
		s.close()
		if err != nil {
			return err
		}
		return w.await(ctx, &goes, ended, comer, schemas.Offline)
	})
	if err != nil {
		return err
	}
	w.addResult("connect", &comes, elapsed, true)
	w.addResult("end of a connection", &goes, elapsed, false)
	return nil
}

// repeat calls do again and again for half of the run's duration. Before it does so
// for the warm-up, after which it calls forget.
func (w *watchers) repeat(forget func(), do func() error) (elapsed time.Duration, err error) {
	cfg := w.load.run.cfg
	for began, warm := time.Now(), false; ; {
		if err := do(); err != nil {
			return 0, err
		}
		switch elapsed = time.Since(began); {
		case warm && elapsed >= cfg.Duration/2:
			return elapsed, nil
		case !warm && elapsed >= cfg.Warmup:
			forget()
			began, warm = time.Now(), true
		}
	}
}

func (w *watchers) addResult(name string, times *histogram, elapsed time.Duration, bound bool) {
	result := Result{Workload: presenceWorkload, Case: fmt.Sprintf("%s, %s, told to %d watchers", w.load.store.name, name, len(w.all)), Unit: "changes"}
	result.Rate = float64(times.count()) / float64(len(w.all)) / elapsed.Seconds()
	result.P50, result.P99 = millis(times.quantile(0.5)), millis(times.quantile(0.99))
	if bound {
		result.goal(result.P99 < millis(toldWithin), "p99 under %s", toldWithin)
	}
	w.load.run.add(result)
}
