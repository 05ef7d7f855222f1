package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// WebSocket opcodes that a server may send.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

// frameBytesMax bounds a frame of the server: a page holds 512 KiB of events and what belongs to them.
const frameBytesMax = 2 << 20

// frameReader walks the frames of a server in a buffer that it reads into. A
// server's frames are not masked and, here, not fragmented.
type frameReader struct {
	src        io.Reader
	buf        []byte // grows to the largest frame, at most frameBytesMax
	start, end int    // of what was read and not walked
}

// next returns the next frame. Its payload is valid until the call after.
func (r *frameReader) next() (opcode byte, payload []byte, err error) {
	for {
		opcode, header, length, ok, err := r.peek()
		if err != nil {
			return 0, nil, err
		}
		if ok && r.end-r.start >= header+length {
			payload = r.buf[r.start+header : r.start+header+length]
			r.start += header + length
			return opcode, payload, nil
		}
		if err := r.fill(header + length); err != nil {
			return 0, nil, err
		}
	}
}

// more tells whether a whole frame waits in the buffer: next would not block.
func (r *frameReader) more() bool {
	_, header, length, ok, err := r.peek()
	return err != nil || ok && r.end-r.start >= header+length
}

// peek reads the header at start; ok is false while it is incomplete.
func (r *frameReader) peek() (opcode byte, header, length int, ok bool, err error) {
	b := r.buf[r.start:r.end]
	if len(b) < 2 {
		return 0, 0, 0, false, nil
	}
	if b[0]&0xF0 != 0x80 || b[1]&0x80 != 0 {
		return 0, 0, 0, false, fmt.Errorf("read frame: header %#x %#x is fragmented, masked or extended", b[0], b[1])
	}
	header, length = 2, int(b[1])
	switch length {
	case 126:
		if len(b) < 4 {
			return 0, 0, 0, false, nil
		}
		header, length = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if len(b) < 10 {
			return 0, 0, 0, false, nil
		}
		long := binary.BigEndian.Uint64(b[2:])
		if long > frameBytesMax {
			return 0, 0, 0, false, fmt.Errorf("read frame: it has %d bytes", long)
		}
		header, length = 10, int(long)
	}
	return b[0] & 0x0F, header, length, true, nil
}

// fill reads once, after making room for a frame of need bytes.
func (r *frameReader) fill(need int) error {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.start > 0 && (r.end == len(r.buf) || r.start+need > len(r.buf)) {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if need > len(r.buf) {
		grown := make([]byte, need)
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) && r.end > r.start {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendMasked appends a client's frame. The mask is zero: the server unmasks
// all the same, and a frame that was built once can be patched in place.
func appendMasked(b []byte, opcode byte, payload []byte) []byte {
	b = append(b, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}
