package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"parley/streams"
)

const (
	// fillSync is the sync_interval while the log is filled; what is measured is a server that syncs always.
	fillSync = "2m"
	// dedupWindow is short, so that a restart finds none of the ids with which
	// millions of events came within minutes: over a day as many do not. What ids
	// cost is in [sizingOf].
	dedupWindow = time.Second
	// killAfter is how long a server takes events before it is killed: one to
	// which nothing came since it stopped in order would start as after that.
	killAfter = time.Second
	// warmReads is how often what was read once after a restart is read again.
	warmReads = 20
)

// restart measures starting a NATS server on a log that is full of events.
func (w storageWorkloads) restart(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "parley-bench-log-")
	if err != nil {
		return fmt.Errorf("make temporary directory: %w", err)
	}
	l := &fullLog{run: w.run, dir: dir}
	return errors.Join(l.measure(ctx), os.RemoveAll(dir))
}

// fullLog is a NATS server with much in its log.
type fullLog struct {
	run    *run
	dir    string
	server *LogServer // nil while it is stopped
	fill   *logFill

	diskBytes int64 // of all files, at the last start
}

// logPoint is what a server is like with so much in its log.
type logPoint struct {
	events, chats float64
	seconds       float64 // until it was ready
	residentBytes float64 // at rest
}

// measure fills the log in two steps: the first gives each chat one event, so
// that what chats cost can be told from what events do.
func (l *fullLog) measure(ctx context.Context) (err error) {
	defer func() {
		if l.server != nil {
			err = errors.Join(err, l.server.Stop())
		}
	}()
	events, chats := l.run.sizes.logEvents, l.run.sizes.logChats
	if err := l.provision(ctx); err != nil {
		return err
	}
	empty, err := l.afterStop(ctx, "empty", 0, 0)
	if err != nil {
		return err
	}
	if err := l.add(ctx, chats); err != nil {
		return err
	}
	shallow, err := l.afterStop(ctx, "after SIGTERM", chats, chats)
	if err != nil {
		return err
	}
	if err := l.add(ctx, events-chats); err != nil {
		return err
	}
	full, err := l.afterStop(ctx, "after SIGTERM", events, chats)
	if err != nil {
		return err
	}
	killed, err := l.afterKill(ctx, events, chats)
	if err != nil {
		return err
	}
	for _, result := range sizingOf(empty, shallow, full, killed, l.diskBytes).results() {
		l.run.add(result)
	}
	return nil
}

// provision makes the streams as they are everywhere, but for dedupWindow, with
// room for the events.
func (l *fullLog) provision(ctx context.Context) error {
	if _, err := l.start(ctx, fillSync); err != nil {
		return err
	}
	js, err := openJetStream(ctx, l.server.Worker)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	roomBytes := max(1<<30, int64(l.run.sizes.logEvents)*int64(l.run.cfg.TextBytes+512)/8)
	layout, err := streams.Provision(ctx, js, streams.Settings{Shards: 8, Duplicates: dedupWindow, MaxBytes: roomBytes})
	if err != nil {
		return err
	}
	l.fill = newLogFill(l.run, layout)
	return l.stop()
}

// add puts n events into the log.
func (l *fullLog) add(ctx context.Context, n int) error {
	if _, err := l.start(ctx, fillSync); err != nil {
		return err
	}
	l.run.progress("restart: filling the log with %d events", n)
	began := time.Now()
	if err := l.fill.add(ctx, l.server, n); err != nil {
		return fmt.Errorf("fill the log: %w", err)
	}
	l.run.progress("restart: filled in %s", time.Since(began).Round(time.Millisecond))
	// persist has all of it, as on a day on which nothing is wrong.
	if err := l.fill.acknowledge(ctx, l.server); err != nil {
		return err
	}
	return l.stop()
}

// afterStop measures the start of a server that was stopped in order, and stops it again.
func (l *fullLog) afterStop(ctx context.Context, name string, events, chats int) (logPoint, error) {
	point, err := l.startMeasured(ctx, name, events, chats)
	if err != nil {
		return point, err
	}
	return point, l.stop()
}

// afterKill kills the server while events come to it, and measures its start.
func (l *fullLog) afterKill(ctx context.Context, events, chats int) (logPoint, error) {
	if _, err := l.start(ctx, "always"); err != nil {
		return logPoint{}, err
	}
	loadCtx, cancel := context.WithTimeout(ctx, killAfter)
	defer cancel()
	before := l.fill.added
	if err := l.fill.add(loadCtx, l.server, events); err != nil && loadCtx.Err() == nil {
		return logPoint{}, fmt.Errorf("publish before the kill: %w", err)
	}
	if err := l.server.Kill(); err != nil {
		return logPoint{}, err
	}
	l.server = nil
	l.run.progress("restart: killed after %d more were published", l.fill.added-before)
	return l.startMeasured(ctx, "after SIGKILL", events, chats)
}

// startMeasured starts the server and adds a result.
func (l *fullLog) startMeasured(ctx context.Context, name string, events, chats int) (logPoint, error) {
	point := logPoint{events: float64(events), chats: float64(chats)}
	took, err := l.start(ctx, "always")
	if err != nil {
		return point, err
	}
	point.seconds = took.Seconds()
	ready, err := adminPort(l.server.AdminURL).scrape(ctx, residentSeries, cpuSeries)
	if err != nil {
		return point, err
	}
	result := Result{Workload: restartWorkload, Case: fmt.Sprintf("%s, %d events in %d chats", name, events, chats)}
	result.figure("ready after", took.Seconds(), "s")
	result.figure("CPU", ready[cpuSeries], "s")
	result.figure("resident when ready", ready[residentSeries]/(1<<20), "MiB")
	if chats > 0 {
		if err := l.multiLast(ctx, &result); err != nil {
			return point, err
		}
		if l.diskBytes, err = diskBytes(l.dir); err != nil {
			return point, err
		}
		result.figure("disk", float64(l.diskBytes)/float64(events), "B/event")
	}
	if err := adminPort(l.server.AdminURL).free(ctx); err != nil {
		return point, err
	}
	rest, err := adminPort(l.server.AdminURL).scrape(ctx, residentSeries)
	if err != nil {
		return point, err
	}
	point.residentBytes = rest[residentSeries]
	result.figure("and at rest", point.residentBytes/(1<<20), "MiB")
	l.run.add(result)
	return point, nil
}

// multiLast asks for the last event of each chat of one user, as an edge does
// when that user comes back: for the first time since the start, and again.
func (l *fullLog) multiLast(ctx context.Context, result *Result) error {
	conn, js, layout, err := connectLog(ctx, l.server.Edge)
	if err != nil {
		return err
	}
	defer conn.Close()
	log, chats := streams.NewLog(js, layout), l.fill.chatsOfOne()
	var warm histogram
	for i := range warmReads + 1 {
		began := time.Now()
		lasts, err := log.Lasts(ctx, chats)
		if err != nil {
			return err
		}
		took := time.Since(began)
		if len(lasts) != len(chats) {
			return fmt.Errorf("of %d chats %d have a last event", len(chats), len(lasts))
		}
		if i == 0 {
			result.figure(fmt.Sprintf("multi_last of %d chats, cold", len(chats)), millis(took), "ms")
			continue
		}
		warm.add(took)
	}
	result.figure("warm", millis(warm.quantile(0.5)), "ms")
	return nil
}

// start returns how long it took until the server had all streams.
func (l *fullLog) start(ctx context.Context, sync string) (took time.Duration, err error) {
	began := time.Now()
	server, err := l.run.cfg.StartLog(ctx, LogOptions{Dir: l.dir, Sync: sync})
	if err != nil {
		return 0, fmt.Errorf("start NATS: %w", err)
	}
	l.server = server
	return time.Since(began), nil
}

func (l *fullLog) stop() error {
	server := l.server
	l.server = nil
	if err := server.Stop(); err != nil {
		return fmt.Errorf("stop NATS: %w", err)
	}
	return nil
}

// diskBytes counts the bytes of the files below dir.
func diskBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		n += info.Size()
		return nil
	})
	return n, err
}
