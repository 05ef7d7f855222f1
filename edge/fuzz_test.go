package edge

import (
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"parley/schemas"
)

// serverTypes are the frames that a session may get.
var serverTypes = []string{"welcome", "resumed", "resync", "renewed", "pong", "ack", "event", "page", "typing", "done", "error"}

// FuzzFrames says anything in a session: it is answered, or closed with a documented code.
func FuzzFrames(f *testing.F) {
	for _, bad := range badFrames {
		f.Add([]byte(bad.frame), bad.binary)
	}
	for _, frame := range []string{
		`{"t":"ping"}`, sendFrame(1, "m1", "direct.ann.bea", "hi"), sendFrame(1, "m2", "direct.ann.ann", "hi", `,"retry":true`),
		`{"t":"typing","chat":"direct.ann.bea"}`, `{"t":"renew","ref":1,"token":"x"}`, `{"t":"hello","token":"x","resume":{}}`,
		`{"t":"history","ref":1,"chat":"direct.ann.bea","limit":1}`, "{\"t\":\"\\u0070ing\"}", `{"t":"ping","ref":1e3}`,
	} {
		f.Add([]byte(frame), false)
	}
	r := newRig(f, nil)
	f.Fuzz(func(t *testing.T, frame []byte, binary bool) {
		c := r.join(t, r.edge(), "ann")
		kind := websocket.TextMessage
		if binary {
			kind = websocket.BinaryMessage
		}
		if err := c.write(kind, string(frame)); err != nil {
			t.Fatal(err)
		}
		if len(frame) > schemas.FrameBytesMax {
			c.closedWith(schemas.CloseTooLarge)
			return
		}
		for _, g := range c.barrier() {
			if !slices.Contains(serverTypes, g.T) {
				t.Errorf("%q was answered with %v", frame, g)
			}
			if g.T == "error" && (g.Message == "" || !slices.Contains(schemas.Codes(), g.Code)) {
				t.Errorf("%q was answered with %v", frame, g)
			}
		}
		c.hangUp()
	})
}

// FuzzWire writes anything below the WebSocket layer, before the hello or after
// it: the connection ends with it, and the edge serves on.
func FuzzWire(f *testing.F) {
	masked := func(first byte, payload string) []byte {
		frame := []byte{first, 0x80 | byte(len(payload)), 1, 2, 3, 4}
		for i := range len(payload) {
			frame = append(frame, payload[i]^byte(1+i%4))
		}
		return frame
	}
	ping := `{"t":"ping"}`
	for _, wire := range [][]byte{
		nil,
		masked(0x81, ping),
		append(masked(0x01, ping[:5]), masked(0x80, ping[5:])...),
		append(masked(0x01, ping[:5]), append(masked(0x89, "ping between"), masked(0x80, ping[5:])...)...),
		masked(0x80, ping), // a continuation of nothing
		append(masked(0x01, "{"), masked(0x81, ping)...), // a new message inside another
		masked(0xC1, ping),                                           // a reserved bit
		masked(0x83, ping),                                           // a reserved opcode
		masked(0x09, "fragmented ping"),                              // not final
		masked(0x88, "\x03\xe8bye"),                                  // a close
		masked(0x88, "\x03"),                                         // half a close code
		masked(0x88, "\x00\x00"),                                     // a code that is none
		masked(0x88, "\x03\xe8\xff"),                                 // a reason that is not UTF-8
		masked(0x8A, "a pong for nothing"),                           // unasked
		{0x81, 0x05, 'h', 'e', 'l', 'l', 'o'},                        // not masked
		{0x81, 0xFE, 0xFF, 0xFF},                                     // ends in its header
		{0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, // 2^64 - 1 bytes
		{0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 'x'},
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		f.Add(wire, true)
		f.Add(wire, false)
	}
	r := newRig(f, nil)
	f.Fuzz(func(t *testing.T, wire []byte, hello bool) {
		c := dialClient(t, r.edge(), websocket.Dialer{})
		if hello {
			c.hello(r.token(t, "ann"))
			if _, _, err := c.conn.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		raw := c.conn.NetConn()
		_ = raw.SetDeadline(time.Now().Add(failAfter))
		_, _ = raw.Write(wire) // the edge may have hung up
		if tcp, ok := raw.(interface{ CloseWrite() error }); ok {
			_ = tcp.CloseWrite()
		}
		if _, err := io.Copy(io.Discard, raw); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%q: the connection does not end", wire)
		}
		witness := r.join(t, r.edge(), "bea")
		witness.quiet()
		witness.hangUp()
	})
}
