package natsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"parley/streams"
)

// AccountName is the account of nats.conf in which all of Parley lives.
const AccountName = "PARLEY"

var errRoutePortTaken = errors.New("a port for the cluster's routes was taken meanwhile")

// node is one nats-server of a [Server], which guards it with its mutex.
type node struct {
	name, dir string
	host      string
	port      int // RANDOM_PORT until the first start found one
	cfg       *Config

	// of a cluster only
	routePort   int
	routePorts  []int
	routeSecret string

	srv *server.Server // nil while stopped
	log *serverLog     // of srv

	broken    bool      // it is to be revived: see watchLoop
	revivedAt time.Time // the last try
}

func (n *node) address() string { return net.JoinHostPort(n.host, strconv.Itoa(n.port)) }

// start returns when the node accepts connections. Where it fails the node is stopped again.
func (n *node) start(ctx context.Context) error {
	if err := checkDir(n.dir); err != nil {
		return err
	}
	opts, err := n.options()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("%s: %w: correct nats.conf", n.name, err)
	}
	n.log = &serverLog{log: n.cfg.Log.With("node", n.name)}
	n.log.changing.Store(true)
	srv.SetLoggerV2(n.log, false, false, false)
	srv.Start()
	n.srv = srv
	if err := n.waitListening(ctx); err != nil {
		n.stop()
		return err
	}
	if tcp, ok := srv.Addr().(*net.TCPAddr); ok {
		n.port = tcp.Port
	}
	if n.routePort == 0 {
		if err := n.checkRecovered(); err != nil {
			n.stop()
			return err
		}
	}
	return nil
}

func (n *node) options() (*server.Options, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString(n.definePasswords() + n.cfg.Conf); err != nil {
		return nil, fmt.Errorf("read nats.conf: %w", err)
	}
	opts.NoSigs = true // signals are the program's
	opts.ServerName = n.name
	opts.Host, opts.Port = n.host, n.port
	opts.StoreDir = n.dir
	if n.routePort != 0 {
		opts.Cluster = server.ClusterOpts{
			Name: "parley", Host: "127.0.0.1", Port: n.routePort,
			Username: "routes", Password: n.routeSecret,
		}
		for _, port := range n.routePorts {
			opts.Routes = append(opts.Routes, &url.URL{
				Scheme: "nats", User: url.UserPassword("routes", n.routeSecret),
				Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			})
		}
	}
	return opts, nil
}

// definePasswords returns what nats.conf otherwise takes from the environment.
// It is all on the conf's first line: so the line numbers in messages stay right.
func (n *node) definePasswords() string {
	var text strings.Builder
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for _, c := range streams.Components() {
		fmt.Fprintf(&text, `%s: "%s"; `, c.PasswordVariable(), escape.Replace(n.cfg.Passwords.Of(c)))
	}
	return text.String()
}

func (n *node) waitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for ctx.Err() == nil {
		if fatal := n.log.fatal(); fatal != "" {
			return n.startError(fatal)
		}
		if n.srv.ReadyForConnections(readyPoll) {
			return nil
		}
	}
	return fmt.Errorf("%s does not accept connections: %w", n.name, context.Cause(ctx))
}

// startError turns what the server says as it gives up into a sentence that says what to do.
func (n *node) startError(fatal string) error {
	switch {
	case strings.Contains(fatal, "router port"):
		return fmt.Errorf("%s: %w: %s", n.name, errRoutePortTaken, fatal)
	case strings.Contains(fatal, "listening on port"):
		return listenError(n.address(), fatal)
	default:
		return fmt.Errorf("%s: %s: the data is in %s: make it readable, restore it from a backup, or choose another data directory",
			n.name, strings.TrimSuffix(fatal, "."), n.dir)
	}
}

// checkRecovered compares the streams on the disk with those that the server
// opened. A server alone leaves out a stream whose files it cannot read, and
// then one of that name could be made anew over them.
func (n *node) checkRecovered() error {
	dir := filepath.Join(n.dir, server.JetStreamStoreDir, AccountName, "streams")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read streams: %w: make the data directory readable, or choose another", err)
	}
	info, err := n.srv.Jsz(&server.JSzOptions{Account: AccountName, Streams: true})
	if err != nil {
		return fmt.Errorf("%s: list streams: %w", n.name, err)
	}
	opened := make(map[string]bool)
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			opened[stream.Name] = true
		}
	}
	for _, entry := range entries {
		if entry.IsDir() && !opened[entry.Name()] {
			return fmt.Errorf("%s cannot open stream %s: its files in %s are damaged or of a newer version: restore them from a backup, or choose another data directory",
				n.name, entry.Name(), filepath.Join(dir, entry.Name()))
		}
	}
	return nil
}

func (n *node) stop() {
	if n.srv == nil {
		return
	}
	n.log.changing.Store(true)
	n.srv.Shutdown()
	n.srv.WaitForShutdown()
	n.srv = nil
}
