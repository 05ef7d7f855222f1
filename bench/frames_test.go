package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// appendUnmasked appends a server's frame, written here anew as a check on the reader.
func appendUnmasked(b []byte, opcode byte, payload []byte) []byte {
	b = append(b, 0x80|opcode)
	switch {
	case len(payload) < 126:
		b = append(b, byte(len(payload)))
	case len(payload) < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(len(payload)))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(len(payload)))
	}
	return append(b, payload...)
}

func TestFrameReaderFindsEveryFrame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 300), rapid.SampledFrom([]int{125, 126, 127, 65535, 65536, 70000}))
		var stream []byte
		var want [][]byte
		for i, n := range rapid.SliceOfN(size, 1, 12).Draw(t, "sizes") {
			payload := bytes.Repeat([]byte{byte('a' + i)}, n)
			want = append(want, payload)
			stream = appendUnmasked(stream, opText, payload)
		}
		r := frameReader{
			src: rapid.SampledFrom([]io.Reader{
				bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream)), iotest.HalfReader(bytes.NewReader(stream)), iotest.DataErrReader(bytes.NewReader(stream)),
			}).Draw(t, "reader"),
			buf: make([]byte, rapid.IntRange(16, 4096).Draw(t, "buffer")),
		}
		for i, payload := range want {
			opcode, got, err := r.next()
			if err != nil || opcode != opText || !bytes.Equal(got, payload) {
				t.Fatalf("frame %d: opcode %d with %d bytes, error %v; want %d bytes", i, opcode, len(got), err, len(payload))
			}
		}
		if _, _, err := r.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last frame: %v, want EOF", err)
		}
	})
}

func TestMoreTellsWhetherNextWouldBlock(t *testing.T) {
	t.Parallel()
	two := appendUnmasked(appendUnmasked(nil, opText, []byte("one")), opText, []byte("two"))
	client, server := io.Pipe()
	r := frameReader{src: client, buf: make([]byte, 64)}
	go func() {
		server.Write(two[:len(two)-1])
		server.Write(two[len(two)-1:])
	}()
	if r.more() {
		t.Fatal("more before anything was read")
	}
	if _, payload, err := r.next(); err != nil || string(payload) != "one" {
		t.Fatalf("%q, %v", payload, err)
	}
	if r.more() {
		t.Fatal("more, though the second frame lacks a byte")
	}
	if _, payload, err := r.next(); err != nil || string(payload) != "two" {
		t.Fatalf("%q, %v", payload, err)
	}
}

func TestFrameReaderRefuses(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string][]byte{
		"masked":     appendMasked(nil, opText, []byte("x")),
		"fragmented": {opText, 1, 'x'},
		"extended":   {0xC0 | opText, 1, 'x'},
		"huge":       binary.BigEndian.AppendUint64([]byte{0x80 | opText, 127}, frameBytesMax+1),
		"cut":        {0x80 | opText, 5, 'x'},
	} {
		r := frameReader{src: bytes.NewReader(stream), buf: make([]byte, 64)}
		if opcode, payload, err := r.next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: opcode %d, %q, error %v", name, opcode, payload, err)
		}
	}
}

func TestWalkingFramesAllocatesNothing(t *testing.T) {
	var stream []byte
	for range 100 {
		stream = appendUnmasked(stream, opText, []byte(`{"t":"event","chat":"direct.a.b","seq":1099511627781,"prev":0}`))
	}
	src := bytes.NewReader(stream)
	r := frameReader{src: src, buf: make([]byte, 4096)}
	allocs := testing.AllocsPerRun(10, func() {
		src.Reset(stream)
		for range 100 {
			_, payload, err := r.next()
			if err != nil || kindOf(payload) != kindEvent {
				t.Fatal(err)
			}
			if _, ok := numberAfter(payload, seqName); !ok {
				t.Fatal("no seq")
			}
		}
	})
	if allocs != 0 {
		t.Fatalf("%.0f allocations for 100 frames", allocs)
	}
}

func BenchmarkWalkEvents(b *testing.B) {
	event := []byte(`{"t":"event","chat":"direct.bench-abc123-f1000.bench-abc123-m1000","seq":1099511627781,"prev":1099511627780,"time":"2026-11-24T03:00:00.123456789Z","event":{"type":"message","id":"000000000001f","from":"bench-abc123-f1000","body":{"kind":"text","text":"` + strings.Repeat("x", 64) + `"}}}`)
	var stream []byte
	for range 128 {
		stream = appendUnmasked(stream, opText, event)
	}
	src := bytes.NewReader(stream)
	s := &session{reader: frameReader{src: src, buf: make([]byte, busyBufferBytes)}}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n%128 == 0 {
			src.Reset(stream)
		}
		n++
		s.lastSeq = 0
		if _, _, err := s.next(); err != nil {
			b.Fatal(err)
		}
	}
}
