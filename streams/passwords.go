package streams

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// PasswordsFile is the name of the file in the data directory of `parley dev`.
const PasswordsFile = "nats.env"

const exportPrefix = "export "

// Passwords has one password per user of nats.conf.
type Passwords struct {
	Edge, Worker, Operator, Service, Admin string
}

// Of returns the component's password.
func (p Passwords) Of(c Component) string {
	switch c {
	case EdgeComponent:
		return p.Edge
	case WorkerComponent:
		return p.Worker
	case OperatorComponent:
		return p.Operator
	case ServiceComponent:
		return p.Service
	default:
		return p.Admin
	}
}

func (p *Passwords) set(c Component, password string) {
	switch c {
	case EdgeComponent:
		p.Edge = password
	case WorkerComponent:
		p.Worker = password
	case OperatorComponent:
		p.Operator = password
	case ServiceComponent:
		p.Service = password
	default:
		p.Admin = password
	}
}

// LoadOrCreatePasswords returns the passwords kept in dir, made at the first
// call. The file is for its owner only, and a shell can read it:
//
//	. data/nats.env && nats sub 'chat.>'
func LoadOrCreatePasswords(dir string) (Passwords, error) {
	path := filepath.Join(dir, PasswordsFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Passwords{}, fmt.Errorf("read passwords: %w: make the file readable, or remove it to have new passwords made", err)
	}
	passwords := parsePasswords(text)
	var missing bool
	for _, c := range Components() {
		if passwords.Of(c) == "" {
			passwords.set(c, newPassword())
			missing = true
		}
	}
	if !missing {
		return passwords, nil
	}
	return passwords, passwords.Save(dir, "")
}

// ReadPasswords returns the passwords kept in dir; they are empty where it has none.
func ReadPasswords(dir string) (Passwords, error) {
	text, err := os.ReadFile(filepath.Join(dir, PasswordsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Passwords{}, fmt.Errorf("read passwords: %w: make the file readable, or set them in the environment", err)
	}
	return parsePasswords(text), nil
}

// Save writes the passwords to dir. Where address (host:port) is given, the file
// also sets NATS_URL, so that the nats CLI connects there as operator.
func (p Passwords) Save(dir, address string) error {
	var text bytes.Buffer
	text.WriteString("# Made by parley dev. Read by a shell: . " + PasswordsFile + "\n")
	for _, c := range Components() {
		fmt.Fprintf(&text, "%s%s=%s\n", exportPrefix, c.PasswordVariable(), p.Of(c))
	}
	if address != "" {
		server := url.URL{Scheme: "nats", User: url.UserPassword(string(OperatorComponent), p.Operator), Host: address}
		fmt.Fprintf(&text, "%sNATS_URL=%s\n", exportPrefix, server.String())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return saveError(err)
	}
	path := filepath.Join(dir, PasswordsFile)
	// A rename, since a half-written file would cost the passwords.
	if err := os.WriteFile(path+".new", text.Bytes(), 0o600); err != nil {
		return saveError(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return saveError(err)
	}
	return nil
}

func saveError(err error) error {
	return fmt.Errorf("write passwords: %w: make room and let it be writable, or choose another directory with --data", err)
}

func parsePasswords(text []byte) Passwords {
	var passwords Passwords
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(lines.Text()), exportPrefix), "=")
		if !ok {
			continue
		}
		for _, c := range Components() {
			if name == c.PasswordVariable() {
				passwords.set(c, value)
			}
		}
	}
	return passwords
}

// newPassword begins with a letter, so that no reader of the file takes it for a number.
func newPassword() string {
	var random [16]byte
	rand.Read(random[:])
	return "p" + hex.EncodeToString(random[:])
}
