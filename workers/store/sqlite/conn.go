package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
)

// conn is one connection with its prepared statements. One goroutine uses it at a time.
type conn struct {
	raw   driver.Conn
	stmts map[string]statement // by text; the package has a few dozen of them
	args  []driver.NamedValue  // reused by bind
}

// statement is what the driver's statements can do.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type mode int

const (
	readMode mode = iota
	writeMode
)

// openConn opens the file. A reading connection refuses to write, twice over.
func openConn(path string, m mode, cfg config) (*conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: "mode=rwc"}
	pragmas := []string{
		fmt.Sprintf("PRAGMA busy_timeout = %d", cfg.busyTimeout.Milliseconds()),
		"PRAGMA synchronous = FULL",
		fmt.Sprintf("PRAGMA cache_size = -%d", cfg.writeCacheBytes>>10),
		// Fewer checkpoints than the default of 1,000 pages: a page that many
		// commits touch goes to the file once. The WAL stays near 32 MiB.
		fmt.Sprintf("PRAGMA wal_autocheckpoint = %d", walPagesMax),
		fmt.Sprintf("PRAGMA journal_size_limit = %d", walPagesMax*pageBytes),
	}
	if cfg.pagesMax > 0 {
		pragmas = append(pragmas, fmt.Sprintf("PRAGMA max_page_count = %d", cfg.pagesMax))
	}
	if m == readMode {
		dsn.RawQuery = "mode=ro"
		pragmas = []string{pragmas[0], "PRAGMA query_only = ON"}
	}
	raw, err := (&sqlite.Driver{}).Open(dsn.String())
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, stmts: map[string]statement{}}
	for _, pragma := range pragmas {
		if err := c.exec(pragma); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	if m == writeMode {
		if err := c.enterWAL(cfg.busyTimeout); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

const (
	pageBytes   = 4096
	walPagesMax = 8192
)

// enterWAL waits by itself: SQLite answers busy at once where two processes make
// the same file a WAL file together.
func (c *conn) enterWAL(within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		var got string
		err := c.query("PRAGMA journal_mode = WAL", func(row []driver.Value) error {
			got, _ = row[0].(string)
			return nil
		})
		switch {
		case err == nil && got == "wal":
			return nil
		case err == nil:
			return fmt.Errorf("the file is in journal mode %q and cannot be in WAL mode: is it on a file system without shared memory?", got)
		case !isBusy(err) || time.Now().After(deadline):
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// close rolls back what is open. The statements go first: SQLite keeps a
// connection that has any alive, with its transaction and its locks.
func (c *conn) close() (err error) {
	for _, st := range c.stmts {
		err = errors.Join(err, st.Close())
	}
	return errors.Join(err, c.raw.Close())
}

// prepared returns the statement of text. Its texts are constants of this package.
func (c *conn) prepared(text string) (statement, error) {
	if st, ok := c.stmts[text]; ok {
		return st, nil
	}
	prepared, err := c.raw.Prepare(text)
	if err != nil {
		return nil, err
	}
	st, ok := prepared.(statement)
	if !ok {
		return nil, fmt.Errorf("the driver's %T takes no context", prepared)
	}
	c.stmts[text] = st
	return st, nil
}

// bind makes a statement's arguments. They are valid until the next call.
func (c *conn) bind(values ...driver.Value) []driver.NamedValue {
	c.args = c.args[:0]
	for i, v := range values {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return c.args
}

// exec runs a statement. It has no context: for one that can end, the driver
// starts a goroutine per statement, and none here runs for long.
func (c *conn) exec(text string, values ...driver.Value) error {
	_, err := c.execCount(text, values...)
	return err
}

// execCount is exec, and returns how many rows it changed.
func (c *conn) execCount(text string, values ...driver.Value) (rows int64, err error) {
	st, err := c.prepared(text)
	if err != nil {
		return 0, err
	}
	result, err := st.ExecContext(context.Background(), c.bind(values...))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// errStop ends a query before its last row.
var errStop = errors.New("stop")

// query calls fn with each row, whose slice is reused, until fn returns an
// error; errStop ends it well.
func (c *conn) query(text string, fn func(row []driver.Value) error, values ...driver.Value) (err error) {
	st, err := c.prepared(text)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(context.Background(), c.bind(values...))
	if err != nil {
		return err
	}
	defer func() {
		if e := rows.Close(); err == nil {
			err = e
		}
	}()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
		switch err := fn(row); err {
		case nil:
		case errStop:
			return nil
		default:
			return err
		}
	}
}

// int64s returns the first column, which holds integers.
func (c *conn) int64s(text string, values ...driver.Value) (ints []int64, err error) {
	err = c.query(text, func(row []driver.Value) error {
		ints = append(ints, integer(row[0]))
		return nil
	}, values...)
	return ints, err
}

// transact runs fn in a transaction that takes the write lock at its start. After
// an error the connection may still be in it: the caller closes it.
func (c *conn) transact(fn func() error) error {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	return c.exec("COMMIT")
}

// integer and text read columns of STRICT tables, which hold no other type.
func integer(v driver.Value) int64 { i, _ := v.(int64); return i }
func text(v driver.Value) string   { s, _ := v.(string); return s }

// pool is a bounded set of reading connections, opened when first needed.
type pool struct {
	open      func() (*conn, error)
	slots     chan *conn // as many as the bound; nil is one not opened
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
}

func newPool(max int, open func() (*conn, error)) *pool {
	p := &pool{open: open, slots: make(chan *conn, max), closing: make(chan struct{})}
	for range max {
		p.slots <- nil
	}
	return p
}

// get waits for a connection until ctx ends.
func (p *pool) get(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var c *conn
	select {
	case c = <-p.slots:
	case <-p.closing:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c != nil {
		return c, nil
	}
	c, err := p.open()
	if err != nil {
		p.put(nil)
		return nil, err
	}
	return c, nil
}

// put gives a connection back, or nil in the place of one that failed.
func (p *pool) put(c *conn) { p.slots <- c }

func (p *pool) close() error {
	p.closeOnce.Do(func() {
		close(p.closing)
		for range cap(p.slots) {
			if c := <-p.slots; c != nil {
				p.closeErr = errors.Join(p.closeErr, c.close())
			}
		}
	})
	return p.closeErr
}
