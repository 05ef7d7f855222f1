package sqlite

import (
	"go/token"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"parley/schemas"
	"parley/workers/store/storetest"
)

// stampOf names the column by which each table's rows yield to a later write.
var stampOf = map[string]string{
	"events": "stamp", "buckets": "stamp", "chats": "stamp", "chats_by_user": "stamp", "shards": "committed",
}

// writes matches the beginning of every statement that writes, with its table if it is spelt there.
var writes = regexp.MustCompile(`(?i)\b(INSERT(?:\s+OR\s+\w+)?\s+INTO|REPLACE\s+INTO|UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM|DROP\s+TABLE(?:\s+IF\s+EXISTS)?|ALTER\s+TABLE)\b\s*([a-z_]*)`)

// unstamped returns the writes of a text that could beat a later one, and how many writes it has.
func unstamped(text string) (bad []string, all int) {
	text = strings.Join(strings.Fields(text), " ")
	for _, m := range writes.FindAllStringSubmatch(text, -1) {
		verb, table := strings.ToUpper(m[1]), m[2]
		if table == "migrations" || strings.HasPrefix(m[0], "UPDATE SET") {
			continue // not a projection; the second half of an upsert, which its beginning answers for
		}
		all++
		stamp, known := stampOf[table]
		guard := "SET " + stamp + " = excluded." + stamp
		where := "WHERE excluded." + stamp + " >= " + table + "." + stamp
		if !known || verb != "INSERT INTO" || !strings.Contains(text, guard) || !strings.HasSuffix(text, where) {
			bad = append(bad, m[0])
		}
	}
	return bad, all
}

// TestEveryWriteIsStamped reads every text of the package: a write without its
// stamp would let a late redelivery beat what came after.
func TestEveryWriteIsStamped(t *testing.T) {
	t.Parallel()
	total := 0
	storetest.Texts(t, func(place token.Position, text string) {
		bad, all := unstamped(text)
		total += all
		if len(bad) > 0 {
			t.Errorf("%s: %q is not held back by a stamp", place, bad)
		}
	})
	if total < len(stampOf) {
		t.Errorf("%d writes found: there is one for each of %d tables at least", total, len(stampOf))
	}
}

// TestMigrationsWriteNoRows: a migration knows no stamps.
func TestMigrationsWriteNoRows(t *testing.T) {
	t.Parallel()
	shipped, err := readMigrations(schemas.SQLMigrations, "sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range shipped {
		if bad, _ := unstamped(m.text); len(bad) > 0 {
			t.Errorf("%s: %q", m.name, bad)
		}
	}
	if _, err := fs.Stat(schemas.SQLMigrations, "sql/0001_timeline.sql"); err != nil {
		t.Error(err)
	}
}

func TestUnstampedIsFound(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"INSERT INTO events (a) VALUES (?)",
		"INSERT OR REPLACE INTO chats (a) VALUES (?)",
		"REPLACE INTO shards VALUES (?, ?)",
		"UPDATE chats SET last_n = 0",
		"DELETE FROM events WHERE chat = ?",
		"INSERT INTO ", // the table comes from elsewhere
		strings.Replace(insertChat, "stamp = excluded.stamp, ", "", 1),
		strings.Replace(insertChat, ">=", "<", 1),
		insertEvent + " OR TRUE",
	} {
		if bad, _ := unstamped(text); len(bad) == 0 {
			t.Errorf("%s passes", text)
		}
	}
}
