package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport lists, for each part of the tree, which of our own packages its
// code may import. Imports go one way, so that a reader of one part never has to
// know those behind it: schemas are the words, streams the log, edge and workers
// stand beside each other and meet only there, a store knows no NATS.
// Tests may reach further where they put parts together, but see below.
var mayImport = map[string][]string{
	"schemas":                         {},
	"streams":                         {"schemas"},
	"streams/streamstest":             {"schemas", "streams"},
	"edge":                            {"schemas", "streams"},
	"workers/store":                   {"schemas"},
	"workers/store/sqlite":            {"schemas", "workers/store"},
	"workers/store/cql":               {"schemas", "workers/store"},
	"workers/store/sqlite/sqlitetest": {},
	"workers/store/storetest":         {"schemas", "workers/store"},
	"workers/dead":                    {"schemas", "streams"},
	"workers/persist":                 {"schemas", "streams", "workers/dead", "workers/store"},
	"workers/check":                   {"schemas", "streams", "workers/dead", "workers/store"},
	"workers/query":                   {"schemas", "streams", "workers/service", "workers/store"},
	"workers/service":                 {"schemas", "streams"},
	"workers/workerstest":             {"streams", "streams/streamstest", "workers/persist", "workers/store/sqlite"},
	"workers/chats":                   {"schemas", "streams", "workers/service", "workers/store"},
	"workers/users":                   {"schemas", "streams", "workers/service", "workers/store"},
	"workers/receipts":                {"schemas", "streams", "workers/store"},
	"workers/presence":                {"schemas", "streams", "workers/service"},
	"clients/parley":                  {"schemas"},
	"clients/web":                     {"schemas"},
	"tests/browser":                   {"schemas"},
	"bench":                           {"schemas", "streams", "workers/store"},
	"bench/cassandra":                 {"tests/cassandra"},
	".":                               {"*"},

	"deploy":                        {},
	"tests/certs":                   {},
	"tests/cassandra":               {"tests/cassandra/flock"},
	"tests/cassandra/cassandratest": {"tests/cassandra"},
	"tests/cassandra/flock":         {},
	"deploy/cluster":                {"streams", "tests/cassandra", "tests/cassandra/flock"},
}

// neverImport holds for tests too: an edge has no database, a store no broker.
var neverImport = map[string][]string{
	"edge":                 {"parley/workers", "modernc.org/sqlite", "database/sql", "github.com/gocql"},
	"streams":              {"parley/edge", "parley/workers"},
	"workers/store/sqlite": {"github.com/nats-io"},
	"workers/store/cql":    {"github.com/nats-io"},
	"workers":              {"parley/edge"},
}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && file != "." {
			return fs.SkipDir
		}
		if strings.HasSuffix(file, ".go") {
			checkImports(t, filepath.ToSlash(file))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImports(t *testing.T, file string) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Errorf("parse %s: %v", file, err)
		return
	}
	folder := path.Dir(file)
	allowed, known := mayImport[folder]
	if !known {
		t.Errorf("%s: package %s has no line in mayImport: say what it may import", file, folder)
		return
	}
	for _, spec := range parsed.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Errorf("%s: import %s: %v", file, spec.Path.Value, err)
			continue
		}
		for part, never := range neverImport {
			if folder != part && !strings.HasPrefix(folder, part+"/") {
				continue
			}
			for _, prefix := range never {
				if name == prefix || strings.HasPrefix(name, prefix+"/") {
					t.Errorf("%s imports %s: %s must not know it", file, name, part)
				}
			}
		}
		ours, ok := strings.CutPrefix(name, "parley/")
		if !ok || strings.HasSuffix(file, "_test.go") {
			continue
		}
		if !slices.Contains(allowed, ours) && !slices.Contains(allowed, "*") {
			t.Errorf("%s imports %s: %s may import only %v", file, name, folder, allowed)
		}
	}
}
