package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"parley/tests/harness"
)

// TestArchitectureNamesWhatExists keeps docs/architecture.md true: each function
// that it names stands in the file that it names.
func TestArchitectureNamesWhatExists(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	const name = "`([A-Za-z]+)`"
	inFile := regexp.MustCompile(`((?:` + name + `(?: → |, | and ))*` + name + ") in `([a-z_/]+\\.go)`")
	names := regexp.MustCompile(name)
	found := 0
	for _, match := range inFile.FindAllStringSubmatch(string(text), -1) {
		file := match[len(match)-1]
		declared := declaredIn(t, file)
		for _, name := range names.FindAllStringSubmatch(match[1], -1) {
			found++
			if !declared[name[1]] {
				t.Errorf("docs/architecture.md names %s in %s: it is not there", name[1], file)
			}
		}
	}
	if found < 60 {
		t.Errorf("found only %d functions in docs/architecture.md: is its form still `name` in `file.go`?", found)
	}
}

// declaredIn returns the functions, methods and types of a file.
func declaredIn(t *testing.T, file string) map[string]bool {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(harness.Root(t), file), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("docs/architecture.md names %s: %v", file, err)
		return nil
	}
	declared := make(map[string]bool)
	for _, decl := range parsed.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			declared[decl.Name.Name] = true
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				if typ, ok := spec.(*ast.TypeSpec); ok {
					declared[typ.Name.Name] = true
				}
			}
		}
	}
	return declared
}
