// Package sqlitetest damages the file of a store and compares what is in it, as
// any SQL tool could.
package sqlitetest

import (
	"database/sql"
	"strings"
)

// T is a test, of package testing or of rapid.
type T interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// Exec runs a statement on the file and tells how many rows it changed.
func Exec(t T, path, statement string) (rows int64) {
	t.Helper()
	db := open(t, path)
	defer db.Close()
	result, err := db.Exec(statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	rows, _ = result.RowsAffected() // the driver knows
	return rows
}

// Dump returns every row of every table but migrations, by table and key.
func Dump(t T, path string) (lines []string) {
	t.Helper()
	db := open(t, path)
	defer db.Close()
	for _, table := range []string{"events", "buckets", "chats", "chats_by_user", "shards", "members_by_chat",
		"edits", "reactions", "settings", "users", "blocks"} {
		lines = append(lines, dumpTable(t, db, table)...)
	}
	return lines
}

func dumpTable(t T, db *sql.DB, table string) (lines []string) {
	t.Helper()
	rows, err := db.Query("SELECT * FROM " + table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, targets := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		line := []string{table}
		for _, value := range values {
			line = append(line, value.String)
		}
		lines = append(lines, strings.Join(line, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

func open(t T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	return db
}
