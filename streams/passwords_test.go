package streams_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"parley/streams"
)

func TestPasswordsAreMadeOnceAndForTheOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	made, err := streams.LoadOrCreatePasswords(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, c := range append(everyComponent(), streams.AdminComponent) {
		password := made.Of(c)
		if len(password) < 32 || seen[password] {
			t.Errorf("%s has password %q", c, password)
		}
		seen[password] = true
	}
	info, err := os.Stat(filepath.Join(dir, streams.PasswordsFile))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("the file has mode %v, want 0600", got)
	}
	if again, err := streams.LoadOrCreatePasswords(dir); err != nil || again != made {
		t.Errorf("loaded %v, %v, want %v", again, err, made)
	}
}

func TestPasswordsFileServesTheShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, err := streams.LoadOrCreatePasswords(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Save(dir, "127.0.0.1:4333"); err != nil {
		t.Fatal(err)
	}
	if again, err := streams.LoadOrCreatePasswords(dir); err != nil || again != made {
		t.Errorf("loaded %v, %v, want %v", again, err, made)
	}
	out, err := exec.Command("sh", "-c", ". "+filepath.Join(dir, streams.PasswordsFile)+` && echo "$NATS_URL $PARLEY_NATS_EDGE_PASSWORD"`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(out)), "nats://operator:"+made.Operator+"@127.0.0.1:4333 "+made.Edge; got != want {
		t.Errorf("the shell read %q, want %q", got, want)
	}
}

func TestMissingPasswordIsAddedAndTheOthersKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, streams.PasswordsFile), []byte("export PARLEY_NATS_EDGE_PASSWORD=mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	passwords, err := streams.LoadOrCreatePasswords(dir)
	if err != nil {
		t.Fatal(err)
	}
	if passwords.Edge != "mine" || passwords.Worker == "" {
		t.Errorf("passwords are %v", passwords)
	}
}
