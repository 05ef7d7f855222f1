package harness

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// Files and folders of a dev server's data directory, as operators find them there.
const (
	SecretFile = "auth.secret"
	StoreFile  = "parley.db"
	NATSDir    = "nats"
)

// Root returns the folder of this module, found above the one in which the test runs.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("go.mod is in no directory above the test's: tests need the source tree")
		}
		dir = filepath.Dir(dir)
	}
}

// confPath returns the path of nats.conf.
func confPath(t testing.TB) string { return filepath.Join(Root(t), "nats.conf") }

// readSecret returns the key of tokens that a dev server keeps in its data directory.
func readSecret(t testing.TB, data string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, SecretFile))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(text)
}

// WriteFile makes a file in a directory of its own and returns its path.
func WriteFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// MakeDir makes a directory.
func MakeDir(t testing.TB, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// FreeAddress returns an address of this machine that nobody listens at now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
