package cmd

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// progressEvery is the time between two lines of progress.
const progressEvery = 2 * time.Second

// withProgress runs work, and says meanwhile on stderr how far it is.
func withProgress(p *process, work func(context.Context) error, line func(elapsed time.Duration) string) error {
	began, done := time.Now(), make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintln(p.stderr, line(time.Since(began)))
			case <-done:
				return
			}
		}
	})
	defer telling.Wait()
	defer close(done)
	return work(p.ctx)
}

func logProgress(done, total uint64, elapsed time.Duration) string {
	rate := perSecond(done, elapsed)
	text := fmt.Sprintf("%s of %s events, %s a second", grouped(done), grouped(total), grouped(rate))
	if rate > 0 {
		left := time.Duration(float64(total-done) / float64(rate) * float64(time.Second))
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}

func perSecond(n uint64, elapsed time.Duration) uint64 {
	return uint64(float64(n) / max(elapsed.Seconds(), 0.001))
}

// grouped writes n with a comma before each three digits.
func grouped(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
