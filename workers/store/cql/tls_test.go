package cql

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/tests/cassandra"
	"parley/tests/cassandra/cassandratest"
	"parley/tests/certs"
)

// TestTLS: the server shows who it is, and wants the same of clients.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := certs.SelfSigned(t, "db.example")
	stranger, strangerKey := certs.SelfSigned(t)
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
