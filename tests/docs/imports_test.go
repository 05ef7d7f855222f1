package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"parley/tests/harness"
)

// mayImport lists, for each part of the tree, which of our own packages its
// code may import. Imports go one way, so that a reader of one part never has to
// know those behind it: schemas are the words, streams the log, edge and workers
// stand beside each other and meet only there, a store knows no NATS.
// Tests may reach further where they put parts together, but see below.
var mayImport = map[string][]string{
	"schemas":                         {},
	"streams":                         {"schemas"},
	"streams/natsserver":              {"streams"},
	"streams/streamstest":             {"schemas", "streams", "streams/natsserver"},
	"edge":                            {"edge/auth", "schemas", "streams"},
	"edge/auth":                       {"schemas"},
	"workers/store":                   {"schemas"},
	"workers/store/sqlite":            {"schemas", "workers/store"},
	"workers/store/cql":               {"schemas", "workers/store"},
	"workers/store/sqlite/sqlitetest": {},
	"workers/store/storetest":         {"schemas", "workers/store"},
	"workers/dead":                    {"schemas", "streams"},
	"workers/worker":                  {"schemas", "streams"},
	"workers/service":                 {"schemas", "streams", "workers/worker"},
	"workers/persist":                 {"schemas", "streams", "workers/dead", "workers/persist/fold", "workers/store", "workers/worker"},
	"workers/persist/fold":            {"schemas", "streams", "workers/dead", "workers/store"},
	"workers/persist/foldtest":        {"schemas", "streams", "workers/persist/fold", "workers/store", "workers/store/sqlite"},
	"workers/query":                   {"schemas", "streams", "workers/service", "workers/store", "workers/worker"},
	"workers/chats":                   {"schemas", "streams", "workers/service", "workers/store", "workers/worker"},
	"workers/users":                   {"schemas", "streams", "workers/service", "workers/store", "workers/worker"},
	"workers/receipts":                {"schemas", "streams", "workers/store", "workers/worker"},
	"workers/presence":                {"schemas", "streams", "workers/service", "workers/worker"},
	"workers/workerstest":             {"schemas", "streams", "streams/streamstest", "workers/dead", "workers/persist", "workers/store", "workers/store/sqlite"},
	"repair/check":                    {"schemas", "streams", "workers/dead", "workers/store", "workers/worker"},
	"repair/rebuild":                  {"schemas", "streams", "workers/dead", "workers/persist", "workers/persist/fold", "workers/store", "workers/worker"},
	"repair/replay":                   {"schemas", "streams", "workers/dead", "workers/persist", "workers/persist/fold", "workers/store"},
	"clients/parley":                  {"schemas"},
	"clients/web":                     {"schemas"},
	"tests/browser":                   {"schemas"},
	"bench":                           {"schemas", "streams", "workers/store"},
	"bench/cassandra":                 {"tests/cassandra"},
	".":                               {"cmd"},
	"cmd":                             {"*"},

	"deploy": {},
	"tests/harness": {"clients/parley", "cmd", "edge/auth", "schemas", "tests/cassandra/cassandratest", "streams", "streams/streamstest",
		"workers/store", "workers/store/cql", "workers/store/sqlite"},
	"tests/commands":                {},
	"tests/database":                {},
	"tests/docs":                    {},
	"tests/e2e":                     {},
	"tests/faults":                  {},
	"tests/model":                   {},
	"tests/presence":                {},
	"tests/production":              {},
	"tests/proxy":                   {},
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
	"workers":              {"parley/edge", "parley/repair"},
	"repair":               {"parley/edge"},
}

// startCassandra are the commands for development that start a Cassandra, as tests do:
// no other code but that of tests imports what is in tests/.
var startCassandra = []string{"bench/cassandra", "deploy/cluster"}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	root := os.DirFS(harness.Root(t))
	err := fs.WalkDir(root, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && file != "." {
			return fs.SkipDir
		}
		if strings.HasSuffix(file, ".go") {
			checkImports(t, root, file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImports(t *testing.T, root fs.FS, file string) {
	source, err := fs.ReadFile(root, file)
	if err != nil {
		t.Error(err)
		return
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.ImportsOnly)
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
		if strings.HasPrefix(ours, "tests/") && !strings.HasPrefix(folder, "tests/") && !slices.Contains(startCassandra, folder) {
			t.Errorf("%s imports %s: the program must not contain what is for tests", file, name)
		}
	}
}
