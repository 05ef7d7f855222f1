package sqlite

import (
	"database/sql/driver"
	"strings"
	"testing"
)

// planOf is how SQLite runs a statement.
func planOf(t *testing.T, s *Store, statement string, values ...driver.Value) string {
	t.Helper()
	var plan strings.Builder
	err := s.read(t.Context(), "explain", func(c *conn) error {
		return c.query("EXPLAIN QUERY PLAN "+statement, func(row []driver.Value) error {
			plan.WriteString(text(row[3]) + "\n")
			return nil
		}, values...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

// TestReadsSeek: no read costs more as its table grows.
func TestReadsSeek(t *testing.T) {
	t.Parallel()
	s := open(t)
	for name, c := range map[string]struct {
		statement string
		values    []driver.Value
	}{
		"page backward": {selectBackward, []driver.Value{"c", int64(1), int64(1), int64(1)}},
		"page forward":  {selectForward, []driver.Value{"c", int64(1), int64(1), int64(1)}},
		"events":        {selectEvents, []driver.Value{"c", "[1]", int64(1)}},
		"edits":         {selectEdits, []driver.Value{"c", int64(1), int64(1), int64(1)}},
		"reactions":     {selectReactions, []driver.Value{"c", int64(1), int64(1), int64(1)}},
		"reacted":       {selectReacted, []driver.Value{"c", int64(1), int64(1), "e", "u", int64(1)}},
		"members":       {selectMembers, []driver.Value{"c", "u", int64(1)}},
		"user's chats":  {selectUserChats, []driver.Value{"u", "group.", "group/", int64(1)}},
		"summaries":     {selectSummaries, []driver.Value{"[]"}},
		"settings":      {selectSettings, []driver.Value{"u", int64(1)}},
		"profiles":      {selectProfiles, []driver.Value{"[]"}},
		"receipts":      {selectReceipts, []driver.Value{"c", "[]"}},
		"seen":          {selectSeen, []driver.Value{"[]"}},
		"blocks":        {selectBlocks, []driver.Value{"u", int64(1)}},
	} {
		for line := range strings.Lines(planOf(t, s, c.statement, c.values...)) {
			if strings.HasPrefix(line, "SCAN") && !strings.HasPrefix(line, "SCAN json_each") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}
