package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"parley/schemas"
	"parley/streams"
)

const (
	// presenceBytesMax is what a session may take of all processes' memory together.
	presenceBytesMax = 1 << 10
	// lastTTL is how long keys live that nobody writes again, and lastTTLShort in short
	// runs: an edge gives them 75 s, which would be long to wait for.
	lastTTL      = 5 * time.Second
	lastTTLShort = time.Second
	// keysWithin bounds the wait for the worker to know of keys.
	keysWithin = time.Minute
)

const (
	heapSeries        = "go_memstats_heap_alloc_bytes"
	keySessionsSeries = "parley_presence_sessions"
)

// keyLoad is a NATS server and a worker of presence, processes that do nothing else, and
// this process, which writes keys as an edge does: the same subject, header and value,
// without waiting for an answer, each second those that are due.
type keyLoad struct {
	run     *run
	log     *LogServer
	worker  *WorkerServer
	js      jetstream.JetStream // as an edge
	every   time.Duration       // in which each key is written once
	ttl     time.Duration
	lastTTL time.Duration
	node    schemas.ID
	keys    []presenceKey
	atRest  keyUse // of one second
	nothing keyUse // heaps without a key
}

type presenceKey struct {
	user            schemas.User
	session, device schemas.ID
}

// keyUse is what the processes use.
type keyUse struct {
	natsCPU, workerCPU, writerCPU float64 // seconds
	natsHeap, workerHeap          float64 // bytes
}

// edgeFields are what a session and its user have on an edge for presence alone: in the
// edge's own types they are session.usedAt, away, returns and watching, outbox.shownAt
// and privacy.status.
type edgeFields struct {
	_ atomic.Int64
	_ [2]atomic.Bool
	_ struct {
		_ sync.Mutex
		_ map[schemas.User]struct{}
		_ bool
	}
	_ int64
	_ schemas.Status
}

// presenceKeys measures the parts of presence by themselves. Counted is the CPU while
// each key is written once, without that of processes at rest, and of memory the live heap
// after a collection, without that of processes that know of no key. A second worker
// would use as much as the one; a second replica is not measured.
func (w presenceWorkloads) presenceKeys(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "parley-bench-presence-")
	if err != nil {
		return fmt.Errorf("make temporary directory: %w", err)
	}
	k := &keyLoad{run: w.run, every: keyEvery(heartbeat), ttl: keyTTL(heartbeat), lastTTL: lastTTL, node: benchID("edge-1")}
	if w.cfg.Short {
		k.every, k.lastTTL = keyEvery(heartbeatShort), lastTTLShort
	}
	defer func() { err = errors.Join(err, k.stop(), os.RemoveAll(dir)) }()
	if err := k.start(ctx, dir); err != nil {
		return err
	}
	if err := k.watchRest(ctx); err != nil {
		return err
	}
	for _, n := range w.sizes.presenceKeys {
		if err := k.measure(ctx, n); err != nil {
			return fmt.Errorf("%d keys: %w", n, err)
		}
	}
	return k.measureEnd(ctx)
}

func benchID(name string) schemas.ID {
	id, err := schemas.ParseID(name)
	if err != nil {
		panic(err) // the names are ours
	}
	return id
}

func (k *keyLoad) start(ctx context.Context, dir string) (err error) {
	k.run.progress("presence: starting a NATS server and a worker")
	if k.log, err = k.run.cfg.StartLog(ctx, LogOptions{Dir: dir, Sync: "always"}); err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	provisioning, err := openJetStream(ctx, k.log.Worker)
	if err != nil {
		return err
	}
	_, err = streams.Provision(ctx, provisioning, streams.Settings{Shards: 1, MaxBytes: 64 << 20})
	provisioning.Conn().Close()
	if err != nil {
		return err
	}
	url := "sqlite://" + filepath.Join(dir, "presence.db")
	store, err := k.run.cfg.NewStore(ctx, url)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if err := store.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	if k.worker, err = k.run.cfg.StartWorker(ctx, WorkerOptions{Log: k.log, Only: "presence", Store: url}); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	k.js, err = openJetStream(ctx, k.log.Edge)
	return err
}

func (k *keyLoad) stop() (err error) {
	if k.js != nil {
		k.js.Conn().Close()
	}
	if k.worker != nil {
		err = k.worker.Stop()
	}
	if k.log != nil {
		err = errors.Join(err, k.log.Stop())
	}
	return err
}

// watchRest measures the processes without a key.
func (k *keyLoad) watchRest(ctx context.Context) (err error) {
	if k.nothing, err = k.heaps(ctx); err != nil {
		return err
	}
	before, err := k.cpu(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := sleep(ctx, k.run.cfg.restWait()); err != nil {
		return err
	}
	after, err := k.cpu(ctx)
	k.atRest = after.since(before, keyUse{}, 0).per(time.Since(began).Seconds())
	return err
}

// measure has n keys in the bucket, and writes each of them again.
func (k *keyLoad) measure(ctx context.Context, n int) error {
	k.run.progress("presence: %d keys", n)
	for len(k.keys) < n {
		i := len(k.keys)
		k.keys = append(k.keys, presenceKey{k.run.user("k%d", i), benchID(ulid.Make().String()), benchID(ulid.Make().String())})
		if err := k.write(i, k.ttl); err != nil {
			return err
		}
	}
	if err := k.awaitKnown(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, settleFor); err != nil {
		return err
	}
	before, err := k.cpu(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := k.writeAgain(ctx); err != nil {
		return err
	}
	after, err := k.cpu(ctx)
	if err != nil {
		return err
	}
	seconds := time.Since(began).Seconds()
	heaps, err := k.heaps(ctx)
	if err != nil {
		return err
	}
	if err := k.awaitKnown(ctx); err != nil { // none ended meanwhile
		return err
	}
	k.addResult(after.since(before, k.atRest, seconds).per(seconds), heaps)
	return nil
}

func (k *keyLoad) addResult(cpu, heaps keyUse) {
	n := float64(len(k.keys))
	result := Result{Workload: presenceWorkload, Case: fmt.Sprintf("%d keys, of NATS and a worker alone", len(k.keys))}
	result.figure("CPU of NATS", 100*cpu.natsCPU, "% of a core")
	result.figure("of the worker", 100*cpu.workerCPU, "% of a core")
	result.figure("of who writes", 100*cpu.writerCPU, "% of a core")
	result.figure("CPU in all", 100*(cpu.natsCPU+cpu.workerCPU+cpu.writerCPU), "% of a core")
	result.figure("keys written", n/k.every.Seconds(), "/s")
	nats, worker, fields := (heaps.natsHeap-k.nothing.natsHeap)/n, (heaps.workerHeap-k.nothing.workerHeap)/n, float64(unsafe.Sizeof(edgeFields{}))
	result.figure("NATS", nats, "B a session")
	result.figure("the worker", worker, "B a session")
	result.figure("fields of an edge", fields, "B a session")
	result.figure("memory in all", nats+worker+fields, "B a session")
	result.goal(nats+worker+fields < presenceBytesMax, "under %d B a session", presenceBytesMax)
	k.run.add(result)
}

// writeAgain writes each key once, evenly.
func (k *keyLoad) writeAgain(ctx context.Context) error {
	seconds := int(k.every / time.Second)
	began := time.Now()
	for second := range seconds {
		for i := len(k.keys) * second / seconds; i < len(k.keys)*(second+1)/seconds; i++ {
			if err := k.write(i, k.ttl); err != nil {
				return err
			}
		}
		if err := sleep(ctx, time.Until(began.Add(time.Duration(second+1)*time.Second))); err != nil {
			return err
		}
	}
	return nil
}

// write writes the i-th key as an edge does.
func (k *keyLoad) write(i int, ttl time.Duration) error {
	key := &k.keys[i]
	value, err := json.Marshal(schemas.SessionPresence{Node: k.node, Device: key.device})
	if err != nil {
		return fmt.Errorf("encode presence: %w", err)
	}
	m := &nats.Msg{
		Subject: streams.SessionSubject(key.user, key.session),
		Header:  nats.Header{jetstream.MsgTTLHeader: {ttl.String()}},
		Data:    value,
	}
	if err := k.js.Conn().PublishMsg(m); err != nil {
		return fmt.Errorf("write key of %s: %w", key.user, err)
	}
	return nil
}

// awaitKnown waits until the bucket has all keys, and the worker knows of them.
func (k *keyLoad) awaitKnown(ctx context.Context) error {
	want := uint64(len(k.keys))
	for deadline := time.Now().Add(keysWithin); ; {
		bucket, err := streamState(ctx, k.js, streams.PresenceStream)
		if err != nil {
			return err
		}
		known, err := k.known(ctx)
		switch {
		case err != nil:
			return err
		case bucket.Msgs == want && known == want:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("the bucket has %d of %d keys, and the worker knows of %d", bucket.Msgs, want, known)
		}
		if err := sleep(ctx, leftEvery); err != nil {
			return err
		}
	}
}

// known is how many sessions the worker knows of.
func (k *keyLoad) known(ctx context.Context) (uint64, error) {
	s, err := adminPort(k.worker.AdminURL).scrape(ctx, keySessionsSeries)
	return uint64(s[keySessionsSeries]), err
}

// measureEnd writes all keys once more with a short time to live, and waits until
// nothing is left of them: as when an edge was killed.
func (k *keyLoad) measureEnd(ctx context.Context) error {
	k.run.progress("presence: %d keys that nobody writes again", len(k.keys))
	for i := range k.keys {
		if err := k.write(i, k.lastTTL); err != nil {
			return err
		}
	}
	written := time.Now()
	left, err := awaitEmpty(ctx, k.js, k.lastTTL+streams.PresenceMarkerTTL+emptyWithin)
	if err != nil {
		return err
	}
	empty := time.Since(written)
	known := uint64(0)
	for deadline := time.Now().Add(emptyWithin); ; {
		if known, err = k.known(ctx); err != nil {
			return err
		}
		if known == 0 || time.Now().After(deadline) {
			break
		}
		if err := sleep(ctx, leftEvery); err != nil {
			return err
		}
	}
	result := Result{Workload: presenceWorkload, Case: fmt.Sprintf("%d keys that nobody writes again, TTL %s", len(k.keys), k.lastTTL)}
	result.figure("messages left", float64(left), "")
	result.figure("after", empty.Seconds(), "s")
	result.figure("sessions that the worker still knows of", float64(known), "")
	result.goal(left == 0 && known == 0, "none left")
	k.run.add(result)
	return nil
}

// cpu reads the CPU time of all three processes.
func (k *keyLoad) cpu(ctx context.Context) (u keyUse, err error) {
	log, err := adminPort(k.log.AdminURL).scrape(ctx, cpuSeries)
	if err != nil {
		return u, err
	}
	worker, err := adminPort(k.worker.AdminURL).scrape(ctx, cpuSeries)
	if err != nil {
		return u, err
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return u, fmt.Errorf("read own CPU time: %w", err)
	}
	u.natsCPU, u.workerCPU = log[cpuSeries], worker[cpuSeries]
	u.writerCPU = time.Duration(own.Utime.Nano() + own.Stime.Nano()).Seconds()
	return u, nil
}

// since is what was used since before, without what is used at rest in as many seconds.
func (u keyUse) since(before, atRest keyUse, seconds float64) keyUse {
	return keyUse{
		natsCPU:   u.natsCPU - before.natsCPU - seconds*atRest.natsCPU,
		workerCPU: u.workerCPU - before.workerCPU - seconds*atRest.workerCPU,
		writerCPU: u.writerCPU - before.writerCPU - seconds*atRest.writerCPU,
	}
}

// per is what was used in one of some seconds.
func (u keyUse) per(seconds float64) keyUse {
	return keyUse{natsCPU: u.natsCPU / seconds, workerCPU: u.workerCPU / seconds, writerCPU: u.writerCPU / seconds}
}

// heaps reads what is in use after a collection.
func (k *keyLoad) heaps(ctx context.Context) (u keyUse, err error) {
	for _, of := range []struct {
		port adminPort
		heap *float64
	}{{adminPort(k.log.AdminURL), &u.natsHeap}, {adminPort(k.worker.AdminURL), &u.workerHeap}} {
		if err := of.port.free(ctx); err != nil {
			return u, err
		}
		s, err := of.port.scrape(ctx, heapSeries)
		if err != nil {
			return u, err
		}
		*of.heap = s[heapSeries]
	}
	return u, nil
}
