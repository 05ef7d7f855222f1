package cql

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gocql/gocql"
)

// Config says where the database is and how it is asked. Zero means the default.
type Config struct {
	Hosts    []string // seeds, with or without a port; required
	Keyspace string   // required
	User     string   // default: none, for a database without authentication
	Password string

	TLS        bool   // default: false, unless one of the files below is named
	CAFile     string // PEM of who signed the servers' certificates; default: the system's
	CertFile   string // PEM of the own certificate, with KeyFile; default: none
	KeyFile    string
	ServerName string // expected in the certificates; default: the node's IP address, by which the driver knows it

	// Datacenter is the local one: its nodes are asked, and LOCAL_QUORUM is theirs.
	Datacenter string // default: that of the first seed that answers
	// Replication of the keyspace where [Store.Migrate] has to make it: how many
	// copies each data center keeps.
	Replication map[string]int // default: 3 in the local one, or as many as it has nodes

	Timeout          time.Duration // of one request; default: 6 s, above the servers' own of 2 to 5 s
	SpeculativeAfter time.Duration // a read that took longer is asked of a second replica too; default: 100 ms
	WritesMax        int           // requests of one commit that are under way at once; default: 64
	ReadsMax         int           // partitions that one call reads at once; default: 64

	Now func() time.Time // tells which rows have disappeared; default: time.Now
	Log *slog.Logger     // default: slog.Default()
}

// Scheme begins the URL of a store.
const Scheme = "cql://"

// keyspaceName is what CQL takes without quotes; it is part of statements.
var keyspaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// ParseURL reads cql://user:password@host1,host2:9042/keyspace?option=value. It
// has a parser of its own since a URL has one host. The options are those of
// [Config]: tls, ca, cert, key, servername, datacenter, replication (like
// dc1:3,dc2:3, or 3 for the local data center), timeout and speculative.
func ParseURL(text string) (Config, error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	if !ok {
		return Config{}, errors.New("store: it does not begin with " + Scheme)
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, keyspace, _ := strings.Cut(rest, "/")
	cfg := Config{Keyspace: keyspace}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		var err1, err2 error
		cfg.User, err1 = url.PathUnescape(user)
		cfg.Password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			// The URL's own error would quote the password.
			return Config{}, errors.New("store: user or password has a % that escapes nothing: write %25 for it")
		}
		authority = authority[at+1:]
	}
	for host := range strings.SplitSeq(authority, ",") {
		if host != "" {
			cfg.Hosts = append(cfg.Hosts, host)
		}
	}
	options, err := url.ParseQuery(query)
	if err != nil {
		return Config{}, errors.New("store: its options are not option=value&option=value")
	}
	if err := cfg.setOptions(options); err != nil {
		return Config{}, err
	}
	return cfg, cfg.Validate()
}

func (c *Config) setOptions(options url.Values) (err error) {
	for name, values := range options {
		value := values[len(values)-1]
		var fault error
		switch name {
		case "tls":
			c.TLS, fault = strconv.ParseBool(value)
		case "ca":
			c.CAFile = value
		case "cert":
			c.CertFile = value
		case "key":
			c.KeyFile = value
		case "servername":
			c.ServerName = value
		case "datacenter":
			c.Datacenter = value
		case "replication":
			c.Replication, fault = parseReplication(value)
		case "timeout":
			c.Timeout, fault = time.ParseDuration(value)
		case "speculative":
			c.SpeculativeAfter, fault = time.ParseDuration(value)
		default:
			fault = errors.New("there is no such option: tls, ca, cert, key, servername, datacenter, replication, timeout, speculative")
		}
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("store: option %s=%s: %w", name, value, fault))
		}
	}
	return err
}

// localDatacenter stands for it in [Config.Replication] until it is known.
const localDatacenter = ""

func parseReplication(text string) (map[string]int, error) {
	replication := map[string]int{}
	for part := range strings.SplitSeq(text, ",") {
		datacenter, number, found := strings.Cut(part, ":")
		if !found {
			datacenter, number = localDatacenter, part
		}
		copies, err := strconv.Atoi(number)
		if err != nil || copies < 1 {
			return nil, fmt.Errorf("%q is no number of copies: like 3, or dc1:3,dc2:3", part)
		}
		replication[datacenter] = copies
	}
	return replication, nil
}

func (c Config) withDefaults() Config {
	c.TLS = c.TLS || c.CAFile != "" || c.CertFile != "" || c.ServerName != ""
	c.Timeout = cmp.Or(c.Timeout, 6*time.Second)
	c.SpeculativeAfter = cmp.Or(c.SpeculativeAfter, 100*time.Millisecond)
	c.WritesMax = cmp.Or(c.WritesMax, 64)
	c.ReadsMax = cmp.Or(c.ReadsMax, 64)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("store: "+format, args...))
		}
	}
	fault(len(c.Hosts) == 0, "no host: cql://host1,host2,host3/keyspace")
	ports := map[string]bool{}
	for _, host := range c.Hosts {
		_, port, err := net.SplitHostPort(host)
		number, numberErr := strconv.ParseUint(port, 10, 16)
		fault(err == nil && (numberErr != nil || number == 0), "host %q: its port is not between 1 and 65535", host)
		ports[port] = true
	}
	fault(len(ports) > 1, "hosts %s: the nodes of a database listen on one port: name it with each host, or with none", strings.Join(c.Hosts, ","))
	fault(!keyspaceName.MatchString(c.Keyspace), "keyspace %q: 1 to 48 of a-z 0-9 _, beginning with a letter", c.Keyspace)
	fault((c.CertFile == "") != (c.KeyFile == ""), "a certificate and its key are named together: cert, key")
	fault(c.Timeout < 0 || c.SpeculativeAfter < 0, "timeout %s and speculative %s are not negative", c.Timeout, c.SpeculativeAfter)
	fault(c.WritesMax < 0 || c.ReadsMax < 0, "%d writes and %d reads are not negative", c.WritesMax, c.ReadsMax)
	return errors.Join(faults...)
}

// withPort gives a host without a port the one that the driver takes.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), "9042")
}

// cluster is the driver's configuration for one session; timeout is that of each request.
func (c Config) cluster(keyspace string, timeout time.Duration, connects *lastConnect) *gocql.ClusterConfig {
	cluster := gocql.NewCluster(c.Hosts...)
	cluster.Keyspace = keyspace
	cluster.ProtoVersion = 4
	cluster.Timeout, cluster.ReadTimeout, cluster.WriteTimeout = timeout, timeout, timeout
	cluster.ConnectTimeout = c.Timeout
	cluster.Consistency = gocql.LocalQuorum
	cluster.SerialConsistency = gocql.LocalSerial
	// Stamps are part of the statements: a default that is now would beat all of them.
	cluster.DefaultTimestamp = false
	// A node that is away is looked for again; the default is a minute.
	cluster.ReconnectInterval = time.Second
	cluster.ReconnectionPolicy = &gocql.ConstantReconnectionPolicy{MaxRetries: 1, Interval: 200 * time.Millisecond}
	cluster.ConnectObserver = connects
	cluster.Logger = driverLog{c.Log}
	if c.User != "" {
		cluster.Authenticator = gocql.PasswordAuthenticator{Username: c.User, Password: c.Password}
	}
	if c.TLS {
		cluster.SslOpts = &gocql.SslOptions{
			Config: &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12},
			CaPath: c.CAFile, CertPath: c.CertFile, KeyPath: c.KeyFile, EnableHostVerification: true,
		}
	}
	// Each session has a policy of its own: it holds the session's ring.
	fallback := gocql.RoundRobinHostPolicy()
	if c.Datacenter != "" {
		fallback = gocql.DCAwareRoundRobinPolicy(c.Datacenter)
	}
	cluster.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(fallback)
	return cluster
}

// lastConnect remembers why the last connection failed: the driver's own error
// has only its text.
type lastConnect struct{ err chan error }

func newLastConnect() *lastConnect { return &lastConnect{err: make(chan error, 1)} }

// ObserveConnect is called by the driver for each connection that it tried.
func (l *lastConnect) ObserveConnect(o gocql.ObservedConnect) {
	if o.Err == nil {
		return
	}
	select {
	case <-l.err: // make room
	default:
	}
	select {
	case l.err <- o.Err:
	default:
	}
}

func (l *lastConnect) take() error {
	select {
	case err := <-l.err:
		return err
	default:
		return nil
	}
}

// driverLog takes what the driver says: mostly of nodes that come and go.
type driverLog struct{ log *slog.Logger }

func (l driverLog) Print(v ...any) { l.log.Debug("CQL driver: " + strings.TrimSpace(fmt.Sprint(v...))) }
func (l driverLog) Println(v ...any) {
	l.log.Debug("CQL driver: " + strings.TrimSpace(fmt.Sprint(v...)))
}
func (l driverLog) Printf(format string, v ...any) {
	l.log.Debug("CQL driver: " + strings.TrimSpace(fmt.Sprintf(format, v...)))
}
