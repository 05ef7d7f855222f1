package natsserver

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// serverLog brings the server's log into slog. Its notices, dozens at each
// start, are shown at debug level; warnings and errors always, but for those
// that every orderly start and stop has.
type serverLog struct {
	log *slog.Logger
	// changing is true while nodes start or stop.
	changing atomic.Bool
	// broken is true once a stream could not be written: the server then answers
	// no publish of it any more, not even when the disk has room again.
	broken atomic.Bool

	mu    sync.Mutex
	cause string // the first fatal message
}

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("NATS: " + fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) { l.print(slog.LevelWarn, format, v...) }

// Errorf looks for what a server tells nobody but its log. After that, each
// publish would be an error of its own.
func (l *serverLog) Errorf(format string, v ...any) {
	if l.broken.Load() && strings.HasPrefix(format, "JetStream failed to store a msg") {
		return
	}
	if strings.Contains(format, "critical write error") || strings.Contains(format, "will be DISABLED") {
		l.broken.Store(true)
	}
	l.print(slog.LevelError, format, v...)
}

func (l *serverLog) print(level slog.Level, format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	if l.changing.Load() && expected(message) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "NATS: "+message)
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

// expected tells the messages of every start and stop. Nodes that start together
// try their routes before the others listen and have no leader at first; those
// that stop together lose each other, and a leader that stops gives its streams away.
func expected(message string) bool {
	return slices.ContainsFunc([]string{
		"Plaintext passwords detected",
		"Error trying to connect to route",
		"Waiting for routing to be established",
		"JetStream has not established contact with a meta leader",
		"Metalayer blocking snapshot",
		"Failed to install snapshot",
		"Error flushing",
	}, func(text string) bool { return strings.Contains(message, text) })
}
