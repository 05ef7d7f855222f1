package streams

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
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

// connectError says what kept the first connection away, and what to do.
func (cfg ConnectConfig) connectError(err error) error {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	advice := "start the server there, or name another with --nats"
	switch {
	case cfg.Secure.Credentials != "" && isRefusal(err):
		advice = "it refuses the credentials in " + cfg.Secure.Credentials + ": get new ones from the operator of its account"
	case isRefusal(err):
		return fmt.Errorf("connect to NATS at %s: it refuses user %s: set %s to the password that the server was started with",
			strings.Join(cfg.URLs, ","), cfg.Component, cfg.Component.PasswordVariable())
	case errors.Is(err, nats.ErrSecureConnWanted):
		advice = "the server does not speak TLS: start it with --tls, or connect without --nats-ca, --nats-cert and tls://"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		advice = "the server's certificate is not valid at this time: renew it, or set this machine's clock"
	case errors.As(err, &name):
		advice = "the server's certificate is not for that name: use one of its names in --nats"
	case errors.As(err, &unknown) && cfg.Secure.CA == "":
		advice = "no CA of this system vouches for the server's certificate: name the one that does with --nats-ca"
	case errors.As(err, &unknown):
		advice = "the CA in " + cfg.Secure.CA + " does not vouch for the server's certificate: name the one that does with --nats-ca"
	case isEndedByServer(err) && cfg.Secure.Cert == "":
		advice = "the server asks for a certificate: set --nats-cert and --nats-key"
	case isEndedByServer(err):
		advice = "the server refuses the certificate in " + cfg.Secure.Cert + ": use one that its CA has signed, for clients"
	}
	return fmt.Errorf("connect to NATS at %s as %s: %w: %s", strings.Join(cfg.URLs, ","), cfg.Component, err, advice)
}

// isEndedByServer tells whether the server ended a connection whose own
// certificate was good: by an alert, or by closing it before the alert was read.
func isEndedByServer(err error) bool {
	var alert *net.OpError
	return errors.Is(err, nats.ErrTLS) || errors.As(err, &alert) && alert.Op == "remote error"
}

// isRefusal tells whether the server knows neither this password nor these credentials.
func isRefusal(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}
