package streams

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

// Secure says how a connection to NATS is encrypted and who vouches for its two
// ends. Its zero value is what the server asks for: TLS, with the certificates of
// the system, where it requires that or a URL begins with tls://. Files are read
// again at each reconnect, so that certificates can be renewed in their place.
type Secure struct {
	CA          string // file of the certificates that vouch for the servers'; requires TLS; default: those of the system
	Cert, Key   string // files of this process's certificate and its key, for a server that verifies clients; default: none
	Credentials string // .creds file, for servers in operator mode; default: user and password
}

// options returns nothing that would fail at the first connection for a reason that a file gives.
func (s Secure) options() (options []nats.Option, err error) {
	if s.CA != "" {
		if err := s.checkCA(); err != nil {
			return nil, err
		}
		options = append(options, nats.RootCAs(s.CA))
	}
	if s.Cert != "" || s.Key != "" {
		if err := s.checkCert(); err != nil {
			return nil, err
		}
		options = append(options, nats.ClientCert(s.Cert, s.Key))
	}
	if s.Credentials != "" {
		if err := s.checkCredentials(); err != nil {
			return nil, err
		}
		options = append(options, nats.UserCredentials(s.Credentials))
	}
	return options, nil
}

func (s Secure) checkCA() error {
	text, err := os.ReadFile(s.CA)
	if err != nil {
		return fmt.Errorf("read NATS CA: %w: see --nats-ca", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return fmt.Errorf("read NATS CA %s: it has no certificate in PEM: see --nats-ca", s.CA)
	}
	return nil
}

func (s Secure) checkCert() error {
	if s.Cert == "" || s.Key == "" {
		return errors.New("--nats-cert and --nats-key belong together: set both")
	}
	pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		return fmt.Errorf("read NATS certificate %s and key %s: %w: see --nats-cert and --nats-key", s.Cert, s.Key, err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		return fmt.Errorf("NATS certificate %s expired at %s: renew it", s.Cert, end.Format(time.RFC3339))
	}
	return nil
}

func (s Secure) checkCredentials() error {
	text, err := os.ReadFile(s.Credentials)
	if err != nil {
		return fmt.Errorf("read NATS credentials: %w: see --nats-creds", err)
	}
	if !bytes.Contains(text, []byte("BEGIN NATS USER JWT")) || !bytes.Contains(text, []byte("BEGIN USER NKEY SEED")) {
		return fmt.Errorf("read NATS credentials %s: it is no .creds file with a user's JWT and key, as `nsc generate creds` writes: see --nats-creds", s.Credentials)
	}
	return nil
}
