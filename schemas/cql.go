package schemas

import "embed"

// CQLMigrations holds the numbered migrations of the ScyllaDB and Cassandra
// store: cql/<number>_<name>.cql for both, and those that differ, which are the
// tables' options, in cql/cassandra and cql/scylla. A file that was shipped is
// never changed: a store knows it by its checksum.
//
//go:embed cql
var CQLMigrations embed.FS
