package database

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/tests/cassandra"
	"parley/tests/cassandra/cassandratest"
	"parley/tests/certs"
	"parley/workers/store/cql"
)

// TestTLS: the server shows who it is, and wants the same of clients.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := certs.SelfSigned(t, "db.example")
	stranger, strangerKey := certs.SelfSigned(t)
	node := cassandratest.Start(t, cassandra.Config{TLS: &cassandra.TLS{CertificateFile: cert, KeyFile: key, ClientCAFile: cert}})
	for name, c := range map[string]struct {
		cfg  cql.Config
		want string // in the error; "" for none
	}{
		"all there":             {cql.Config{CAFile: cert, CertFile: cert, KeyFile: key}, ""},
		"by name":               {cql.Config{CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "db.example"}, ""},
		"another name":          {cql.Config{CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "other.example"}, "other.example"},
		"another authority":     {cql.Config{CAFile: stranger, CertFile: cert, KeyFile: key}, "unknown authority"},
		"the system's":          {cql.Config{TLS: true, CertFile: cert, KeyFile: key}, "unknown authority"},
		"no certificate":        {cql.Config{CAFile: cert}, "is it running there"},
		"a stranger's":          {cql.Config{CAFile: cert, CertFile: stranger, KeyFile: strangerKey}, "is it running there"},
		"no TLS":                {cql.Config{}, "does it want TLS"},
		"a file that is absent": {cql.Config{CAFile: "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Hosts, c.cfg.Keyspace, c.cfg.Timeout = []string{node.Address()}, keyspace, 5*time.Second
			s, err := cql.Open(t.Context(), c.cfg)
			if err == nil {
				err = errors.Join(s.Migrate(t.Context()), s.Close())
			}
			if c.want == "" && err != nil || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	node := cassandratest.Start(t, cassandra.Config{Credentials: true})
	for _, c := range []struct{ user, password, want string }{
		{"cassandra", "wrong", `refuses user "cassandra"`},
		{"nobody", "cassandra", `refuses user "nobody"`},
		{"", "", "does it want TLS or a password"},
		{"cassandra", "cassandra", ""},
	} {
		s, err := cql.Open(t.Context(), cql.Config{Hosts: []string{node.Address()}, Keyspace: keyspace, User: c.user, Password: c.password})
		if err == nil {
			err = errors.Join(s.Migrate(t.Context()), s.Close())
		}
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) || strings.Contains(got, "wrong") {
			t.Errorf("%s: %v, want %q and no password", c.user, err, c.want)
		}
	}
}
