package streams

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// A server that does not answer is left after 60 s at most. The servers do
	// the same to clients (see nats.conf).
	clientPingInterval = 20 * time.Second
	clientPingsMax     = 2
	connectTimeout     = 5 * time.Second

	// syncQueueMax bounds what waits on one synchronous subscription: more than a
	// request for many answers brings, at most 1,024 and its end. The library
	// makes room for all of it at each request, 512 KiB by its default.
	syncQueueMax = 2048

	reconnectWaitMin = 100 * time.Millisecond
	reconnectWaitMax = 5 * time.Second
)

// ConnectConfig says who connects to NATS and where. The hooks may be nil; they
// are called one after the other on a goroutine of the connection and must not block.
type ConnectConfig struct {
	Component Component
	URLs      []string     // default: nats://127.0.0.1:4222
	Password  string       // of the component's user; default: none, where Secure has credentials
	Secure    Secure       // TLS and credentials; default: what the server asks for
	Name      string       // shown by `nats server report connections`; default: parley-<component>
	Log       *slog.Logger // default: slog.Default()

	OnDisconnect   func(error)
	OnReconnect    func()
	OnSlowConsumer func(*nats.Subscription) // messages for it were dropped
	OnError        func(*nats.Subscription, error)
}

// Connect connects once: a server that is away or refuses the password is an
// error, within 5 s for each URL. From then on the connection reconnects for ever by itself.
//
// While it is away, publishing fails at once: there is no reconnect buffer, since
// a process that was paused must not publish late what it had buffered.
func Connect(ctx context.Context, cfg ConnectConfig) (*nats.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(cfg.URLs) == 0 {
		cfg.URLs = []string{nats.DefaultURL}
	}
	if cfg.Name == "" {
		cfg.Name = "parley-" + string(cfg.Component)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	secure, err := cfg.Secure.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(strings.Join(cfg.URLs, ","), append(cfg.options(), secure...)...)
	if err != nil {
		return nil, cfg.connectError(err)
	}
	return nc, nil
}

func (cfg ConnectConfig) options() []nats.Option {
	log := cfg.Log.With("connection", cfg.Name)
	options := []nats.Option{
		nats.Name(cfg.Name),
		nats.CustomInboxPrefix(cfg.Component.InboxPrefix()),
		nats.Timeout(connectTimeout),
		nats.PingInterval(clientPingInterval),
		nats.MaxPingsOutstanding(clientPingsMax),
		nats.ReconnectBufSize(-1),
		nats.SyncQueueLen(syncQueueMax),
		nats.MaxReconnects(-1),
		// A server that restarts may refuse users for a moment: that is no reason to give up.
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(reconnectWait),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() {
				log.Warn("NATS connection lost, reconnecting", "err", err)
			}
			if cfg.OnDisconnect != nil {
				cfg.OnDisconnect(err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("NATS connection is back", "url", nc.ConnectedUrlRedacted(), "reconnects", nc.Stats().Reconnects)
			if cfg.OnReconnect != nil {
				cfg.OnReconnect()
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			cfg.asyncError(log, sub, err)
		}),
	}
	if cfg.Secure.Credentials == "" {
		options = append(options, nats.UserInfo(string(cfg.Component), cfg.Password))
	}
	return options
}

// connectError says what kept the first connection away, and what to do.
func (cfg ConnectConfig) connectError(err error) error {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	advice := "start the server there, or name another with --nats"
	switch {
	case cfg.Secure.Credentials != "" && isRefusal(err):
		advice = "it refuses the credentials in " + cfg.Secure.Credentials + ": get new ones from the operator of its account"
	case isRefusal(err):
		return fmt.Errorf("connect to NATS at %s: it refuses user %s: set %s to the password that the server was started with",
			strings.Join(cfg.URLs, ","), cfg.Component, cfg.Component.PasswordVariable())
	case errors.Is(err, nats.ErrSecureConnWanted):
		advice = "the server does not speak TLS: start it with --tls, or connect without --nats-ca, --nats-cert and tls://"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		advice = "the server's certificate is not valid at this time: renew it, or set this machine's clock"
	case errors.As(err, &name):
		advice = "the server's certificate is not for that name: use one of its names in --nats"
	case errors.As(err, &unknown) && cfg.Secure.CA == "":
		advice = "no CA of this system vouches for the server's certificate: name the one that does with --nats-ca"
	case errors.As(err, &unknown):
		advice = "the CA in " + cfg.Secure.CA + " does not vouch for the server's certificate: name the one that does with --nats-ca"
	case isEndedByServer(err) && cfg.Secure.Cert == "":
		advice = "the server asks for a certificate: set --nats-cert and --nats-key"
	case isEndedByServer(err):
		advice = "the server refuses the certificate in " + cfg.Secure.Cert + ": use one that its CA has signed, for clients"
	}
	return fmt.Errorf("connect to NATS at %s as %s: %w: %s", strings.Join(cfg.URLs, ","), cfg.Component, err, advice)
}

// isEndedByServer tells whether the server ended a connection whose own
// certificate was good: by an alert, or by closing it before the alert was read.
func isEndedByServer(err error) bool {
	var alert *net.OpError
	return errors.Is(err, nats.ErrTLS) || errors.As(err, &alert) && alert.Op == "remote error"
}

// isRefusal tells whether the server knows neither this password nor these credentials.
func isRefusal(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}

func (cfg ConnectConfig) asyncError(log *slog.Logger, sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		if sub != nil {
			log = log.With("subject", sub.Subject)
		}
		log.Warn("NATS messages dropped: the subscription's queue is full")
		if cfg.OnSlowConsumer != nil {
			cfg.OnSlowConsumer(sub)
		}
	case cfg.OnError != nil:
		cfg.OnError(sub, err)
	default:
		log.Error("NATS reports an error", "err", err)
	}
}

// reconnectWait doubles from round to round through the servers. Its jitter
// spreads the connections of many edges over the time after a server came back.
func reconnectWait(rounds int) time.Duration {
	wait := reconnectWaitMin << min(max(rounds-1, 0), 10)
	wait = min(wait, reconnectWaitMax)
	return wait/2 + rand.N(wait/2)
}
