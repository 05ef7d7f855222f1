package edge

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

// sink is a fan-out loop without goroutines, whose sessions are real connections
// to clients that read and forget.
type sink struct {
	loop     *fanoutLoop
	sessions []*session
}

func newSink(t testing.TB, sessions int) *sink {
	t.Helper()
	k := &sink{loop: newFanoutLoop(0, newMetrics(prometheus.NewRegistry()), time.Minute, time.Hour, func(*session) {}, time.Now)}
	upgraded := make(chan *websocket.Conn, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{ReadBufferSize: readBufferBytes, WriteBufferPool: new(sync.Pool)}
		if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
			upgraded <- conn
		}
	}))
	t.Cleanup(server.Close)
	var readers sync.WaitGroup
	t.Cleanup(readers.Wait)
	for range sessions {
		client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
		if err != nil {
			t.Fatal(err)
		}
		conn := <-upgraded
		t.Cleanup(func() { client.Close(); conn.Close() })
		readers.Go(func() {
			buf := make([]byte, 16<<10)
			for {
				if _, err := client.NetConn().Read(buf); err != nil {
					return
				}
			}
		})
		s := &session{conn: conn, loop: k.loop}
		if s.raw, err = conn.NetConn().(*net.TCPConn).SyscallConn(); err != nil {
			t.Fatal(err)
		}
		s.out.welcomed = true
		k.loop.attach(s)
		k.sessions = append(k.sessions, s)
	}
	return k
}
