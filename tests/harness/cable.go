//go:build unix

package harness

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// Cable is a TCP proxy in front of NATS that can be cut, and that can let a client
// say one thing more and hear nothing of what comes of it.
type Cable struct {
	Address string
	target  string
	open    sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	cut     bool
	wire    []byte        // what a client must not say; nil: it may say all
	tripped chan struct{} // closed when it has said that; nothing comes back from then on
}

// StartCable forwards to target until the test ends.
func StartCable(t testing.TB, target string) *Cable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cable{Address: listener.Addr().String(), target: target, conns: map[net.Conn]struct{}{}, tripped: make(chan struct{})}
	c.open.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			c.connect(client)
		}
	})
	t.Cleanup(func() {
		listener.Close()
		c.SetCut(true)
		c.open.Wait()
	})
	return c
}

func (c *Cable) connect(client net.Conn) {
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		client.Close()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		client.Close()
		server.Close()
		return
	}
	c.conns[client], c.conns[server] = struct{}{}, struct{}{}
	c.open.Go(func() { c.forward(server, client, true) })
	c.open.Go(func() { c.forward(client, server, false) })
}

// SetCut ends all connections and takes no others, or takes them again.
func (c *Cable) SetCut(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut = cut; cut {
		for conn := range c.conns {
			conn.Close()
		}
	}
}

// Trip has the next publication on a subject that begins so go through, and
// nothing come back after it. The returned channel is closed when that was.
func (c *Cable) Trip(subject string) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wire = []byte("PUB " + subject) // of HPUB too
	return c.tripped
}

// forward copies until either side ends, and then ends both.
func (c *Cable) forward(to, from net.Conn, toNATS bool) {
	defer func() {
		to.Close()
		from.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.conns, from)
	}()
	buffer := make([]byte, 64<<10)
	var said []byte // what came before, as far as the wire may begin in it
	for {
		n, err := from.Read(buffer)
		if toNATS {
			said = append(said, buffer[:n]...)
			said = c.watch(said)
		} else if c.isTripped() {
			n = 0 // lost on the way
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func (c *Cable) watch(said []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wire == nil {
		return said[:0]
	}
	if bytes.Contains(said, c.wire) {
		c.wire = nil
		close(c.tripped)
		return said[:0]
	}
	return append(said[:0], said[max(0, len(said)-len(c.wire)+1):]...)
}

func (c *Cable) isTripped() bool {
	select {
	case <-c.tripped:
		return true
	default:
		return false
	}
}
