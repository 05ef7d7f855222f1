package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"parley/schemas"
)

var (
	authNow    = time.Date(2026, 11, 24, 3, 0, 0, 500_000_000, time.UTC)
	authSecret = []byte("0123456789abcdef0123456789abcdef")
)

func authUser(t testing.TB, name string) schemas.User {
	t.Helper()
	user, err := schemas.ParseUser(name)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func newAuth(t testing.TB, cfg Config) *Verifier {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return authNow }
	}
	a, err := NewVerifier(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func sign(t testing.TB, method jwt.SigningMethod, key any, kid string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func wantUser(t *testing.T, a *Verifier, token, user string) {
	t.Helper()
	identity, err := a.Verify(token)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	if identity.User.String() != user {
		t.Fatalf("user %q, want %q", identity.User, user)
	}
}

func wantRefused(t *testing.T, a *Verifier, token, sentence string) {
	t.Helper()
	identity, err := a.Verify(token)
	if err == nil {
		t.Fatalf("Verify took the token of %s", identity.User)
	}
	if err.Code != schemas.Unauthenticated || !strings.Contains(err.Message, sentence) {
		t.Fatalf("refused with %v, want %s: …%s…", err, schemas.Unauthenticated, sentence)
	}
	if identity != (Identity{}) {
		t.Fatalf("identity %v beside an error", identity)
	}
}

func TestMintedTokenIsVerified(t *testing.T) {
	t.Parallel()
	token, err := Mint(authSecret, authUser(t, "alice"), authNow, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	identity, refused := newAuth(t, Config{Secret: authSecret}).Verify(token)
	if refused != nil {
		t.Fatal(refused)
	}
	if want := authNow.Add(time.Hour).Truncate(time.Second); identity.User.String() != "alice" || !identity.Expires.Equal(want) {
		t.Fatalf("identity %v, want alice until %v", identity, want)
	}
}

func TestMintTokenRefuses(t *testing.T) {
	t.Parallel()
	for name, mint := range map[string]func() (string, error){
		"empty secret": func() (string, error) { return Mint(nil, authUser(t, "a"), authNow, time.Hour) },
		"no user":      func() (string, error) { return Mint(authSecret, schemas.User{}, authNow, time.Hour) },
		"short ttl":    func() (string, error) { return Mint(authSecret, authUser(t, "a"), authNow, time.Millisecond) },
	} {
		if token, err := mint(); err == nil {
			t.Errorf("%s: minted %s", name, token)
		}
	}
}

func TestVerifyClaims(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) int64 { return authNow.Truncate(time.Second).Add(d).Unix() }
	full := Config{Secret: authSecret, Audience: "chat", Issuer: "https://id.example"}
	claim := Config{Secret: authSecret, UserClaim: "uid"}
	for _, tc := range []struct {
		name   string
		cfg    Config
		claims jwt.MapClaims
		want   string // a sentence; empty: taken as alice
	}{
		{"plain", Config{}, jwt.MapClaims{"sub": "alice", "exp": at(time.Second)}, ""},
		{"exp is this second", Config{}, jwt.MapClaims{"sub": "alice", "exp": at(0)}, "expired at"},
		{"exp is forgiven nothing", Config{}, jwt.MapClaims{"sub": "alice", "exp": at(-time.Second)}, "expired at"},
		{"exp long over", Config{}, jwt.MapClaims{"sub": "alice", "exp": at(-time.Hour)}, "expired at"},
		{"exp has its fraction cut", Config{}, jwt.MapClaims{"sub": "alice", "exp": float64(at(0)) + 0.9}, "expired at"},
		{"no exp", Config{}, jwt.MapClaims{"sub": "alice"}, "has no exp"},
		{"exp null", Config{}, jwt.MapClaims{"sub": "alice", "exp": nil}, `"exp" is not a number`},
		{"exp text", Config{}, jwt.MapClaims{"sub": "alice", "exp": "2030"}, `"exp" is not a number`},
		{"exp huge", Config{}, jwt.MapClaims{"sub": "alice", "exp": 1e300}, "out of the range"},
		{"exp wrongly cased", Config{}, jwt.MapClaims{"sub": "alice", "EXP": at(time.Hour)}, "has no exp"},
		{"nbf within skew", Config{}, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "nbf": at(5 * time.Second)}, ""},
		{"nbf beyond skew", Config{}, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "nbf": at(6 * time.Second)}, "not valid before"},
		{"iat within skew", Config{}, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "iat": at(5 * time.Second)}, ""},
		{"iat beyond skew", Config{}, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "iat": at(6 * time.Second)}, "in the future"},
		{"no user", Config{}, jwt.MapClaims{"exp": at(time.Hour)}, "names no user"},
		{"user is a wildcard", Config{}, jwt.MapClaims{"sub": "a.*", "exp": at(time.Hour)}, "is not a user"},
		{"user is a number", Config{}, jwt.MapClaims{"sub": 7, "exp": at(time.Hour)}, `"sub" is not a string`},
		{"other claim", claim, jwt.MapClaims{"sub": "x", "uid": "alice", "exp": at(time.Hour)}, ""},
		{"other claim absent", claim, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour)}, `claim "uid" is absent`},
		{"other claim a list", claim, jwt.MapClaims{"uid": []string{"alice"}, "exp": at(time.Hour)}, `"uid" is not a string`},
		{"audience and issuer", full, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "aud": "chat", "iss": "https://id.example"}, ""},
		{"one of many audiences", full, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "aud": []string{"a", "chat"}, "iss": "https://id.example"}, ""},
		{"other audience", full, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "aud": "mail", "iss": "https://id.example"}, "another audience"},
		{"no audience", full, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "iss": "https://id.example"}, "lacks a claim"},
		{"other issuer", full, jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "aud": "chat", "iss": "https://evil.example"}, "another issuer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.cfg.Secret = authSecret
			a := newAuth(t, tc.cfg)
			token := sign(t, jwt.SigningMethodHS256, authSecret, "", tc.claims)
			if tc.want == "" {
				wantUser(t, a, token, "alice")
			} else {
				wantRefused(t, a, token, tc.want)
			}
		})
	}
}

func TestVerifyRefusesForgedTokens(t *testing.T) {
	t.Parallel()
	claims := jwt.MapClaims{"sub": "alice", "exp": authNow.Add(time.Hour).Unix()}
	good := sign(t, jwt.SigningMethodHS256, authSecret, "", claims)
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	segment := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	a := newAuth(t, Config{Secret: authSecret})
	for name, tc := range map[string]struct{ token, want string }{
		"empty":          {"", "no token"},
		"too long":       {strings.Repeat("a", schemas.JWTBytesMax+1), "at most 8192"},
		"no JWT":         {"hello", "not a JWT"},
		"four parts":     {good + ".x", "not a JWT"},
		"other secret":   {sign(t, jwt.SigningMethodHS256, []byte("another"), "", claims), "signature is wrong"},
		"no signature":   {head + "." + body + ".", "signature is wrong"},
		"other claims":   {head + "." + segment(`{"sub":"bob","exp":99999999999}`) + "." + signature, "signature is wrong"},
		"claims doubled": {head + "." + segment(`{"sub":"bob","sub":"eve","exp":99999999999}`) + "." + signature, "not a JWT"},
		"claims no JSON": {head + "." + segment(`[]`) + "." + signature, "not a JWT"},
		"alg none":       {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", claims), "algorithm"},
		"alg HS512":      {sign(t, jwt.SigningMethodHS512, authSecret, "", claims), "algorithm"},
		"alg unknown":    {segment(`{"alg":"XX1"}`) + "." + body + "." + signature, "does not take"},
		"alg absent":     {segment(`{}`) + "." + body + "." + signature, "does not take"},
		"alg of a JWKS":  {sign(t, jwt.SigningMethodEdDSA, newEd25519(t), "", claims), "algorithm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, a, tc.token, tc.want)
		})
	}
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keyServer serves a JWKS that a test may change, and counts its readers.
type keyServer struct {
	*httptest.Server
	body  atomic.Pointer[string]
	reads atomic.Int64
}

func newKeyServer(t *testing.T, keys ...string) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.serve(keys...)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.reads.Add(1)
		fmt.Fprint(w, *s.body.Load())
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) serve(keys ...string) {
	body := `{"keys":[` + strings.Join(keys, ",") + `]}`
	s.body.Store(&body)
}

func jwk(t *testing.T, kid string, public crypto.PublicKey) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	switch key := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","kid":%q,"alg":"RS256","use":"sig","n":%q,"e":%q}`, kid, b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes()))
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 4, then x and y of 32 bytes each
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"x":%q,"y":%q}`, kid, b64(point[1:33]), b64(point[33:]))
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, kid, b64(key))
	}
	t.Fatalf("no JWK for a %T", public)
	return ""
}

func TestJWKSVerifiesItsAlgorithms(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edKey := newEd25519(t)
	server := newKeyServer(t,
		`{"kty":"OKP","crv":"Ed448","kid":"new","x":"AAAA"}`, // not known here: passed over
		jwk(t, "r", rsaKey.Public()), jwk(t, "e", ecKey.Public()), jwk(t, "d", edKey.Public()))
	a := newAuth(t, Config{JWKSURL: server.URL})
	claims := jwt.MapClaims{"sub": "alice", "exp": authNow.Add(time.Hour).Unix()}

	wantUser(t, a, sign(t, jwt.SigningMethodRS256, rsaKey, "r", claims), "alice")
	wantUser(t, a, sign(t, jwt.SigningMethodES256, ecKey, "e", claims), "alice")
	wantUser(t, a, sign(t, jwt.SigningMethodEdDSA, edKey, "d", claims), "alice")
	wantUser(t, a, sign(t, jwt.SigningMethodES256, ecKey, "", claims), "alice")

	wantRefused(t, a, sign(t, jwt.SigningMethodRS512, rsaKey, "r", claims), "algorithm")
	wantRefused(t, a, sign(t, jwt.SigningMethodEdDSA, newEd25519(t), "d", claims), "signature is wrong")
	wantRefused(t, a, sign(t, jwt.SigningMethodES256, ecKey, "d", claims), "signature is wrong")
	// A public key is no secret: with it as the key of HS256 anybody could sign.
	der, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	wantRefused(t, a, sign(t, jwt.SigningMethodHS256, public, "r", claims), "algorithm")
	wantRefused(t, a, sign(t, jwt.SigningMethodHS256, authSecret, "r", claims), "algorithm")
}

func TestSecretAndJWKSTogether(t *testing.T) {
	t.Parallel()
	key := newEd25519(t)
	a := newAuth(t, Config{Secret: authSecret, JWKSURL: newKeyServer(t, jwk(t, "d", key.Public())).URL})
	claims := jwt.MapClaims{"sub": "alice", "exp": authNow.Add(time.Hour).Unix()}
	wantUser(t, a, sign(t, jwt.SigningMethodHS256, authSecret, "", claims), "alice")
	wantUser(t, a, sign(t, jwt.SigningMethodEdDSA, key, "d", claims), "alice")
	wantRefused(t, a, sign(t, jwt.SigningMethodHS256, []byte(key.Public().(ed25519.PublicKey)), "d", claims), "signature is wrong")
}

func TestJWKSRotationIsReadAndRateLimited(t *testing.T) {
	t.Parallel()
	first, second, third := newEd25519(t), newEd25519(t), newEd25519(t)
	server := newKeyServer(t, jwk(t, "1", first.Public()))
	now := authNow
	a := newAuth(t, Config{JWKSURL: server.URL, Now: func() time.Time { return now }})
	claims := jwt.MapClaims{"sub": "alice", "exp": authNow.Add(time.Hour).Unix()}
	wantReads := func(want int64) {
		t.Helper()
		if got := server.reads.Load(); got != want {
			t.Fatalf("JWKS read %d times, want %d", got, want)
		}
	}
	wantUser(t, a, sign(t, jwt.SigningMethodEdDSA, first, "1", claims), "alice")
	wantReads(1)

	server.serve(jwk(t, "2", second.Public()))
	now = now.Add(jwksUnknownEvery)
	wantUser(t, a, sign(t, jwt.SigningMethodEdDSA, second, "2", claims), "alice")
	wantReads(2)
	wantRefused(t, a, sign(t, jwt.SigningMethodEdDSA, first, "1", claims), `key "1", which is not known`)
	wantReads(2)

	server.serve(`{"kty":"broken"}`)
	now = now.Add(jwksUnknownEvery)
	wantRefused(t, a, sign(t, jwt.SigningMethodEdDSA, third, "3", claims), `key "3", which is not known`)
	wantReads(3)
	wantUser(t, a, sign(t, jwt.SigningMethodEdDSA, second, "2", claims), "alice") // a broken answer takes no key away
}

func TestNewAuthenticatorRefuses(t *testing.T) {
	t.Parallel()
	if _, err := NewVerifier(t.Context(), Config{}); err == nil {
		t.Error("without secret and JWKS: no error")
	}
	teapot := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(teapot.Close)
	for name, tc := range map[string]struct{ url, want string }{
		"no key": {newKeyServer(t).URL, "none of its 0 keys"},
		"no set": {newKeyServer(t, "nonsense").URL, "decode key set"},
		"error":  {teapot.URL, "418"},
		"no url": {"://x", "://x"},
	} {
		if _, err := NewVerifier(t.Context(), Config{JWKSURL: tc.url}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want …%s…", name, err, tc.want)
		}
	}
}

func TestSilentJWKSEndsTheWait(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := NewVerifier(ctx, Config{JWKSURL: server.URL}); err == nil || !strings.Contains(err.Error(), server.URL) {
		t.Fatalf("error %v, want one that names %s", err, server.URL)
	}
}

func TestCloseEndsTheRefresh(t *testing.T) {
	server := newKeyServer(t, jwk(t, "d", newEd25519(t).Public()))
	running := goleak.IgnoreCurrent()
	a, err := NewVerifier(t.Context(), Config{JWKSURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	goleak.VerifyNone(t, running)
}

func BenchmarkVerifyHS256(b *testing.B) {
	a := newAuth(b, Config{Secret: authSecret})
	token, err := Mint(authSecret, authUser(b, "alice"), authNow, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
}
