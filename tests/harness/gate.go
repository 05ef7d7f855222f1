//go:build unix

package harness

import (
	"net"
	"sync"
	"testing"
)

// Gate is a TCP proxy in front of NATS that can hold back what goes either way.
type Gate struct {
	Address  string
	ToNATS   Valve // from clients to NATS
	FromNATS Valve
}

// StartGate forwards to target until the test ends.
func StartGate(t testing.TB, target string) *Gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{Address: listener.Addr().String()}
	g.ToNATS.init()
	g.FromNATS.init()
	var open sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	open.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			open.Go(func() { g.ToNATS.forward(server, client) })
			open.Go(func() { g.FromNATS.forward(client, server) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		g.ToNATS.Open()
		g.FromNATS.Open()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		open.Wait()
	})
	return g
}

// Valve lets bytes through while it is open.
type Valve struct {
	mu      sync.Mutex
	changed *sync.Cond
	shut    bool
	held    int // bytes that were read while it was shut
}

func (v *Valve) init() { v.changed = sync.NewCond(&v.mu) }

// Close shuts the Valve.
func (v *Valve) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut, v.held = true, 0
}

// Open lets through what is held back, and all that follows.
func (v *Valve) Open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = false
	v.changed.Broadcast()
}

// HeldBytes tells how much a shut Valve holds back.
func (v *Valve) HeldBytes() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.held
}

// forward copies until either side ends, and then ends both.
func (v *Valve) forward(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		v.mu.Lock()
		if v.shut {
			v.held += n
		}
		for v.shut {
			v.changed.Wait()
		}
		v.mu.Unlock()
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}
