package cql

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Config{
		"cql://127.0.0.1/parley":             {Hosts: []string{"127.0.0.1"}, Keyspace: "parley"},
		"cql://a:9142,b:9142,[::1]:9142/k_1": {Hosts: []string{"a:9142", "b:9142", "[::1]:9142"}, Keyspace: "k_1"},
		"cql://user@a/k":                     {Hosts: []string{"a"}, Keyspace: "k", User: "user"},
		"cql://us%40er:p%3Aa%2Fss:w@rd@a/k": {
			Hosts: []string{"a"}, Keyspace: "k", User: "us@er", Password: "p:a/ss:w@rd"},
		"cql://a/k?tls=true":                             {Hosts: []string{"a"}, Keyspace: "k", TLS: true},
		"cql://a/k?ca=/x/ca.pem&cert=/c&key=/k":          {Hosts: []string{"a"}, Keyspace: "k", CAFile: "/x/ca.pem", CertFile: "/c", KeyFile: "/k"},
		"cql://a/k?datacenter=dc2&servername=db.example": {Hosts: []string{"a"}, Keyspace: "k", Datacenter: "dc2", ServerName: "db.example"},
		"cql://a/k?replication=3":                        {Hosts: []string{"a"}, Keyspace: "k", Replication: map[string]int{localDatacenter: 3}},
		"cql://a/k?replication=dc1:3,dc2:2":              {Hosts: []string{"a"}, Keyspace: "k", Replication: map[string]int{"dc1": 3, "dc2": 2}},
		"cql://a/k?timeout=2s&speculative=20ms":          {Hosts: []string{"a"}, Keyspace: "k", Timeout: 2 * time.Second, SpeculativeAfter: 20 * time.Millisecond},
	} {
		got, err := ParseURL(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v; -want +got:\n%s", text, err, diff)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"sqlite://x":               "begin with cql://",
		"cql:///k":                 "no host",
		"cql://a":                  `keyspace ""`,
		"cql://a/":                 `keyspace ""`,
		"cql://a/Parley":           `keyspace "Parley"`,
		"cql://a/k;drop":           "keyspace",
		"cql://a:0/k":              "port",
		"cql://a:70000/k":          "port",
		"cql://a:9042,b:9043/k":    "one port",
		"cql://u:secret%zz@a/k":    "%25",
		"cql://a/k?color=blue":     "option color=blue",
		"cql://a/k?tls=perhaps":    "option tls=perhaps",
		"cql://a/k?replication=0":  "number of copies",
		"cql://a/k?replication=dc": "number of copies",
		"cql://a/k?timeout=5":      "option timeout=5",
		"cql://a/k?timeout=-5s":    "not negative",
		"cql://a/k?cert=/c":        "cert, key",
		"cql://a/k?%zz":            "option=value",
	} {
		_, err := ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", text, err)
		}
	}
}
