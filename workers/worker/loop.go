package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// retryMin is the wait after the first failure.
const retryMin = 50 * time.Millisecond

// BackOff returns waits that grow from 50 ms to longest.
func BackOff(longest time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = min(retryMin, longest), longest
	return b
}

// Loop runs the rounds of a worker. It logs the first of several failures, and the
// recovery. One goroutine owns it.
type Loop struct {
	Log      *slog.Logger
	RetryMax time.Duration // the longest wait after a failed round
	Stopped  string        // what the first failure logs
	Resumed  string        // what the recovery logs

	wait    *backoff.ExponentialBackOff
	failing bool
}

// Run runs round after round until ctx ends. After a failed round it waits, longer each
// time. A failure that comes with the end of ctx is not reported.
func (l *Loop) Run(ctx context.Context, round func() error) {
	l.wait = BackOff(l.RetryMax)
	for ctx.Err() == nil {
		err := round()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			l.Recovered()
			continue
		case !l.failing:
			l.Log.Warn(l.Stopped, "err", err)
		}
		l.failing = true
		select {
		case <-time.After(l.wait.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// Recovered ends a time of failures. Run calls it after a round that succeeds; a round
// that has no end calls it once it works.
func (l *Loop) Recovered() {
	if l.failing {
		l.Log.Info(l.Resumed)
	}
	l.failing = false
	l.wait.Reset()
}

// Linger returns a context for the work at hand: it ends at most within after ctx. The
// caller calls end when the work is done.
func Linger(ctx context.Context, within time.Duration) (work context.Context, end func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(within, cancel) })
	return work, func() { stop(); cancel() }
}

// Retry tries a step until it succeeds, ctx ends, or the time is over: a leader that
// changes or a store that restarts does not end hours of work. wait is the wait between
// two tries.
func Retry[T any](ctx context.Context, wait backoff.BackOff, within time.Duration, step func() (T, error)) (T, error) {
	return backoff.Retry(ctx, func() (T, error) {
		value, err := step()
		if err != nil && ctx.Err() != nil {
			err = backoff.Permanent(ctx.Err())
		}
		return value, err
	}, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(within))
}
