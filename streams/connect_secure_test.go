package streams_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"parley/streams"
	"parley/streams/streamstest"
	"parley/tests/certs"
)

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startNATS starts a server from conf, as nats-server -c does, and returns its host and port.
func startNATS(t *testing.T, conf string) string {
	t.Helper()
	for _, c := range []streams.Component{edge, worker, operator, service, streams.AdminComponent} {
		conf = strings.ReplaceAll(conf, "$"+c.PasswordVariable(), streamstest.Passwords().Of(c))
	}
	options := &server.Options{}
	if err := options.ProcessConfigString(conf); err != nil {
		t.Fatal(err)
	}
	options.Host, options.Port, options.StoreDir, options.NoSigs, options.NoLog = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true, true
	srv, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not accept connections")
	}
	return srv.Addr().String()
}

// startTLS starts Parley's server with a certificate that ends at end. With
// verify it wants its clients to have one of the same authority.
func startTLS(t *testing.T, a *certs.Authority, end time.Time, verify bool) string {
	t.Helper()
	cert, key := a.Sign(t, "server", end)
	block := fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: %v }\n", cert, key, a.File(), verify)
	return startNATS(t, block+streamstest.Conf(t))
}

func connectSecure(url string, secure streams.Secure) error {
	nc, err := streams.Connect(context.Background(), streams.ConnectConfig{
		Component: edge, URLs: []string{url}, Password: "edge-secret", Secure: secure, Log: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		defer nc.Close()
		err = nc.Flush()
	}
	return err
}

func TestConnectionsAreSecured(t *testing.T) {
	t.Parallel()
	tomorrow, yesterday := time.Now().Add(24*time.Hour), time.Now().Add(-24*time.Hour)
	ours, others := certs.NewAuthority(t, "ours"), certs.NewAuthority(t, "others")
	plain := startNATS(t, streamstest.Conf(t))
	open, verifying, expired := startTLS(t, ours, tomorrow, false), startTLS(t, ours, tomorrow, true), startTLS(t, ours, yesterday, false)
	cert, key := ours.Sign(t, "client", tomorrow)
	oldCert, oldKey := ours.Sign(t, "old", yesterday)
	strangeCert, strangeKey := others.Sign(t, "strange", tomorrow)
	missing, empty := filepath.Join(t.TempDir(), "missing.pem"), writeFile(t, filepath.Join(t.TempDir(), "empty.pem"), "nothing\n")
	_, port, _ := net.SplitHostPort(open)
	for _, test := range []struct {
		name   string
		url    string
		secure streams.Secure
		says   []string // of the error; none: it connects
	}{
		{"TLS", "tls://" + open, streams.Secure{CA: ours.File()}, nil},
		{"a server that requires TLS is given it", "nats://" + open, streams.Secure{CA: ours.File()}, nil},
		{"both ends have certificates", "tls://" + verifying, streams.Secure{CA: ours.File(), Cert: cert, Key: key}, nil},
		{"a certificate that nobody asks for", "tls://" + open, streams.Secure{CA: ours.File(), Cert: cert, Key: key}, nil},

		{"no CA", "nats://" + open, streams.Secure{}, []string{"--nats-ca", "vouches"}},
		{"wrong CA", "tls://" + open, streams.Secure{CA: others.File()}, []string{others.File(), "--nats-ca"}},
		{"CA is missing", "tls://" + open, streams.Secure{CA: missing}, []string{missing, "--nats-ca"}},
		{"CA is empty", "tls://" + open, streams.Secure{CA: empty}, []string{empty, "PEM"}},
		{"another name", "tls://localhost:" + port, streams.Secure{CA: ours.File()}, []string{"localhost", "names in --nats"}},
		{"server's certificate is expired", "tls://" + expired, streams.Secure{CA: ours.File()}, []string{"expired", "renew"}},
		{"server without TLS", "tls://" + plain, streams.Secure{}, []string{"does not speak TLS", "--tls"}},
		{"server without TLS and a CA", "nats://" + plain, streams.Secure{CA: ours.File()}, []string{"does not speak TLS", "--nats-ca"}},

		{"no certificate", "tls://" + verifying, streams.Secure{CA: ours.File()}, []string{"--nats-cert", "--nats-key"}},
		{"certificate of others", "tls://" + verifying, streams.Secure{CA: ours.File(), Cert: strangeCert, Key: strangeKey}, []string{strangeCert, "refuses"}},
		{"certificate is expired", "tls://" + verifying, streams.Secure{CA: ours.File(), Cert: oldCert, Key: oldKey}, []string{oldCert, "expired", "renew"}},
		{"certificate is missing", "tls://" + verifying, streams.Secure{CA: ours.File(), Cert: missing, Key: key}, []string{missing, "--nats-cert"}},
		{"key of another certificate", "tls://" + verifying, streams.Secure{CA: ours.File(), Cert: cert, Key: oldKey}, []string{oldKey, "--nats-key"}},
		{"certificate without a key", "tls://" + verifying, streams.Secure{CA: ours.File(), Cert: cert}, []string{"--nats-cert and --nats-key"}},
		{"credentials are missing", "tls://" + open, streams.Secure{CA: ours.File(), Credentials: missing}, []string{missing, "--nats-creds"}},
		{"credentials are none", "tls://" + open, streams.Secure{CA: ours.File(), Credentials: empty}, []string{empty, ".creds"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantSaid(t, connectSecure(test.url, test.secure), test.says)
		})
	}
}

func wantSaid(t *testing.T, err error, says []string) {
	t.Helper()
	if (err != nil) != (len(says) > 0) {
		t.Fatalf("connected with: %v", err)
	}
	for _, sentence := range says {
		if !strings.Contains(err.Error(), sentence) {
			t.Errorf("error %q does not say %q", err, sentence)
		}
	}
}

func TestRefusedPasswordNamesItsVariable(t *testing.T) {
	t.Parallel()
	ours := certs.NewAuthority(t, "ours")
	address := startTLS(t, ours, time.Now().Add(time.Hour), false)
	_, err := streams.Connect(t.Context(), streams.ConnectConfig{
		Component: worker, URLs: []string{"tls://" + address}, Password: "wrong", Secure: streams.Secure{CA: ours.File()}, Log: slog.New(slog.DiscardHandler),
	})
	wantSaid(t, err, []string{"user worker", "PARLEY_NATS_WORKER_PASSWORD"})
}

// operatorMode is a server whose users are known by signed credentials.
type operatorMode struct {
	address string
	account nkeys.KeyPair
}

func startOperatorMode(t *testing.T) *operatorMode {
	t.Helper()
	operator, operatorKey := newNKey(t, nkeys.CreateOperator)
	account, accountKey := newNKey(t, nkeys.CreateAccount)
	operatorClaims, accountClaims := jwt.NewOperatorClaims(operatorKey), jwt.NewAccountClaims(accountKey)
	operatorJWT, err := operatorClaims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	accountJWT, err := accountClaims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("operator: %q\nresolver: MEMORY\nresolver_preload: { %s: %q }\n", operatorJWT, accountKey, accountJWT)
	return &operatorMode{startNATS(t, conf), account}
}

func newNKey(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// credentials writes a .creds file that is valid until end.
func (o *operatorMode) credentials(t *testing.T, end time.Time) string {
	t.Helper()
	user, userKey := newNKey(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(userKey)
	claims.Expires = end.Unix()
	signed, err := claims.Encode(o.account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.FormatUserConfig(signed, seed)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "edge.creds"), string(text))
}

func TestCredentialsTakeThePlaceOfThePassword(t *testing.T) {
	t.Parallel()
	o, other := startOperatorMode(t), startOperatorMode(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	if err := connectSecure("nats://"+o.address, streams.Secure{Credentials: o.credentials(t, tomorrow)}); err != nil {
		t.Error(err)
	}
	for _, refused := range []string{other.credentials(t, tomorrow), o.credentials(t, time.Now().Add(-time.Hour))} {
		wantSaid(t, connectSecure("nats://"+o.address, streams.Secure{Credentials: refused}), []string{"refuses the credentials", refused})
	}
}
