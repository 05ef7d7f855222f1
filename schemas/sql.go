package schemas

import "embed"

// SQLMigrations holds the numbered migrations of the SQLite store, as
// sql/<number>_<name>.sql. One that was shipped is never edited: a store refuses
// to start where its recorded checksum differs. A change is a new file.
//
//go:embed sql/*.sql
var SQLMigrations embed.FS
