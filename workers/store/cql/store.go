// Package cql is the permanent store in ScyllaDB or Cassandra: what any number
// of workers on any number of machines share.
//
// A commit is not atomic here. It writes each chat's events with what they change,
// then its buckets, its roles and read marks, then its head, and the shard's row
// when all chats have theirs: whoever sees a row sees what it stands for, and a
// commit that stopped in its middle is simply given again. Every write carries its
// stamp as the timestamp of its columns, so that of two writes the later in the
// log wins, whichever arrives last. What disappears is written with the TTL that
// is left of it.
//
// All is read and written at LOCAL_QUORUM: a stale replica would show text that
// was deleted. Requests go to a node, and on ScyllaDB to the core, that has the
// partition.
package cql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gocql/gocql"
	"github.com/scylladb/gocqlx/v2"
)

// Store is a connection to the database. Its methods may be called from any goroutine.
type Store struct {
	cfg     Config
	product product

	session atomic.Pointer[gocqlx.Session] // nil as long as there is no keyspace, and at the end
	closed  atomic.Bool
}

// product is the database's own name, and that of its folder of migrations.
type product string

const (
	cassandraProduct product = "cassandra"
	scyllaProduct    product = "scylla"
)

// Open connects to the database. The keyspace may be missing: [Store.Migrate]
// makes it. Nodes that are away are looked for from then on, as long as one of
// the hosts answers now.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := errors.Join(cfg.Validate(), ctx.Err()); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg.withDefaults()}
	probe, err := s.connect("", s.cfg.Timeout)
	if err != nil {
		return nil, err
	}
	defer probe.Close()
	warnOfSeeds(ctx, s.cfg)
	what := s.String()
	if s.product, err = productOf(ctx, probe); err != nil {
		return nil, classify(ctx, what, err)
	}
	if s.cfg.Datacenter == "" {
		if err := probe.ContextQuery(ctx, "SELECT data_center FROM system.local", nil).GetRelease(&s.cfg.Datacenter); err != nil {
			return nil, classify(ctx, what, err)
		}
	}
	found, err := keyspaceExists(ctx, probe, s.cfg.Keyspace)
	if err != nil {
		return nil, classify(ctx, what, err)
	}
	if !found {
		return s, nil
	}
	return s, s.use()
}

// use connects to the keyspace, which exists.
func (s *Store) use() error {
	session, err := s.connect(s.cfg.Keyspace, s.cfg.Timeout)
	if err != nil {
		return err
	}
	if old := s.session.Swap(session); old != nil {
		old.Close()
	}
	return nil
}

func (s *Store) connect(keyspace string, timeout time.Duration) (*gocqlx.Session, error) {
	connects := newLastConnect()
	cluster := s.cfg.cluster(keyspace, timeout, connects)
	session, err := gocqlx.WrapSession(cluster.CreateSession())
	if err == nil {
		return &session, nil
	}
	cause := connects.take()
	switch {
	case cause != nil && (code(cause) == gocql.ErrCodeCredentials || code(cause) == gocql.ErrCodeUnauthorized):
		return nil, fmt.Errorf("%s: it refuses user %q: name another in the store's URL, and its password there or in PARLEY_STORE_PASSWORD", s, s.cfg.User)
	case cause != nil:
		return nil, fmt.Errorf("%s: %w: is it running there, and does it want TLS or a password?", s, cause)
	}
	return nil, fmt.Errorf("%s: %w: is it running there, and does it want TLS or a password?", s, err)
}

// String names the store without its password.
func (s *Store) String() string {
	return fmt.Sprintf("store %s%s/%s", Scheme, strings.Join(s.cfg.Hosts, ","), s.cfg.Keyspace)
}

func productOf(ctx context.Context, session *gocqlx.Session) (product, error) {
	var tables int
	err := session.ContextQuery(ctx, `SELECT count(*) FROM system_schema.tables
		WHERE keyspace_name = 'system_schema' AND table_name = 'scylla_tables'`, nil).GetRelease(&tables)
	if tables > 0 {
		return scyllaProduct, err
	}
	return cassandraProduct, err
}

func keyspaceExists(ctx context.Context, session *gocqlx.Session, keyspace string) (bool, error) {
	var found int
	err := session.ContextQuery(ctx, "SELECT count(*) FROM system_schema.keyspaces WHERE keyspace_name = ?", nil).
		Bind(keyspace).GetRelease(&found)
	return found > 0, err
}

// Ping reads a row at LOCAL_QUORUM.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.Committed(ctx, "0")
	return err
}

// Close ends the connections. Requests under way fail.
func (s *Store) Close() error {
	s.closed.Store(true)
	if session := s.session.Swap(nil); session != nil {
		session.Close()
	}
	return nil
}

// keyspace is the session in which statements run.
func (s *Store) keyspace() (*gocqlx.Session, error) {
	switch session := s.session.Load(); {
	case session != nil:
		return session, nil
	case s.closed.Load():
		return nil, errClosed
	}
	return nil, errNoKeyspace
}

// read is a query that may be asked of several replicas, and again.
func (s *Store) read(ctx context.Context, statement string, values ...any) (*gocqlx.Queryx, error) {
	session, err := s.keyspace()
	if err != nil {
		return nil, err
	}
	q := session.ContextQuery(ctx, statement, nil).Bind(values...)
	return q.Idempotent(true).SetSpeculativeExecutionPolicy(speculation{session.Session, s.cfg.SpeculativeAfter}).RetryPolicy(retryOnce), nil
}

var (
	// retryOnce asks another node, at once: who waits for a page does not wait long.
	retryOnce = &gocql.SimpleRetryPolicy{NumRetries: 1}
	// retryNever is for writes: persist gives the whole batch again. Without a
	// policy the driver would try three times more.
	retryNever = &gocql.SimpleRetryPolicy{NumRetries: 0}
)

// speculation asks a second replica where the first is slow, if there is a
// second one: where there is none, the driver would answer that it has no host,
// while the first is still being waited for.
type speculation struct {
	session *gocql.Session
	after   time.Duration
}

// Delay is how long the first replica has.
func (s speculation) Delay() time.Duration { return s.after }

// Attempts is how many further replicas are asked.
func (s speculation) Attempts() int {
	up := 0
	for _, host := range s.session.GetHosts() {
		if host.IsUp() {
			up++
		}
	}
	return min(max(up-1, 0), 1)
}
