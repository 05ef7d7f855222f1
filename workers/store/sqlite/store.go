// Package sqlite is the permanent store in one SQLite file: the default, and
// what a single machine needs. The file is in WAL mode with synchronous=FULL:
// what Commit has answered survives a power cut. Any SQL tool may read it meanwhile.
//
// One goroutine writes: what waits together becomes one transaction, so that
// eight shards do not cost eight fsyncs. It also deletes the rows that have
// disappeared. A few connections read, each on a
// snapshot of its own, and never wait for the writer.
//
// The driver's connections are used without database/sql: the writer has exactly
// one owner and the readers are a bounded pool of their own, whose statements
// stay prepared, so that its locks and conversions would buy nothing here.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// config is what an [Option] sets; zero means the default.
type config struct {
	readersMax      int           // default: 4
	busyTimeout     time.Duration // default: 5 s
	writeCacheBytes int           // default: 32 MiB
	pagesMax        int           // default: 0, no bound; the file is full past it

	sweepEvery time.Duration    // default: 1 min
	now        func() time.Time // default: time.Now
}

// Option changes how a store is opened.
type Option func(*config)

// ReadersMax bounds the connections that read at once; further reads wait for
// one until their context ends. Default: 4.
func ReadersMax(n int) Option { return func(c *config) { c.readersMax = n } }

// BusyTimeout bounds how long a write waits for another process that writes,
// say an SQL tool; past it, it ends in store.ErrUnavailable. Default: 5 s.
func BusyTimeout(d time.Duration) Option { return func(c *config) { c.busyTimeout = d } }

// SweepEvery is how often rows that have disappeared are deleted from the file.
// No read returns one meanwhile. Default: 1 min.
func SweepEvery(d time.Duration) Option { return func(c *config) { c.sweepEvery = d } }

// Clock tells the store what time it is, and with it which rows have disappeared.
// Default: time.Now.
func Clock(now func() time.Time) Option { return func(c *config) { c.now = now } }

func newConfig(opts []Option) config {
	cfg := config{readersMax: 4, busyTimeout: 5 * time.Second, writeCacheBytes: 32 << 20,
		sweepEvery: time.Minute, now: time.Now}
	for _, opt := range opts {
		opt(&cfg)
	}
	return cfg
}

// Reader reads a store: what [OpenReader] gives to a second process, and the
// reading half of a [Store].
type Reader struct {
	path    string
	cfg     config
	readers *pool
}

// OpenReader opens the store at path, which exists, for reading alone.
func OpenReader(ctx context.Context, path string, opts ...Option) (*Reader, error) {
	r := newReader(path, newConfig(opts))
	if err := r.CheckSchema(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func newReader(path string, cfg config) *Reader {
	return &Reader{path: path, cfg: cfg, readers: newPool(cfg.readersMax, func() (*conn, error) {
		return openConn(path, readMode, cfg)
	})}
}

// Close waits for the reads that are under way and releases the file.
func (r *Reader) Close() error { return r.readers.close() }

// Ping reads from the file.
func (r *Reader) Ping(ctx context.Context) error {
	return r.read(ctx, "ping store", func(c *conn) error {
		_, err := c.int64s("SELECT count(*) FROM sqlite_schema")
		return err
	})
}

// read runs fn on a reader. A connection whose statement failed is not used again.
func (r *Reader) read(ctx context.Context, what string, fn func(*conn) error) error {
	c, err := r.readers.get(ctx)
	if err != nil {
		return classify(what, err)
	}
	if err := fn(c); err != nil {
		r.readers.put(nil)
		return classify(what, errors.Join(err, c.close()))
	}
	r.readers.put(c)
	return nil
}

// Store is a [Reader] that also commits.
type Store struct {
	*Reader

	changes chan *change  // see changesMax
	closing chan struct{} // closed by Close
	written chan struct{} // closed when writeLoop has ended

	closeOnce sync.Once
	closeErr  error
}

// Open opens the store at path; the file is made where there is none, its
// directory is not. [Store.Migrate] makes its tables.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cfg := newConfig(opts)
	c, err := openConn(path, writeMode, cfg)
	if err != nil {
		return nil, classify(fmt.Sprintf("open store %q", path), err)
	}
	s := &Store{
		Reader:  newReader(path, cfg),
		changes: make(chan *change, changesMax),
		closing: make(chan struct{}),
		written: make(chan struct{}),
	}
	go s.writeLoop(&writer{conn: c, open: func() (*conn, error) { return openConn(path, writeMode, s.cfg) }})
	return s, nil
}

// Close lets the write under way end, refuses those that wait, and releases the file.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.written
		s.closeErr = s.Reader.Close()
	})
	return s.closeErr
}
