package edge

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// flushWithin bounds one flush of the connection to NATS.
const flushWithin = 5 * time.Second

// flusher shares flushes between those who wait for one: a thousand handshakes
// in the same moment cost a few round trips, not a thousand.
type flusher struct {
	conn *nats.Conn
	asks chan chan error // unbuffered: an ask is taken only by a flush that begins after it
}

func newFlusher(conn *nats.Conn) *flusher {
	return &flusher{conn: conn, asks: make(chan chan error)}
}

// flush returns when the server has processed all that was sent before the call.
func (f *flusher) flush(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case f.asks <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *flusher) run(ctx context.Context) {
	for {
		var waiting []chan error
		select {
		case done := <-f.asks:
			waiting = append(waiting, done)
		case <-ctx.Done():
			return
		}
		for more := true; more; {
			select {
			case done := <-f.asks:
				waiting = append(waiting, done)
			default:
				more = false
			}
		}
		err := f.conn.FlushTimeout(flushWithin)
		for _, done := range waiting {
			done <- err
		}
	}
}
