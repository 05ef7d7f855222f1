package streams

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// serverLog brings the server's log into slog. Its notices, dozens at each
// start, are shown at debug level; warnings and errors always.
type serverLog struct {
	log *slog.Logger
	// starting is true until the server is ready.
	starting atomic.Bool

	mu    sync.Mutex
	cause string // the first fatal message
}

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("NATS: " + fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn("NATS: " + fmt.Sprintf(format, v...))
}

// Errorf leaves out one error: nodes of a cluster that start together try their
// routes before the others listen.
func (l *serverLog) Errorf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	if l.starting.Load() && strings.HasPrefix(message, "Error trying to connect to route") {
		l.log.Debug("NATS: " + message)
		return
	}
	l.log.Error("NATS: " + message)
}

// Fatalf keeps the message for the error that the start returns. A server that
// is told no to exit goes on without what it could not start.
func (l *serverLog) Fatalf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	l.log.Debug("NATS gives up: " + message)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == "" {
		l.cause = message
	}
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}

func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}
