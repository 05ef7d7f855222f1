//go:build unix

package main

import (
	"database/sql"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/streams"
	"parley/streams/natsserver"
	"parley/streams/streamstest"
	"parley/workers/store/sqlite"
)

// What keeps the program from starting is told in one sentence that says what to
// do, with exit code 1, and leaves nothing running.
func TestStartErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	empty := streamstest.Start(t, streamstest.Options{NoProvision: true})
	nobody := freeAddress(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	port := taken.Addr().String()
	reach := func(url string) []string {
		environment := []string{"PARLEY_NATS=" + url, "PARLEY_AUTH_SECRET=" + partsSecret}
		for _, c := range []streams.Component{streams.EdgeComponent, streams.WorkerComponent, streams.OperatorComponent} {
			environment = append(environment, c.PasswordVariable()+"="+empty.Passwords.Of(c))
		}
		return environment
	}
	provisioned, nowhere := empty.Server.URLs()[0], "nats://"+nobody
	dev := func(t *testing.T, data string, flags ...string) []string {
		return append([]string{"dev", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--data=" + data}, flags...)
	}
	for _, test := range []struct {
		name string
		// command returns the environment and the arguments.
		command func(t *testing.T) (environment, args []string)
		says    []string // each is in the sentence
	}{
		{"unknown flag", func(*testing.T) ([]string, []string) { return nil, []string{"dev", "--colour"} }, []string{"--colour", "--help"}},
		{"unknown command", func(*testing.T) ([]string, []string) { return nil, []string{"serve"} }, []string{"serve", "--help"}},
		{"bad duration", func(*testing.T) ([]string, []string) { return nil, []string{"dev", "--max-age=soon"} }, []string{"--max-age", "soon", "--help"}},
		{"bad duration in the environment", func(*testing.T) ([]string, []string) { return []string{"PARLEY_MAX_AGE=soon"}, []string{"dev"} }, []string{"max-age", "soon", "--help"}},
		{"bad number of NATS nodes", func(*testing.T) ([]string, []string) { return nil, []string{"dev", "--nats-nodes=2"} }, []string{"--nats-nodes", "1", "3"}},
		{"too many shards", func(t *testing.T) ([]string, []string) { return nil, dev(t, t.TempDir(), "--shards=65") }, []string{"65", "64"}},
		{"negative rate", func(t *testing.T) ([]string, []string) { return nil, dev(t, t.TempDir(), "--max-sessions=-1") }, []string{"-1", "1"}},

		{"public port in use", func(t *testing.T) ([]string, []string) { return nil, dev(t, t.TempDir(), "--listen="+port) }, []string{port, "in use", "--listen"}},
		{"admin port in use", func(t *testing.T) ([]string, []string) { return nil, dev(t, t.TempDir(), "--admin="+port) }, []string{port, "in use", "--admin"}},
		{"NATS port in use", func(t *testing.T) ([]string, []string) { return nil, dev(t, t.TempDir(), "--nats-listen="+port) }, []string{port, "in use", "--nats-listen"}},
		{"address without a port", func(t *testing.T) ([]string, []string) { return nil, dev(t, t.TempDir(), "--listen=localhost") }, []string{"localhost", "port", "--listen"}},
		{"edge's port in use", func(t *testing.T) ([]string, []string) {
			return reach(provisioned), []string{"edge", "--listen=" + port, "--admin=127.0.0.1:0"}
		}, []string{port, "in use", "--listen"}},
		{"worker's admin port in use", func(t *testing.T) ([]string, []string) {
			return reach(provisioned), []string{"worker", "--admin=" + port, "--store=sqlite://" + migratedStore(t)}
		}, []string{port, "in use", "--admin"}},

		{"data directory is a file", func(t *testing.T) ([]string, []string) { return nil, dev(t, write(t, "data", "")) }, []string{"data", "--data"}},
		{"data directory cannot be made", func(t *testing.T) ([]string, []string) { return nil, dev(t, "/proc/parley") }, []string{"/proc/parley", "--data"}},
		{"secret is unreadable", func(t *testing.T) ([]string, []string) {
			data := t.TempDir()
			mkdir(t, filepath.Join(data, secretFile))
			return nil, dev(t, data)
		}, []string{secretFile}},
		{"secret is empty", func(t *testing.T) ([]string, []string) {
			return nil, dev(t, filepath.Dir(write(t, secretFile, "\n")))
		}, []string{secretFile, "empty", "remove"}},
		{"passwords are unreadable", func(t *testing.T) ([]string, []string) {
			data := t.TempDir()
			mkdir(t, filepath.Join(data, streams.PasswordsFile))
			return nil, dev(t, data)
		}, []string{streams.PasswordsFile}},
		{"store is no database", func(t *testing.T) ([]string, []string) {
			return nil, dev(t, filepath.Dir(write(t, storeFile, strings.Repeat("this is a letter and no database\n", 200))))
		}, []string{storeFile, "move it away"}},
		{"store is of a newer version", func(t *testing.T) ([]string, []string) {
			path := migratedStore(t)
			editStore(t, path, "INSERT INTO migrations (version, name, checksum, applied) VALUES (9999, '9999_later.sql', 'x', 0)")
			return nil, dev(t, filepath.Dir(path))
		}, []string{storeFile, "newer", "backup"}},
		{"store is of another build", func(t *testing.T) ([]string, []string) {
			path := migratedStore(t)
			editStore(t, path, "UPDATE migrations SET checksum = 'x'")
			return nil, dev(t, filepath.Dir(path))
		}, []string{storeFile, "run the Parley that applied it"}},
		{"streams are damaged", func(t *testing.T) ([]string, []string) {
			data := t.TempDir()
			d := startDevChild(t, data)
			d.kill()
			damage(t, filepath.Join(data, natsDir, "jetstream", natsserver.AccountName, "streams", "CHAT_3", "meta.inf"))
			return nil, dev(t, data)
		}, []string{"CHAT_3", "backup"}},
		{"log is older than the store", func(t *testing.T) ([]string, []string) {
			d := startDevChild(t, "")
			load := startLoad(t, 1, 1, d.place(t))
			load.awaitAcks(t, 10)
			load.finish(t)
			load.check(t, d.place(t), d.log(t), filepath.Join(d.data, storeFile)) // all is stored
			d.kill()
			if err := os.RemoveAll(filepath.Join(d.data, natsDir)); err != nil {
				t.Fatal(err)
			}
			return nil, dev(t, d.data)
		}, []string{"shard 0 is missing", "backup", "--remake-lost"}},
		{"data directory is in use", func(t *testing.T) ([]string, []string) {
			d := startDevChild(t, "")
			return nil, dev(t, d.data)
		}, []string{"data", "another"}},
		{"another number of shards", func(t *testing.T) ([]string, []string) {
			data := t.TempDir()
			d := startDevChild(t, data)
			d.kill()
			return nil, dev(t, data, "--shards=4")
		}, []string{"4", "8"}},

		{"edge without a secret", func(*testing.T) ([]string, []string) {
			return []string{"PARLEY_NATS_EDGE_PASSWORD=x"}, []string{"edge"}
		}, []string{"PARLEY_AUTH_SECRET", "--jwks-url"}},
		{"edge without a password", func(*testing.T) ([]string, []string) {
			return []string{"PARLEY_AUTH_SECRET=" + partsSecret}, []string{"edge"}
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
			return append(reach(provisioned), "PARLEY_NATS_EDGE_PASSWORD=wrong"), []string{"edge", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}
		}, []string{"edge", "PARLEY_NATS_EDGE_PASSWORD"}},

		{"edge where nothing is provisioned", func(*testing.T) ([]string, []string) {
			return reach(provisioned), []string{"edge", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}
		}, []string{"parley migrate"}},
		{"worker where nothing is provisioned", func(t *testing.T) ([]string, []string) {
			return reach(provisioned), []string{"worker", "--admin=127.0.0.1:0", "--store=sqlite://" + migratedStore(t)}
		}, []string{"parley migrate"}},
		{"worker whose store is not migrated", func(t *testing.T) ([]string, []string) {
			return reach(provisioned), []string{"worker", "--admin=127.0.0.1:0", "--store=sqlite://" + filepath.Join(t.TempDir(), storeFile)}
		}, []string{storeFile, "parley migrate"}},
		{"store in no directory", func(t *testing.T) ([]string, []string) {
			return reach(provisioned), []string{"worker", "--admin=127.0.0.1:0", "--store=sqlite://" + filepath.Join(t.TempDir(), "none", storeFile)}
		}, []string{"none", "directory"}},
		{"store of another kind", func(t *testing.T) ([]string, []string) {
			return reach(provisioned), []string{"worker", "--admin=127.0.0.1:0", "--store=mysql://x"}
		}, []string{"--store", `"mysql" is no kind of store`, "sqlite://"}},
		{"NATS unreachable by an edge", func(*testing.T) ([]string, []string) {
			return reach(nowhere), []string{"edge", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}
		}, []string{nowhere, "--nats"}},
		{"NATS unreachable by a worker", func(t *testing.T) ([]string, []string) {
			return reach(nowhere), []string{"worker", "--admin=127.0.0.1:0", "--store=sqlite://" + migratedStore(t)}
		}, []string{nowhere, "--nats"}},
		{"NATS unreachable by migrate", func(t *testing.T) ([]string, []string) {
			return reach(nowhere), []string{"migrate", "--store=sqlite://" + filepath.Join(t.TempDir(), storeFile)}
		}, []string{nowhere, "--nats"}},
		{"drain of no edge", func(*testing.T) ([]string, []string) {
			return reach(provisioned), []string{"drain", "edge-9"}
		}, []string{"edge-9", "nats micro ls"}},
		{"drain of what is no name", func(*testing.T) ([]string, []string) { return nil, []string{"drain", "a.b"} }, []string{"a.b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			environment, args := test.command(t)
			wantStartError(t, startChild(t, append(environment, "PARLEY_LOG_LEVEL=error"), args...), test.says)
		})
	}
}

func wantStartError(t *testing.T, c *child, says []string) {
	t.Helper()
	state := c.waitExit(t)
	text := c.stderr.String()
	t.Log(strings.TrimSpace(text))
	if state.ExitCode() != 1 {
		t.Errorf("it ended with %s, want exit code 1", state)
	}
	if sentence, rest, _ := strings.Cut(text, "\n"); !strings.HasPrefix(sentence, "parley: ") || rest != "" {
		t.Errorf("it is not one line that begins with parley: and ends there")
	}
	for _, want := range says {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if out := c.stdout.String(); out != "" {
		t.Errorf("it printed %q", out)
	}
}

// write makes a file in a directory of its own and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
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
	path := filepath.Join(t.TempDir(), storeFile)
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
