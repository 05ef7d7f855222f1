package cassandra

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Config is one Cassandra process.
type Config struct {
	// Dir holds its data, log and configuration, and is made if it is missing.
	// A second start on the same Dir and ports goes on with the data.
	Dir string
	// Address is where it listens, for clients and for other nodes. default: 127.0.0.1
	Address string
	// Port is for CQL, StoragePort for other nodes. default: free ports
	Port        int
	StoragePort int
	// HeapMiB bounds the Java heap; the process takes some 400 MiB more. default: 768
	HeapMiB int
	// Seeds are host:port (storage port) of nodes of the cluster to join. default: itself
	Seeds []string
	// Unsafe trades durability and peak throughput for a fast start and fast changes of
	// the schema: nothing is flushed or synced for safety, the JIT stays at its first tier.
	// What it holds is lost when it ends. default: off
	Unsafe bool
	// Credentials makes clients log in: user and password are "cassandra" at first. default: off
	Credentials bool
	// TLS makes clients use TLS. default: off
	TLS *TLS
}

// TLS is the server's identity and what it asks of clients.
type TLS struct {
	// CertificateFile is a PEM chain, the server's own certificate first; KeyFile its
	// unencrypted PKCS #8 key (type PRIVATE KEY), which is all that Java reads.
	CertificateFile string
	KeyFile         string
	// ClientCAFile makes clients show a certificate of this authority. default: none is asked for
	ClientCAFile string
}

const (
	defaultAddress = "127.0.0.1"
	defaultHeapMiB = 768
	heapMiBMin     = 256 // below this it collects garbage more than it serves
)

// withDefaults checks the configuration, every fault at once, and fills it in.
func (c Config) withDefaults() (Config, error) {
	var faults []error
	if c.Dir == "" {
		faults = append(faults, errors.New("the field Dir is empty: name a folder for the data"))
	} else if dir, err := filepath.Abs(c.Dir); err != nil {
		faults = append(faults, fmt.Errorf("make Dir %q absolute: %w", c.Dir, err))
	} else {
		c.Dir = dir
	}
	if c.Address == "" {
		c.Address = defaultAddress
	}
	if net.ParseIP(c.Address) == nil {
		faults = append(faults, fmt.Errorf("the Address %q is no IP address", c.Address))
	}
	if c.HeapMiB == 0 {
		c.HeapMiB = defaultHeapMiB
	}
	if c.HeapMiB < heapMiBMin {
		faults = append(faults, fmt.Errorf("heap: HeapMiB is %d, must be at least %d", c.HeapMiB, heapMiBMin))
	}
	for _, port := range []int{c.Port, c.StoragePort} {
		if port < 0 || port > 65535 {
			faults = append(faults, fmt.Errorf("port %d is not in 0..65535", port))
		}
	}
	for _, seed := range c.Seeds {
		if _, _, err := net.SplitHostPort(seed); err != nil {
			faults = append(faults, fmt.Errorf("seed %q: %w", seed, err))
		}
	}
	if len(faults) > 0 {
		return c, fmt.Errorf("configure Cassandra: %w", errors.Join(faults...))
	}
	return c, c.choosePorts()
}

// Free ports are taken from below the range that the kernel gives to outgoing connections and
// to listeners on port 0: seconds pass before the JVM listens, and a test suite beside it opens many.
const (
	freePortMin   = 10000
	freePortMax   = 32000
	freePortTries = 100
)

// choosePorts fills in ports that are free now. That another process takes one before the JVM
// does is possible, and shows as a failed start.
func (c *Config) choosePorts() error {
	for _, port := range []*int{&c.Port, &c.StoragePort} {
		if *port != 0 {
			continue
		}
		listener, err := listenFree(c.Address)
		if err != nil {
			return fmt.Errorf("find a free port on %s: %w", c.Address, err)
		}
		defer listener.Close() // both are held until both are chosen, so that they differ
		*port = listener.Addr().(*net.TCPAddr).Port
	}
	if len(c.Seeds) == 0 {
		c.Seeds = []string{c.storageAddress()}
	}
	return nil
}

func listenFree(address string) (listener net.Listener, err error) {
	for range freePortTries {
		port := freePortMin + rand.IntN(freePortMax-freePortMin)
		if listener, err = net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port))); err == nil {
			return listener, nil
		}
	}
	return nil, err
}

func (c Config) storageAddress() string {
	return net.JoinHostPort(c.Address, strconv.Itoa(c.StoragePort))
}

// alone tells whether there is no other node to wait for.
func (c Config) alone() bool { return slices.Equal(c.Seeds, []string{c.storageAddress()}) }

// write puts cassandra.yaml and logback.xml into Dir.
func (c Config) write() error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make Cassandra's folder: %w", err)
	}
	encryption, err := c.TLS.yaml()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		yamlName:    c.yaml() + encryption,
		logbackName: logback,
	} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write Cassandra's configuration: %w", err)
		}
	}
	return nil
}

const (
	yamlName    = "cassandra.yaml"
	logbackName = "logback.xml"
)

// logback sends the log to standard output, which Start reads.
const logback = `<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level [%thread] %logger{0}: %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="out"/></root>
</configuration>
`

// yaml is written by hand: the file is flat, and what may hold any character (a path, an address)
// is quoted, which Go and YAML do alike.
func (c Config) yaml() string {
	var text strings.Builder
	set := func(key, value string) { fmt.Fprintf(&text, "%s: %s\n", key, value) }
	folder := func(name string) string { return strconv.Quote(filepath.Join(c.Dir, name)) }

	set("cluster_name", "parley")
	set("num_tokens", "1")
	set("partitioner", "org.apache.cassandra.dht.Murmur3Partitioner")
	set("endpoint_snitch", "SimpleSnitch")
	set("listen_address", strconv.Quote(c.Address))
	set("rpc_address", strconv.Quote(c.Address))
	set("start_native_transport", "true")
	set("native_transport_port", strconv.Itoa(c.Port))
	set("storage_port", strconv.Itoa(c.StoragePort))
	set("seed_provider", fmt.Sprintf("[{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{seeds: %q}]}]",
		strings.Join(c.Seeds, ",")))

	set("data_file_directories", "["+folder("data")+"]")
	set("commitlog_directory", folder("commitlog"))
	set("saved_caches_directory", folder("saved_caches"))
	set("hints_directory", folder("hints"))
	set("cdc_raw_directory", folder("cdc"))

	// A snapshot at each TRUNCATE and DROP would cost more than the statement.
	set("auto_snapshot", "false")
	// A laptop's disk is often fuller than a server's should be.
	set("data_disk_usage_percentage_warn_threshold", "-1")
	c.setCommitLog(set)
	c.setSize(set)
	if c.Credentials {
		set("authenticator", "PasswordAuthenticator")
		set("authorizer", "CassandraAuthorizer")
		set("role_manager", "CassandraRoleManager")
		// Changed passwords and grants are seen at once, not after a cache's two seconds.
		for _, cache := range []string{"roles", "permissions", "credentials"} {
			set(cache+"_validity", "100ms")
		}
	}
	return text.String()
}

// setCommitLog makes a durable node sync before it answers. The usual periodic mode does more
// than lose ten seconds in a power cut: a replay stops at the log's last marker, written every
// 100 ms, so that a mere kill of the process loses acknowledged writes. Where three replicas
// hold each row that is no loss; here one node must keep what it acknowledged.
func (c Config) setCommitLog(set func(key, value string)) {
	if c.Unsafe {
		set("commitlog_sync", "periodic")
		set("commitlog_sync_period", "3600000ms")
		set("periodic_commitlog_sync_lag_block", "3600000ms")
		return
	}
	set("commitlog_sync", "batch")
}

// setSize keeps it small on a machine that it shares with the rest.
func (c Config) setSize(set func(key, value string)) {
	set("commitlog_segment_size", "16MiB")
	set("commitlog_total_space", "512MiB")
	set("key_cache_size", "16MiB")
	set("counter_cache_size", "0MiB")
	set("file_cache_size", "64MiB")
	set("networking_cache_size", "32MiB")
	set("concurrent_compactors", "1")
	if c.Unsafe {
		set("concurrent_reads", "8")
		set("concurrent_writes", "8")
		set("concurrent_counter_writes", "2")
		set("memtable_flush_writers", "1")
		return
	}
	// A write holds its thread until it is synced (see setCommitLog): the default of 32 would
	// be all that shares a sync.
	set("concurrent_writes", "256")
}

// yaml gives client_encryption_options. Cassandra reads PEM through a factory of its own,
// which wants key and chain in one file, or inline as here: nothing more is written to disk
// than cassandra.yaml, which only its owner reads.
func (t *TLS) yaml() (string, error) {
	if t == nil {
		return "", nil
	}
	key, err := readPEM(t.KeyFile, "PRIVATE KEY")
	if err != nil {
		return "", err
	}
	chain, err := readPEM(t.CertificateFile, "CERTIFICATE")
	if err != nil {
		return "", err
	}
	trusted := chain
	if t.ClientCAFile != "" {
		if trusted, err = readPEM(t.ClientCAFile, "CERTIFICATE"); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf(`client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: %t
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
    parameters:
      private_key: %q
      trusted_certificates: %q
`, t.ClientCAFile != "", key+chain, trusted), nil
}

// readPEM gives the blocks of one kind in a file, and nothing else that is in it.
func readPEM(file, kind string) (string, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read %s for TLS: %w", strings.ToLower(kind), err)
	}
	var text strings.Builder
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != kind {
			continue
		}
		if kind == "CERTIFICATE" {
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return "", fmt.Errorf("read certificate in %s: %w", file, err)
			}
		}
		text.Write(pem.EncodeToMemory(block))
	}
	if text.Len() == 0 {
		return "", fmt.Errorf("read %s for TLS: no PEM block %q in it", file, kind)
	}
	return text.String(), nil
}
