package cql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/deploy/cassandra"
	"parley/deploy/cassandra/cassandratest"
)

// identity makes a certificate that vouches for itself, and its key.
func identity(t *testing.T, address net.IP, names ...string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{address}, DNSNames: names,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", private)
}

// TestTLS: the server shows who it is, and wants the same of clients.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := identity(t, net.IPv4(127, 0, 0, 1), "db.example")
	stranger, strangerKey := identity(t, net.IPv4(127, 0, 0, 1))
	node := cassandratest.Start(t, cassandra.Config{TLS: &cassandra.TLS{CertificateFile: cert, KeyFile: key, ClientCAFile: cert}})
	for name, c := range map[string]struct {
		cfg  Config
		want string // in the error; "" for none
	}{
		"all there":             {Config{CAFile: cert, CertFile: cert, KeyFile: key}, ""},
		"by name":               {Config{CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "db.example"}, ""},
		"another name":          {Config{CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "other.example"}, "other.example"},
		"another authority":     {Config{CAFile: stranger, CertFile: cert, KeyFile: key}, "unknown authority"},
		"the system's":          {Config{TLS: true, CertFile: cert, KeyFile: key}, "unknown authority"},
		"no certificate":        {Config{CAFile: cert}, "is it running there"},
		"a stranger's":          {Config{CAFile: cert, CertFile: stranger, KeyFile: strangerKey}, "is it running there"},
		"no TLS":                {Config{}, "does it want TLS"},
		"a file that is absent": {Config{CAFile: "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Hosts, c.cfg.Keyspace, c.cfg.Timeout = []string{node.Address()}, newKeyspace(), 5*time.Second
			s, err := Open(t.Context(), c.cfg)
			if err == nil {
				err = s.Migrate(t.Context())
				closeStore(t, s)
			}
			if c.want == "" && err != nil || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
