package sqlite

import (
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"

	"parley/schemas"
	"parley/workers/store/storetest"
)

// stampsOf names, for each table, its stamps and the columns that are written with each.
var stampsOf = map[string]map[string]string{
	"events": {
		"stamp":        "prev n time type author id event expires deleted body",
		"edited":       "body",
		"pinned_stamp": "pinned",
	},
	"buckets": {"stamp": "first_seq"},
	"chats": {"stamp": `kind created last_seq last_n last_time bucket bucket_events bucket_bytes name members history disappearing
		last_event last_cut last_prev last_expires`},
	"chats_by_user":   {"stamp": "role", "since": "visible", "read": "read_n", "delivered": ""},
	"shards":          {"committed": ""},
	"members_by_chat": {"stamp": "role", "since": "visible"},
	"edits":           {"stamp": "time expires body"},
	"reactions":       {"seq": "is_on expires"},
	"settings":        {"muted_stamp": "muted muted_until", "pinned_stamp": "pinned", "archived_stamp": "archived"},
	"users":           {"name_stamp": "name", "avatar_stamp": "avatar", "lang_stamp": "lang", "reads_hidden_stamp": "reads_hidden", "status_stamp": "status", "last_seen": ""},
	"receipts":        {"delivered": "", "read": ""},
	"blocks":          {"blocks_stamp": "blocks", "blocked_by_stamp": "blocked_by"},
}

// sweeps take away what has disappeared, which nothing can bring back.
var sweeps = map[string]bool{sweepEvents: true, sweepEdits: true, sweepReactions: true, sweepChats: true}

var (
	// writes matches the beginning of every statement that writes, with its table if it is spelt there.
	writes = regexp.MustCompile(`(?i)\b(INSERT(?:\s+OR\s+\w+)?\s+INTO|REPLACE\s+INTO|UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM|DROP\s+TABLE(?:\s+IF\s+EXISTS)?|ALTER\s+TABLE)\b\s*([a-z_]*)`)
	// assignments are what a statement sets a row that is there to, and when.
	assignments = regexp.MustCompile(`\bUPDATE (?:[a-z_]+ )?SET (.*) WHERE (.*)$`)
	assigned    = regexp.MustCompile(`([a-z_]+) = `)
)

// unstamped returns the writes of a text that could beat a later one, and how many writes it has.
func unstamped(text string) (bad []string, all int) {
	text = strings.Join(strings.Fields(text), " ")
	for _, m := range writes.FindAllStringSubmatch(text, -1) {
		verb, table := strings.ToUpper(m[1]), m[2]
		if table == "migrations" || strings.HasPrefix(m[0], "UPDATE SET") {
			continue // not a projection; the second half of an upsert, which its beginning answers for
		}
		all++
		if verb != "INSERT INTO" && verb != "UPDATE" || !stamped(text, table) {
			bad = append(bad, m[0])
		}
	}
	return bad, all
}

// stamped tells whether a statement sets a stamp of its table, yields to a higher
// one, and sets no columns but those of that stamp.
func stamped(text, table string) bool {
	parts := assignments.FindStringSubmatch(text)
	if parts == nil {
		return false
	}
	for stamp, columns := range stampsOf[table] {
		value := "excluded." + stamp
		guard := value + " >= " + table + "." + stamp
		if strings.HasPrefix(text, "UPDATE") {
			value = "?4"
			if table == "edits" {
				value = "?5"
			}
			guard = value + " >= " + stamp
		}
		if !strings.HasPrefix(parts[1], stamp+" = "+value) || !yields(parts[2], guard) {
			continue
		}
		only := true
		for _, column := range assigned.FindAllStringSubmatch(parts[1], -1) {
			only = only && (column[1] == stamp || slices.Contains(strings.Fields(columns), column[1]))
		}
		return only
	}
	return false
}

// yields tells whether a condition has guard among what all has to hold.
func yields(condition, guard string) bool {
	return !strings.Contains(condition, " OR ") && slices.Contains(strings.Split(condition, " AND "), guard)
}

// TestEveryWriteIsStamped reads every text of the package: a write without its
// stamp would let a late redelivery beat what came after.
func TestEveryWriteIsStamped(t *testing.T) {
	t.Parallel()
	total := 0
	storetest.Texts(t, func(place token.Position, text string) {
		if sweeps[text] {
			return
		}
		bad, all := unstamped(text)
		total += all
		if len(bad) > 0 {
			t.Errorf("%s: %q is not held back by a stamp", place, bad)
		}
	})
	stamps := 0
	for _, of := range stampsOf {
		stamps += len(of)
	}
	if total < stamps {
		t.Errorf("%d writes found: there is one for each of %d stamps at least", total, stamps)
	}
}

// addColumn is what a migration may do to a table: its rows stay as they are.
var addColumn = regexp.MustCompile(`ALTER TABLE [a-z_]+ ADD COLUMN [a-z_]+ (INTEGER|TEXT) NOT NULL DEFAULT (0|'');`)

// TestMigrationsWriteNoRows: a migration knows no stamps.
func TestMigrationsWriteNoRows(t *testing.T) {
	t.Parallel()
	shipped, err := readMigrations(schemas.SQLMigrations, "sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range shipped {
		if bad, _ := unstamped(addColumn.ReplaceAllString(m.text, "")); len(bad) > 0 {
			t.Errorf("%s: %q", m.name, bad)
		}
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
		strings.Replace(insertUserRole, "role = excluded.role", "role = excluded.role, since = excluded.since", 1),
		strings.Replace(editEvent, "AND ?4 >= edited", "", 1),
		strings.Replace(blankEvent, "AND ?4 >= stamp", "OR ?4 >= stamp", 1),
		strings.Replace(insertRead, "WHERE excluded.read >= receipts.read", "", 1),
		strings.Replace(insertDelivered, ">= receipts.delivered", ">= receipts.read", 1),
		strings.Replace(insertSeen, ">=", "<", 1),
		sweepEvents + " OR TRUE",
	} {
		if bad, _ := unstamped(text); len(bad) == 0 {
			t.Errorf("%s passes", text)
		}
	}
}
