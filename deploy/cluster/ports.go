//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// portsFile in the data directory keeps the ports, since Cassandra and who looks
// on find each other by them again after a restart.
const portsFile = "ports.json"

// ports maps the parts' ports, like "nats-1" or "edge-1 admin", to free ones of
// the first start.
type ports map[string]int

// portNames are all ports but HAProxy's for clients.
var portNames = []string{
	"nats-1", "nats-1 route", "nats-1 monitor", "nats-2", "nats-2 route", "nats-2 monitor", "nats-3", "nats-3 route", "nats-3 monitor",
	"cassandra", "cassandra storage", "worker-1 admin", "worker-2 admin", "edge-1", "edge-1 admin", "edge-2", "edge-2 admin", "haproxy stats",
}

// loadOrChoosePorts returns the ports kept in dir, chosen at the first call.
func loadOrChoosePorts(dir string) (ports, error) {
	path := filepath.Join(dir, portsFile)
	kept := ports{}
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(text, &kept); err != nil {
			return nil, fmt.Errorf("read %s: %w: remove it to have new ports", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read ports: %w", err)
	}
	for _, name := range portNames {
		if kept[name] != 0 {
			continue
		}
		// Kept open until all are chosen, so that no two are the same.
		listener, err := listenFree()
		if err != nil {
			return nil, fmt.Errorf("choose a port for %s: %w", name, err)
		}
		defer listener.Close()
		kept[name] = listener.Addr().(*net.TCPAddr).Port
	}
	text, err = json.Marshal(kept, json.Deterministic(true), jsontext.WithIndent("  "))
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("keep ports: %w", err)
	}
	return kept, nil
}

// Ports are chosen below those that systems give to outgoing connections and to
// who asks for any: those would be taken again before the last part has started.
const (
	portMin   = 15000
	portMax   = 32000
	portTries = 1000
)

// listenFree listens at a random port, since another cluster may choose too.
func listenFree() (listener net.Listener, err error) {
	for range portTries {
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", portMin+rand.IntN(portMax-portMin))); err == nil {
			return listener, nil
		}
	}
	return nil, err
}

// address is host:port of a part.
func (p ports) address(name string) string { return fmt.Sprintf("127.0.0.1:%d", p[name]) }

func (p ports) text(name string) string { return fmt.Sprint(p[name]) }
