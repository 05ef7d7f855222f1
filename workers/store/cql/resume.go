package cql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/gocql/gocql"
	"github.com/scylladb/gocqlx/v2/migrate"
)

// recordDone writes gocqlx's own record of a migration, under the lock.
const recordDone = "INSERT INTO gocqlx_migrate (name, checksum, done, start_time, end_time) VALUES (?, ?, ?, ?, ?)"

// addsColumns matches a statement that adds columns, up to the first of them.
var addsColumns = regexp.MustCompile(`(?s)^(?:\s|--[^\n]*\n)*ALTER TABLE ([a-z_]+) ADD \(\s*([a-z_]+)`)

// recordAdded records a statement that added columns when whoever ran it died
// before it could: it would fail if it came again, since ScyllaDB has no IF NOT
// EXISTS for columns. All columns of a statement are added at once.
func (m migrator) recordAdded(ctx context.Context, applied []migrate.Info, files migrations) error {
	names := files.names()
	at, done := len(applied), 0
	if last := at - 1; last >= 0 && applied[last].Done < statements(files[names[last]]) {
		at, done = last, applied[last].Done
	}
	if at == len(names) {
		return nil
	}
	text := files[names[at]]
	added := addsColumns.FindSubmatch(bytes.Split(text, []byte(";"))[done])
	if added == nil {
		return nil
	}
	var found string
	err := m.session.ContextQuery(ctx, `SELECT column_name FROM system_schema.columns
		WHERE keyspace_name = ? AND table_name = ? AND column_name = ?`, nil).
		Bind(m.cfg.Keyspace, string(added[1]), string(added[2])).GetRelease(&found)
	if errors.Is(err, gocql.ErrNotFound) {
		return nil
	}
	if err == nil {
		now := time.Now()
		err = m.session.ContextQuery(ctx, recordDone, nil).Bind(names[at], checksum(text), done+1, now, now).ExecRelease()
	}
	if err != nil {
		return fmt.Errorf("go on with %s: %w", names[at], err)
	}
	return nil
}
