package cql

import (
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"parley/schemas"
	"parley/workers/store/storetest"
)

// migrationWrites are those of the lock and of what was migrated, which are no
// projection of the log.
var migrationWrites = map[string]bool{takeLock: true, leaveLock: true, recordDone: true}

var writeVerb = regexp.MustCompile(`(?i)\b(INSERT INTO|UPDATE|DELETE|TRUNCATE|DROP|BEGIN BATCH)\b`)

// unstamped tells whether a statement could beat a later write.
func unstamped(statement string) bool {
	statement = strings.Join(strings.Fields(statement), " ")
	statement = strings.TrimSuffix(statement, " AND TTL ?")
	return !strings.HasPrefix(statement, "INSERT INTO ") || !strings.HasSuffix(statement, " USING TIMESTAMP ?") || strings.Contains(statement, " IF ")
}

// TestEveryWriteIsStamped reads every text of the package: a write without its
// stamp, or with a condition, would let a late redelivery beat what came after.
func TestEveryWriteIsStamped(t *testing.T) {
	t.Parallel()
	tables := map[string]bool{}
	storetest.Texts(t, func(place token.Position, text string) {
		if !writeVerb.MatchString(text) || migrationWrites[text] {
			return
		}
		if unstamped(text) {
			t.Errorf("%s writes without a stamp: %s", place, text)
			return
		}
		tables[strings.Fields(text)[2]] = true
	})
	for table := range columns {
		if !tables[table] {
			t.Errorf("no statement writes table %s: does the search still find them?", table)
		}
	}
}

func TestUnstampedIsFound(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		"INSERT INTO shards (shard, committed) VALUES (?, ?)",
		"INSERT INTO shards (shard, committed) VALUES (?, ?) IF NOT EXISTS USING TIMESTAMP ?",
		"INSERT INTO events (chat, bucket, seq) VALUES (?, ?, ?) USING TTL ?",
		"UPDATE shards USING TIMESTAMP ? SET committed = ? WHERE shard = ?",
		"DELETE FROM events USING TIMESTAMP ? WHERE chat = ?",
	} {
		if !writeVerb.MatchString(statement) || !unstamped(statement) {
			t.Errorf("%s passes", statement)
		}
	}
}

// TestMigrationsWriteNothing: a migration changes tables, never their rows.
func TestMigrationsWriteNothing(t *testing.T) {
	t.Parallel()
	for _, p := range []product{cassandraProduct, scyllaProduct} {
		files, err := migrationsOf(schemas.CQLMigrations, p)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) < 2 {
			t.Fatalf("%s has %d migrations", p, len(files))
		}
		for i, name := range files.names() {
			if number, _, _ := strings.Cut(name, "_"); number != "000"+strconv.Itoa(i+1) {
				t.Errorf("%s: %s is not number %d", p, name, i+1)
			}
			if verb := writeVerb.Find(files[name]); verb != nil {
				t.Errorf("%s: %s has %s", p, name, verb)
			}
		}
	}
}
