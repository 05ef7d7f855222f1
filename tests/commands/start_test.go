//go:build unix

package commands

import (
	"database/sql"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"parley/streams"
	"parley/streams/natsserver"
	"parley/streams/streamstest"
	"parley/tests/harness"
	"parley/workers/store/sqlite"
)

// startError is a start that does not succeed.
type startError struct {
	name string
	// command returns the environment and the arguments.
	command func(t *testing.T) (environment, args []string)
	says    []string // each is in the sentence
}

// startErrors has what they need around them.
type startErrors struct {
	port        string // an address that is in use
	provisioned string // URL of a NATS server
	nowhere     string // URL of none
	passwords   streams.Passwords
}

// What keeps the program from starting is told in one sentence that says what to
// do, with exit code 1, and leaves nothing running.
func TestStartErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	empty := streamstest.Start(t, streamstest.Options{NoProvision: true})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	s := &startErrors{
		port: taken.Addr().String(), provisioned: empty.Server.URLs()[0], nowhere: "nats://" + harness.FreeAddress(t),
		passwords: empty.Passwords,
	}
	for _, test := range slices.Concat(s.ofFlags(), s.ofAddresses(), s.ofData(), s.ofEarlierRuns(), s.ofSecrets(), s.ofServers()) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			environment, args := test.command(t)
			harness.WantStartError(t, harness.StartChild(t, append(environment, "PARLEY_LOG_LEVEL=error"), args...), test.says)
		})
	}
}

// reach is the environment of a part that can reach the NATS server at url.
func (s *startErrors) reach(url string) []string {
	environment := []string{"PARLEY_NATS=" + url, "PARLEY_AUTH_SECRET=" + harness.PartsSecret}
	for _, c := range []streams.Component{streams.EdgeComponent, streams.WorkerComponent, streams.OperatorComponent} {
		environment = append(environment, c.PasswordVariable()+"="+s.passwords.Of(c))
	}
	return environment
}

// dev are the arguments of a dev server.
func dev(data string, flags ...string) []string {
	return append([]string{"dev", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--data=" + data}, flags...)
}

// ofFlags are of the command line and of variables that configure it.
func (s *startErrors) ofFlags() []startError {
	return []startError{
		{"unknown flag", func(*testing.T) ([]string, []string) { return nil, []string{"dev", "--colour"} }, []string{"--colour", "--help"}},
		{"unknown command", func(*testing.T) ([]string, []string) { return nil, []string{"serve"} }, []string{"serve", "--help"}},
		{"bad duration", func(*testing.T) ([]string, []string) { return nil, []string{"dev", "--max-age=soon"} }, []string{"--max-age", "soon", "--help"}},
		{"bad duration in the environment", func(*testing.T) ([]string, []string) { return []string{"PARLEY_MAX_AGE=soon"}, []string{"dev"} }, []string{"max-age", "soon", "--help"}},
		{"bad number of NATS nodes", func(*testing.T) ([]string, []string) { return nil, []string{"dev", "--nats-nodes=2"} }, []string{"--nats-nodes", "1", "3"}},
		{"too many shards", func(t *testing.T) ([]string, []string) { return nil, dev(t.TempDir(), "--shards=65") }, []string{"65", "64"}},
		{"negative rate", func(t *testing.T) ([]string, []string) { return nil, dev(t.TempDir(), "--max-sessions=-1") }, []string{"-1", "1"}},
	}
}

// ofAddresses are of addresses to listen at.
func (s *startErrors) ofAddresses() []startError {
	return []startError{
		{"public port in use", func(t *testing.T) ([]string, []string) { return nil, dev(t.TempDir(), "--listen="+s.port) }, []string{s.port, "in use", "--listen"}},
		{"admin port in use", func(t *testing.T) ([]string, []string) { return nil, dev(t.TempDir(), "--admin="+s.port) }, []string{s.port, "in use", "--admin"}},
		{"NATS port in use", func(t *testing.T) ([]string, []string) { return nil, dev(t.TempDir(), "--nats-listen="+s.port) }, []string{s.port, "in use", "--nats-listen"}},
		{"address without a port", func(t *testing.T) ([]string, []string) { return nil, dev(t.TempDir(), "--listen=localhost") }, []string{"localhost", "port", "--listen"}},
		{"edge's port in use", func(t *testing.T) ([]string, []string) {
			return s.reach(s.provisioned), []string{"edge", "--listen=" + s.port, "--admin=127.0.0.1:0"}
		}, []string{s.port, "in use", "--listen"}},
		{"worker's admin port in use", func(t *testing.T) ([]string, []string) {
			return s.reach(s.provisioned), []string{"worker", "--admin=" + s.port, "--store=sqlite://" + migratedStore(t)}
		}, []string{s.port, "in use", "--admin"}},
	}
}

// ofData are of the data directory of a dev server that was not started yet.
func (s *startErrors) ofData() []startError {
	return []startError{
		{"data directory is a file", func(t *testing.T) ([]string, []string) { return nil, dev(harness.WriteFile(t, "data", "")) }, []string{"data", "--data"}},
		{"data directory cannot be made", func(t *testing.T) ([]string, []string) { return nil, dev("/proc/parley") }, []string{"/proc/parley", "--data"}},
		{"secret is unreadable", func(t *testing.T) ([]string, []string) {
			data := t.TempDir()
			harness.MakeDir(t, filepath.Join(data, harness.SecretFile))
			return nil, dev(data)
		}, []string{harness.SecretFile}},
		{"secret is empty", func(t *testing.T) ([]string, []string) {
			return nil, dev(filepath.Dir(harness.WriteFile(t, harness.SecretFile, "\n")))
		}, []string{harness.SecretFile, "empty", "remove"}},
		{"passwords are unreadable", func(t *testing.T) ([]string, []string) {
			data := t.TempDir()
			harness.MakeDir(t, filepath.Join(data, streams.PasswordsFile))
			return nil, dev(data)
		}, []string{streams.PasswordsFile}},
		{"store is no database", func(t *testing.T) ([]string, []string) {
			return nil, dev(filepath.Dir(harness.WriteFile(t, harness.StoreFile, strings.Repeat("this is a letter and no database\n", 200))))
		}, []string{harness.StoreFile, "move it away"}},
		{"store is of a newer version", func(t *testing.T) ([]string, []string) {
			path := migratedStore(t)
			editStore(t, path, "INSERT INTO migrations (version, name, checksum, applied) VALUES (9999, '9999_later.sql', 'x', 0)")
			return nil, dev(filepath.Dir(path))
		}, []string{harness.StoreFile, "newer", "backup"}},
		{"store is of another build", func(t *testing.T) ([]string, []string) {
			path := migratedStore(t)
			editStore(t, path, "UPDATE migrations SET checksum = 'x'")
			return nil, dev(filepath.Dir(path))
		}, []string{harness.StoreFile, "run the Parley that applied it"}},
	}
}

// ofEarlierRuns are of a data directory that a dev server has used.
func (s *startErrors) ofEarlierRuns() []startError {
	return []startError{
		{"streams are damaged", func(t *testing.T) ([]string, []string) {
			data := t.TempDir()
			d := harness.StartDevChild(t, data)
			d.Kill()
			damage(t, filepath.Join(data, harness.NATSDir, "jetstream", natsserver.AccountName, "streams", "CHAT_3", "meta.inf"))
			return nil, dev(data)
		}, []string{"CHAT_3", "backup"}},
		{"log is older than the store", func(t *testing.T) ([]string, []string) {
			d := harness.StartDevChild(t, "")
			load := harness.StartLoad(t, 1, 1, d.Place(t))
			load.AwaitAcks(t, 10)
			load.Finish(t)
			load.Check(t, d.Place(t), d.Log(t), filepath.Join(d.Data, harness.StoreFile)) // all is stored
			d.Kill()
			if err := os.RemoveAll(filepath.Join(d.Data, harness.NATSDir)); err != nil {
				t.Fatal(err)
			}
			return nil, dev(d.Data)
		}, []string{"shard 0 is missing", "backup", "--remake-lost"}},
		{"data directory is in use", func(t *testing.T) ([]string, []string) {
			d := harness.StartDevChild(t, "")
			return nil, dev(d.Data)
		}, []string{"data", "another"}},
		{"another number of shards", func(t *testing.T) ([]string, []string) {
			data := t.TempDir()
			d := harness.StartDevChild(t, data)
			d.Kill()
			return nil, dev(data, "--shards=4")
		}, []string{"4", "8"}},
	}
}

// ofSecrets are of secrets, passwords and files of them.
func (s *startErrors) ofSecrets() []startError {
	return []startError{
		{"edge without a secret", func(*testing.T) ([]string, []string) {
			return []string{"PARLEY_NATS_EDGE_PASSWORD=x"}, []string{"edge"}
		}, []string{"PARLEY_AUTH_SECRET", "--jwks-url"}},
		{"edge without a password", func(*testing.T) ([]string, []string) {
			return []string{"PARLEY_AUTH_SECRET=" + harness.PartsSecret}, []string{"edge"}
		}, []string{"PARLEY_NATS_EDGE_PASSWORD"}},
		{"worker without a password", func(*testing.T) ([]string, []string) { return nil, []string{"worker"} }, []string{"PARLEY_NATS_WORKER_PASSWORD"}},
		{"migrate without a password", func(*testing.T) ([]string, []string) { return nil, []string{"migrate"} }, []string{"PARLEY_NATS_WORKER_PASSWORD"}},
		{"NATS CA is missing", func(*testing.T) ([]string, []string) {
			return []string{"PARLEY_NATS_WORKER_PASSWORD=x", "PARLEY_NATS_CA=/nowhere/ca.pem"}, []string{"dead", "list"}
		}, []string{"/nowhere/ca.pem", "--nats-ca"}},
		{"NATS credentials are missing", func(*testing.T) ([]string, []string) { // and no password is asked for
			return nil, []string{"dead", "list", "--nats-creds=/nowhere/worker.creds"}
		}, []string{"/nowhere/worker.creds", "--nats-creds"}},
		{"dead list without a password", func(t *testing.T) ([]string, []string) {
			return nil, []string{"dead", "list", "--data=" + t.TempDir()}
		}, []string{"PARLEY_NATS_WORKER_PASSWORD"}},
		{"token without a secret", func(t *testing.T) ([]string, []string) {
			return nil, []string{"token", "--user=alice", "--data=" + t.TempDir()}
		}, []string{"parley dev", "PARLEY_AUTH_SECRET"}},
		{"token of a user that cannot be", func(*testing.T) ([]string, []string) {
			return []string{"PARLEY_AUTH_SECRET=x"}, []string{"token", "--user=al.ice"}
		}, []string{"al.ice"}},
		{"wrong password", func(*testing.T) ([]string, []string) {
			return append(s.reach(s.provisioned), "PARLEY_NATS_EDGE_PASSWORD=wrong"), []string{"edge", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}
		}, []string{"edge", "PARLEY_NATS_EDGE_PASSWORD"}},
	}
}

// ofServers are of NATS servers and stores.
func (s *startErrors) ofServers() []startError {
	return []startError{
		{"edge where nothing is provisioned", func(*testing.T) ([]string, []string) {
			return s.reach(s.provisioned), []string{"edge", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}
		}, []string{"parley migrate"}},
		{"worker where nothing is provisioned", func(t *testing.T) ([]string, []string) {
			return s.reach(s.provisioned), []string{"worker", "--admin=127.0.0.1:0", "--store=sqlite://" + migratedStore(t)}
		}, []string{"parley migrate"}},
		{"worker whose store is not migrated", func(t *testing.T) ([]string, []string) {
			return s.reach(s.provisioned), []string{"worker", "--admin=127.0.0.1:0", "--store=sqlite://" + filepath.Join(t.TempDir(), harness.StoreFile)}
		}, []string{harness.StoreFile, "parley migrate"}},
		{"store in no directory", func(t *testing.T) ([]string, []string) {
			return s.reach(s.provisioned), []string{"worker", "--admin=127.0.0.1:0", "--store=sqlite://" + filepath.Join(t.TempDir(), "none", harness.StoreFile)}
		}, []string{"none", "directory"}},
		{"store of another kind", func(t *testing.T) ([]string, []string) {
			return s.reach(s.provisioned), []string{"worker", "--admin=127.0.0.1:0", "--store=mysql://x"}
		}, []string{"--store", `"mysql" is no kind of store`, "sqlite://"}},
		{"NATS unreachable by an edge", func(*testing.T) ([]string, []string) {
			return s.reach(s.nowhere), []string{"edge", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}
		}, []string{s.nowhere, "--nats"}},
		{"NATS unreachable by a worker", func(t *testing.T) ([]string, []string) {
			return s.reach(s.nowhere), []string{"worker", "--admin=127.0.0.1:0", "--store=sqlite://" + migratedStore(t)}
		}, []string{s.nowhere, "--nats"}},
		{"NATS unreachable by migrate", func(t *testing.T) ([]string, []string) {
			return s.reach(s.nowhere), []string{"migrate", "--store=sqlite://" + filepath.Join(t.TempDir(), harness.StoreFile)}
		}, []string{s.nowhere, "--nats"}},
		{"drain of no edge", func(*testing.T) ([]string, []string) {
			return s.reach(s.provisioned), []string{"drain", "edge-9"}
		}, []string{"edge-9", "nats micro ls"}},
		{"drain of what is no name", func(*testing.T) ([]string, []string) { return nil, []string{"drain", "a.b"} }, []string{"a.b"}},
	}
}

// damage overwrites the beginning of a file.
func damage(t testing.TB, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("no longer what it was"), 0); err != nil {
		t.Fatal(err)
	}
}

// migratedStore returns the path of a store with tables and no rows.
func migratedStore(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), harness.StoreFile)
	st, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return path
}

// editStore runs a statement on the file as an SQL tool would.
func editStore(t testing.TB, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}
