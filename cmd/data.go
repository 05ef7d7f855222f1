package cmd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files and folders of a dev server's data directory.
const (
	secretFile = "auth.secret"
	storeFile  = "parley.db"
	natsDir    = "nats"
)

// dataFlag finds the secrets of a dev server.
type dataFlag struct {
	Data string `help:"Data directory of a dev server, whose secrets are used where none is set." default:"./data"`
}

// loadOrCreateSecret returns the given secret, or the one kept in the data directory.
func loadOrCreateSecret(data, given string) ([]byte, error) {
	if given != "" {
		return []byte(given), nil
	}
	path := filepath.Join(data, secretFile)
	text, err := os.ReadFile(path)
	switch {
	case err == nil && strings.TrimSpace(string(text)) != "":
		return []byte(strings.TrimSpace(string(text))), nil
	case err == nil:
		return nil, fmt.Errorf("read secret %s: it is empty: remove it to have a new one made", path)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read secret: %w: make it readable, or choose another directory with --data", err)
	}
	var key [32]byte
	rand.Read(key[:])
	secret := hex.EncodeToString(key[:])
	// A rename, since a half-written secret would be in the way of the next start.
	err = os.WriteFile(path+".new", []byte(secret+"\n"), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return nil, fmt.Errorf("keep secret: %w: make room and let it be writable, or choose another directory with --data", err)
	}
	return []byte(secret), nil
}
