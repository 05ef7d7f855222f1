// Package auth verifies the tokens of clients, and mints them for development.
//
// A [Verifier] accepts JWTs that are signed with a shared secret (HS256), or with a
// key from a JWKS URL (RS256, ES256, EdDSA). The package opens no connection to NATS.
package auth

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/schemas"
)

// clockSkew is forgiven on iat and nbf, never on exp: a session ends when its token says.
const clockSkew = 5 * time.Second

// Identity is what a verified token says.
type Identity struct {
	User    schemas.User
	Expires time.Time // in whole seconds
}

// Config says which tokens a [Verifier] takes. Secret and JWKSURL may
// both be set: the token's algorithm tells which one it is checked with.
type Config struct {
	Secret    []byte           // key of HS256; default: HS256 is refused
	JWKSURL   string           // where the keys of RS256, ES256 and EdDSA are; default: these are refused
	Audience  string           // has to be among the token's aud; default: not checked
	Issuer    string           // has to be the token's iss; default: not checked
	UserClaim string           // names the claim, a string, that is the user; default: sub
	Now       func() time.Time // default: time.Now
	Log       *slog.Logger     // logs failed refreshes of the JWKS; default: slog.Default()
}

func (cfg Config) withDefaults() Config {
	if cfg.UserClaim == "" {
		cfg.UserClaim = "sub"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return cfg
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	cfg    Config
	parser *jwt.Parser
	keys   *jwks // nil without a JWKSURL
}

// NewVerifier returns a Verifier whose keys have been read once. With
// a JWKSURL it waits for the first answer, at most [jwksFetchWithin], and reads
// the keys again now and then until Close; ctx bounds only the first read.
func NewVerifier(ctx context.Context, cfg Config) (*Verifier, error) {
	cfg = cfg.withDefaults()
	v := &Verifier{cfg: cfg}
	// Only what is named here is ever verified: neither "none" nor HS256 keyed
	// with somebody's public key can get in.
	var methods []string
	if len(cfg.Secret) > 0 {
		methods = append(methods, jwt.SigningMethodHS256.Alg())
	}
	if cfg.JWKSURL != "" {
		methods = append(methods, jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg())
	}
	if len(methods) == 0 {
		return nil, errors.New("configure authentication: neither a secret nor a JWKS URL is set")
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods),
		jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(cfg.Now),
		jwt.WithLeeway(clockSkew),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	v.parser = jwt.NewParser(options...)
	if cfg.JWKSURL != "" {
		keys, err := openJWKS(ctx, cfg)
		if err != nil {
			return nil, err
		}
		v.keys = keys
	}
	return v, nil
}

// Close ends the refresh of the keys and waits for it.
func (v *Verifier) Close() {
	if v.keys != nil {
		v.keys.close()
	}
}

// Verify returns what token says, or an error with the code unauthenticated and
// a sentence for the person. It may wait up to [jwksFetchWithin] for a key that
// was not seen before.
func (v *Verifier) Verify(token string) (Identity, *schemas.Error) {
	if token == "" {
		return Identity{}, unauthenticated("there is no token")
	}
	if len(token) > schemas.JWTBytesMax {
		return Identity{}, unauthenticated("the token has %d bytes: at most %d are allowed", len(token), schemas.JWTBytesMax)
	}
	claims := claims{userClaim: v.cfg.UserClaim}
	if _, err := v.parser.ParseWithClaims(token, &claims, v.key); err != nil {
		return Identity{}, v.refusal(err, &claims)
	}
	// The parser's leeway covers exp too: here nothing is forgiven.
	if !v.cfg.Now().Before(claims.expires) {
		return Identity{}, unauthenticated("the token expired at %s: get a new one", claims.expires.Format(time.RFC3339))
	}
	if claims.user == "" {
		return Identity{}, unauthenticated("the token names no user: its claim %q is absent", v.cfg.UserClaim)
	}
	user, err := schemas.ParseUser(claims.user)
	if err != nil {
		return Identity{}, unauthenticated("the token's claim %q is not a user: %v", v.cfg.UserClaim, err)
	}
	return Identity{User: user, Expires: claims.expires}, nil
}

func (v *Verifier) key(token *jwt.Token) (any, error) {
	if token.Method == jwt.SigningMethodHS256 {
		return v.cfg.Secret, nil
	}
	return v.keys.find(token)
}

// refusal makes a sentence of the parser's error.
func (v *Verifier) refusal(err error, claims *claims) *schemas.Error {
	var unknown *unknownKeyError
	switch {
	case errors.As(err, &unknown):
		return unauthenticated("%s", unknown.Error())
	case errors.Is(err, jwt.ErrTokenMalformed):
		if claims.fault != "" {
			return unauthenticated("%s", claims.fault)
		}
		return unauthenticated("the token is not a JWT")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return unauthenticated("the token is signed in a way that this server does not take")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return unauthenticated("the token's signature is wrong, or its algorithm is not one that this server takes")
	case errors.Is(err, jwt.ErrTokenExpired):
		return unauthenticated("the token expired at %s: get a new one", claims.expires.Format(time.RFC3339))
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return unauthenticated("the token is not valid before %s", claims.notBefore.Format(time.RFC3339))
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return unauthenticated("the token was issued at %s, which is in the future", claims.issued.Format(time.RFC3339))
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return unauthenticated("the token is from another issuer than %q", v.cfg.Issuer)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return unauthenticated("the token is for another audience than %q", v.cfg.Audience)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing) && claims.expires.IsZero():
		return unauthenticated("the token has no exp: tokens that never expire are not taken")
	default:
		return unauthenticated("the token lacks a claim that this server asks for")
	}
}

func unauthenticated(format string, args ...any) *schemas.Error {
	return schemas.Errorf(schemas.Unauthenticated, format, args...)
}
