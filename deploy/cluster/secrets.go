//go:build unix

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"parley/streams"
)

// secrets are what the parts know each other by, kept in the data directory. The
// names of the files are those of `parley dev`, so that `parley token --data DIR`
// and the like find them.
type secrets struct {
	nats   streams.Passwords
	auth   string // signs tokens
	routes string // between NATS servers
}

func loadOrMakeSecrets(dir, natsAddress string) (s secrets, err error) {
	if s.nats, err = streams.LoadOrCreatePasswords(dir); err != nil {
		return s, err
	}
	if err := s.nats.Save(dir, natsAddress); err != nil {
		return s, err
	}
	if s.auth, err = loadOrMakeSecret(filepath.Join(dir, "auth.secret")); err != nil {
		return s, err
	}
	s.routes, err = loadOrMakeSecret(filepath.Join(dir, "routes.secret"))
	return s, err
}

func loadOrMakeSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil && len(text) > 0 {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read secret: %w", err)
	}
	var key [32]byte
	rand.Read(key[:])
	secret := "s" + hex.EncodeToString(key[:])
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep secret: %w", err)
	}
	return secret, nil
}
