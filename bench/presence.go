package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

const (
	// heartbeat is a server's own, and heartbeatShort that of short runs.
	heartbeat      = 30 * time.Second
	heartbeatShort = 6 * time.Second
	// emptyWithin is how long the bucket may still have something of sessions that have
	// ended, beyond the time for which a marker stays: NATS looks every second.
	emptyWithin = 30 * time.Second
)

// keyTTL and keyEvery are what an edge makes of its heartbeat: how long a session's key
// lives, and how often it is written again.
func keyTTL(heartbeat time.Duration) time.Duration {
	return (heartbeat*5/2 + time.Second - 1).Truncate(time.Second)
}

func keyEvery(heartbeat time.Duration) time.Duration {
	return max((keyTTL(heartbeat) / 6).Truncate(time.Second), time.Second)
}

// presence measures what it costs to know who is there, and how soon others do.
//
// What it costs is taken twice, since a server without presence, which could be
// compared with one, does not exist:
//
//   - Of the parts by themselves ([keyLoad]): a NATS server and a worker of presence, which are
//     processes of their own and do nothing else, and this process, which writes keys
//     as an edge does. It tells CPU by part, and memory.
//   - Of a whole server with sessions that say nothing, between their welcomes and their
//     first pings ([presenceLoad.measureCPU]): all that it does then, but for what it does without sessions, is
//     for presence. It has in it what the first leaves out, the edge's look at each
//     session every second.
//
// Then, with all these sessions there: a change until each of many watchers is told,
// and questions about 500 users, half of whom have gone. At the end all sessions are
// closed, and the bucket has to become empty.
func (w presenceWorkloads) presence(ctx context.Context) error {
	if err := w.presenceKeys(ctx); err != nil {
		return err
	}
	for _, store := range w.testedStores(presenceWorkload) {
		if err := w.presenceOn(ctx, store); err != nil {
			return fmt.Errorf("store %s: %w", store.name, err)
		}
	}
	return nil
}

// presenceOn measures a whole server on a store that knows when users were last seen
// of whom the server does not.
func (w presenceWorkloads) presenceOn(ctx context.Context, store testedStore) error {
	p := &presenceLoad{run: w.run, store: store, inServer: store.url == "", heartbeat: heartbeat}
	if w.cfg.Short {
		p.heartbeat = heartbeatShort
	}
	if p.inServer {
		dir, err := os.MkdirTemp("", "parley-bench-presence-")
		if err != nil {
			return fmt.Errorf("make temporary directory: %w", err)
		}
		defer os.RemoveAll(dir)
		p.store.url = "sqlite://" + filepath.Join(dir, "presence.db")
	}
	if err := p.fillStore(ctx); err != nil {
		return err
	}
	return w.withServer(ctx, StartOptions{NATSNodes: w.cfg.NATSNodes, Store: p.store.url, Heartbeat: p.heartbeat}, func() error {
		return p.measure(ctx)
	})
}

// presenceLoad is a server with many sessions that say nothing.
type presenceLoad struct {
	run       *run
	store     testedStore
	inServer  bool // the store is a part of the server
	heartbeat time.Duration
	sessions  sessions
	js        jetstream.JetStream // as an edge
}

func (p *presenceLoad) measure(ctx context.Context) error {
	r := p.run
	conn, js, _, err := r.log(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	p.js = js
	start, err := r.target.scrape(ctx)
	if err != nil {
		return err
	}
	used, elapsed, err := r.watchRest(ctx)
	if err != nil {
		return err
	}
	firstPing, err := p.open(ctx)
	if err != nil {
		return err
	}
	reading := readAll(p.sessions)
	err = p.measureCPU(ctx, used/elapsed.Seconds(), firstPing)
	if err == nil {
		err = p.measureChanges(ctx)
	}
	if err == nil {
		err = p.measureQuestions(ctx)
	}
	p.sessions.close()
	closed := time.Now()
	if err := errors.Join(err, reading.Wait()); err != nil {
		return err
	}
	if err := r.target.connections(ctx, start[connectionsSeries]); err != nil {
		return err
	}
	return p.measureEnd(ctx, closed)
}

// open opens the sessions, in the time in which each key is written once: so their keys
// come evenly afterwards, as those of users who came at any time.
func (p *presenceLoad) open(ctx context.Context) (firstPing time.Time, err error) {
	r, n := p.run, p.run.sizes.presenceSessions
	r.progress("presence: %s: opening %d sessions", p.store.name, n)
	firstPing = time.Now().Add(p.heartbeat)
	p.sessions, err = openSpread(ctx, n, keyEvery(p.heartbeat), func(ctx context.Context, i int) (*session, error) {
		return openSession(ctx, r.target, p.user(i), "", idleBufferBytes)
	})
	return firstPing, err
}

// measureCPU measures while each key is written once more, which is over before the
// first ping. What the server uses at rest, in a second, is not counted.
func (p *presenceLoad) measureCPU(ctx context.Context, atRest float64, firstPing time.Time) error {
	if err := sleep(ctx, settleFor); err != nil {
		return err
	}
	before, err := p.look(ctx)
	if err != nil {
		return err
	}
	if err := sleep(ctx, keyEvery(p.heartbeat)); err != nil {
		return err
	}
	after, err := p.look(ctx)
	if err != nil {
		return err
	}
	seconds := after.at.Sub(before.at).Seconds()
	result := Result{Workload: presenceWorkload, Case: fmt.Sprintf("%s, %d sessions", p.store.name, len(p.sessions))}
	if after.at.After(firstPing) { // a machine with much else to do
		result.Case += " that are pinged too"
	}
	result.figure("CPU in all", 100*((after.cpuSeconds-before.cpuSeconds)/seconds-atRest), "% of a core")
	result.figure("without sessions", 100*atRest, "% of a core")
	result.figure("keys written", float64(after.written-before.written)/seconds, "/s")
	p.run.add(result)
	return nil
}

// presenceLook is one look at the server.
type presenceLook struct {
	at         time.Time
	cpuSeconds float64
	written    uint64 // keys, since the bucket was made
}

func (p *presenceLoad) look(ctx context.Context) (look presenceLook, err error) {
	state, err := streamState(ctx, p.js, streams.PresenceStream)
	if err != nil {
		return look, err
	}
	look.written = state.LastSeq
	s, err := p.run.target.scrape(ctx)
	look.at, look.cpuSeconds = time.Now(), s[cpuSeries]
	return look, err
}

func (p *presenceLoad) user(i int) schemas.User { return p.run.user("z%d", i) }

// measureEnd waits until the bucket has nothing of the sessions that were closed.
func (p *presenceLoad) measureEnd(ctx context.Context, closed time.Time) error {
	left, err := awaitEmpty(ctx, p.js, streams.PresenceMarkerTTL+emptyWithin)
	if err != nil {
		return err
	}
	result := Result{Workload: presenceWorkload, Case: fmt.Sprintf("%s, %d sessions closed", p.store.name, len(p.sessions))}
	result.figure("messages left", float64(left), "")
	result.figure("after", time.Since(closed).Seconds(), "s")
	result.goal(left == 0, "none left")
	p.run.add(result)
	return nil
}

// awaitEmpty waits until the bucket presence is empty, and returns what it has at last.
func awaitEmpty(ctx context.Context, js jetstream.JetStream, within time.Duration) (left uint64, err error) {
	for deadline := time.Now().Add(within); ; {
		state, err := streamState(ctx, js, streams.PresenceStream)
		if err != nil || state.Msgs == 0 || time.Now().After(deadline) {
			return state.Msgs, err
		}
		if err := sleep(ctx, leftEvery); err != nil {
			return state.Msgs, err
		}
	}
}

// fillStore stores when users were last seen who are not there.
func (p *presenceLoad) fillStore(ctx context.Context) (err error) {
	r := p.run
	gone := r.sizes.coldQuestions * goneAsked
	r.progress("presence: %s: storing when %d users were last seen", p.store.name, gone)
	store, err := r.cfg.NewStore(ctx, p.store.url)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	at := time.Now().Add(-time.Hour)
	for done := 0; done < gone; {
		seen := make(map[schemas.User]time.Time, seenAtOnce)
		for ; done < gone && len(seen) < seenAtOnce; done++ {
			seen[p.gone(done)] = at.Add(time.Duration(done) * time.Millisecond)
		}
		if err := store.SetSeen(ctx, seen); err != nil {
			return err
		}
	}
	return nil
}
