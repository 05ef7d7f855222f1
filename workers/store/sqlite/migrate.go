package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"parley/schemas"
	"parley/workers/store"
)

// migration is one file of schemas.SQLMigrations; version is its number.
type migration struct {
	version  int64
	name     string
	text     string
	checksum string
}

// applied is a row of table migrations.
type applied struct {
	version  int64
	name     string
	checksum string
}

const createMigrations = `CREATE TABLE IF NOT EXISTS migrations (
	version  INTEGER NOT NULL PRIMARY KEY,
	name     TEXT    NOT NULL,
	checksum TEXT    NOT NULL,
	applied  INTEGER NOT NULL
) STRICT`

// Migrate applies the migrations that the store lacks, each in a transaction of
// its own; it may run twice, and in two processes. It returns
// store.ErrSchemaNewer where a newer Parley was here, and store.ErrSchemaChanged
// where a migration of another text was applied under the same number.
func (s *Store) Migrate(ctx context.Context) error {
	shipped, err := readMigrations(schemas.SQLMigrations, "sql")
	if err != nil {
		return err
	}
	return s.migrate(ctx, shipped)
}

func (s *Store) migrate(ctx context.Context, shipped []migration) error {
	what := fmt.Sprintf("migrate store %q", s.path)
	c, err := openConn(s.path, writeMode, s.cfg)
	if err != nil {
		return classify(what, err)
	}
	defer c.close()
	for {
		if err := ctx.Err(); err != nil {
			return classify(what, err)
		}
		done := false
		err := c.transact(func() (err error) {
			done, err = migrateOnce(c, shipped)
			return err
		})
		if err != nil {
			return classify(what, err)
		}
		if done {
			return nil
		}
	}
}

// migrateOnce applies the next migration, under the write lock; done where there is none.
func migrateOnce(c *conn, shipped []migration) (done bool, err error) {
	if err := c.exec(createMigrations); err != nil {
		return false, err
	}
	have, err := readApplied(c)
	if err != nil {
		return false, err
	}
	if err := compare(have, shipped); err != nil {
		return false, err
	}
	if len(have) == len(shipped) {
		return true, nil
	}
	next := shipped[len(have)]
	if err := c.exec(next.text); err != nil {
		return false, fmt.Errorf("apply %s: %w", next.name, err)
	}
	return false, c.exec("INSERT INTO migrations (version, name, checksum, applied) VALUES (?, ?, ?, ?)",
		next.version, next.name, next.checksum, time.Now().UnixNano())
}

// CheckSchema returns store.ErrSchemaOlder or store.ErrSchemaNewer where the
// store's tables are not those that this binary knows.
func (r *Reader) CheckSchema(ctx context.Context) error {
	shipped, err := readMigrations(schemas.SQLMigrations, "sql")
	if err != nil {
		return err
	}
	return r.read(ctx, fmt.Sprintf("check store %q", r.path), func(c *conn) error {
		have, err := readApplied(c)
		if err != nil && !isMissingTable(err) {
			return err
		}
		if err := compare(have, shipped); err != nil {
			return err
		}
		if len(have) < len(shipped) {
			return fmt.Errorf("%w: it has version %d of %d: run parley migrate", store.ErrSchemaOlder, len(have), len(shipped))
		}
		return nil
	})
}

func readApplied(c *conn) (have []applied, err error) {
	err = c.query("SELECT version, name, checksum FROM migrations ORDER BY version", func(row []driver.Value) error {
		have = append(have, applied{integer(row[0]), text(row[1]), text(row[2])})
		return nil
	})
	return have, err
}

// compare checks that have is a beginning of shipped.
func compare(have []applied, shipped []migration) error {
	if len(have) > len(shipped) {
		return fmt.Errorf("%w: it has version %d, this binary knows %d: run the Parley that migrated it, or restore the backup made before",
			store.ErrSchemaNewer, len(have), len(shipped))
	}
	for i, a := range have {
		if s := shipped[i]; a.version != s.version || a.checksum != s.checksum {
			return fmt.Errorf("%w: migration %d was applied as %s with checksum %.8s, and this binary has %s with %.8s: run the Parley that applied it",
				store.ErrSchemaChanged, a.version, a.name, a.checksum, s.name, s.checksum)
		}
	}
	return nil
}

// readMigrations reads the files <number>_<name>.sql of dir, numbered from 1 without a gap.
func readMigrations(files fs.FS, dir string) ([]migration, error) {
	entries, err := fs.ReadDir(files, dir) // by rising name
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	var all []migration
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil || version != int64(len(all))+1 {
			return nil, errors.New("read migrations: " + entry.Name() + " is not number " + strconv.Itoa(len(all)+1))
		}
		data, err := fs.ReadFile(files, path.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		sum := sha256.Sum256(data)
		all = append(all, migration{version, entry.Name(), string(data), hex.EncodeToString(sum[:])})
	}
	return all, nil
}
