package edge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"parley/schemas"
	"parley/streams"
)

// feed plays the log of a chat: it publishes live events that no stream stores.
type feed struct {
	t       testing.TB
	nc      *nats.Conn
	chat    schemas.Chat
	subject string // of the log
	seq     uint64
	body    string
}

func newFeed(t testing.TB, r *rig, chat string, bodyBytes int) *feed {
	c := testChat(t, chat)
	return &feed{t: t, nc: r.asEdge(t), chat: c, subject: r.env.Layout.Shard(c).Timeline(c), seq: 1 << 40, body: strings.Repeat("x", bodyBytes)}
}

// next publishes one event and returns the frame that every session gets of it.
func (f *feed) next() wireFrame {
	f.t.Helper()
	stored := streams.Stored{Seq: f.seq + 1, Prev: f.seq, Time: "2026-11-24T03:00:00Z"}
	f.seq++
	event := []byte(fmt.Sprintf(`{"type":"message","id":"m%d","from":"ann","body":{"kind":"text","text":%q}}`, f.seq, f.body))
	if err := f.nc.PublishMsg(&nats.Msg{
		Subject: streams.LiveTimeline(f.chat),
		Header: nats.Header{
			jetstream.SubjectHeader:      {f.subject},
			jetstream.SequenceHeader:     {strconv.FormatUint(stored.Seq, 10)},
			jetstream.LastSequenceHeader: {strconv.FormatUint(stored.Prev, 10)},
			jetstream.TimeStampHeaer:     {stored.Time},
		},
		Data: event,
	}); err != nil {
		f.t.Fatal(err)
	}
	return eventFrame(f.chat, stored, event)
}

// TestSlowSessionIsClosed floods two sessions of one user, of which one does not read.
func TestSlowSessionIsClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	f := newFeed(t, r, "direct.ann.bea", 50_000)
	slow := dialClient(t, r.edge(), smallBuffers())
	slow.hello(r.token(t, "bea"))
	eventually(t, "the slow session is there", func() bool { return r.edge().metric(t, "handshakes_total", "welcome") == 1 })
	var others []*client
	for range 4 { // on each fan-out loop
		others = append(others, r.join(t, r.edge(), "bea"))
	}
	closed := func() bool { return r.edge().metric(t, "closes_total", "4008") > 0 }
	for n := 0; !closed(); n++ {
		f.next()
		for _, c := range others { // each is on time, whatever the slow one does
			if g := c.next(); g.T != "event" || g.Seq != f.seq {
				t.Fatalf("got %v, want the event at %d", g, f.seq)
			}
		}
		if n > 2000 {
			t.Fatal("the slow session is never closed")
		}
	}
	for _, c := range others {
		c.quiet()
	}
	// It reads on at last: whole frames in order, and then the close, or the end where its time is over.
	go slow.readLoop()
	slow.await("welcome")
	last := uint64(0)
	for g := range slow.frames {
		if g.T != "event" || last > 0 && g.Seq != last+1 {
			t.Fatalf("the slow session got %v after %d", g, last)
		}
		last = g.Seq
	}
	<-slow.ended
	var closeErr *websocket.CloseError
	if errors.As(slow.err, &closeErr) && closeErr.Code != int(schemas.CloseSlow) && closeErr.Code != websocket.CloseAbnormalClosure {
		t.Errorf("the slow session ended with %v", slow.err)
	}
	if last >= f.seq {
		t.Error("the slow session got everything")
	}
	eventually(t, "the slow session is gone", func() bool { return r.edge().stats().Connections == int64(len(others)) })
}

// TestSlowReaderHearsWhy reads on as soon as the session was given up: the close frame comes.
func TestSlowReaderHearsWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	f := newFeed(t, r, "direct.ann.bea", 50_000)
	slow := dialClient(t, r.edge(), smallBuffers())
	slow.hello(r.token(t, "bea"))
	eventually(t, "the session is there", func() bool { return r.edge().metric(t, "handshakes_total", "welcome") == 1 })
	for r.edge().metric(t, "closes_total", "4008") == 0 {
		f.next()
	}
	go slow.readLoop()
	slow.closedWith(schemas.CloseSlow)
}

// TestBurstDoesNotCloseAReader: a session that reads is not slow, however much comes at once.
func TestBurstDoesNotCloseAReader(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	f := newFeed(t, r, "direct.ann.bea", 90_000)
	c := r.join(t, r.edge(), "bea")
	v := r.edge().lives.of("bea")
	held, goOn := make(chan struct{}), make(chan struct{})
	v.call(func() { close(held); <-goOn })
	<-held
	const burst = 24 // 2 MiB
	for range burst {
		f.next()
	}
	eventually(t, "the burst is there", func() bool { return len(v.channel) == burst })
	close(goOn)
	for n := range uint64(burst) {
		if g := c.next(); g.Seq != 1<<40+1+n {
			t.Fatalf("got %v", g)
		}
	}
	c.quiet()
}

// TestPartialWritesKeepFramesWhole reads byte for byte through a receive buffer
// that is far smaller than a frame, in odd portions.
func TestPartialWritesKeepFramesWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	f := newFeed(t, r, "direct.ann.bea", 70_000)
	slow := dialClient(t, r.edge(), smallBuffers())
	slow.hello(r.token(t, "bea"))
	raw := slow.conn.NetConn()
	welcome := readFrame(t, raw)
	if !bytes.Contains(welcome, []byte(`{"t":"welcome"`)) {
		t.Fatalf("got %q", welcome)
	}
	if err := r.sessionOf(t, "bea").conn.NetConn().(*net.TCPConn).SetWriteBuffer(4096); err != nil {
		t.Fatal(err)
	}
	const frames, waitingMax = 200, 600_000 // bytes: what is not read is below the bound
	var want []byte
	portion := make([]byte, 30_000)
	for wanted, n := 0, 0; wanted < frames || len(want) > 0; n++ {
		for wanted < frames && len(want) < waitingMax {
			f.body = strings.Repeat("x", 1+wanted*7919%90_000) // small frames behind large ones
			want = append(want, f.next()...)
			wanted++
		}
		got, err := raw.Read(portion[:1+n*977%len(portion)])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(want, portion[:got]) {
			t.Fatalf("after %d events, %d bytes are not those that were to come", wanted, got)
		}
		want = want[got:]
	}
	if n := r.edge().metric(t, "helper_writes_total", ""); n == 0 {
		t.Error("no write was left to a helper: the test shows nothing")
	}
}

// readFrame reads one unmasked frame, header included.
func readFrame(t testing.TB, r io.Reader) []byte {
	t.Helper()
	frame := make([]byte, 2)
	read := func(n int) []byte {
		part := make([]byte, n)
		if _, err := io.ReadFull(r, part); err != nil {
			t.Fatal(err)
		}
		frame = append(frame, part...)
		return part
	}
	if _, err := io.ReadFull(r, frame); err != nil {
		t.Fatal(err)
	}
	size := int(frame[1])
	switch size {
	case 126:
		size = int(binary.BigEndian.Uint16(read(2)))
	case 127:
		size = int(binary.BigEndian.Uint64(read(8)))
	}
	read(size)
	return frame
}
