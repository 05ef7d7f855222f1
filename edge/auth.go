package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"parley/schemas"
)

// clockSkew is forgiven on iat and nbf, never on exp: a session ends when its token says.
const clockSkew = 5 * time.Second

// expiresMax keeps exp within what RFC 3339 can write.
var expiresMax = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Identity is what a verified token says.
type Identity struct {
	User    schemas.User
	Expires time.Time // in whole seconds
}

// AuthConfig says which tokens an [Authenticator] takes. Secret and JWKSURL may
// both be set: the token's algorithm tells which one it is checked with.
type AuthConfig struct {
	Secret    []byte           // key of HS256; default: HS256 is refused
	JWKSURL   string           // where the keys of RS256, ES256 and EdDSA are; default: these are refused
	Audience  string           // has to be among the token's aud; default: not checked
	Issuer    string           // has to be the token's iss; default: not checked
	UserClaim string           // names the claim, a string, that is the user; default: sub
	Now       func() time.Time // default: time.Now
	Log       *slog.Logger     // hears of refreshes of the JWKS that do not work; default: none
}

func (cfg AuthConfig) withDefaults() AuthConfig {
	if cfg.UserClaim == "" {
		cfg.UserClaim = "sub"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Authenticator verifies tokens. It is safe for concurrent use.
type Authenticator struct {
	cfg    AuthConfig
	parser *jwt.Parser
	keys   *jwks // nil without a JWKSURL
}

// NewAuthenticator returns an Authenticator whose keys have been read once. With
// a JWKSURL it waits for the first answer, at most [jwksFetchWithin], and reads
// the keys again now and then until Close; ctx bounds only the first read.
func NewAuthenticator(ctx context.Context, cfg AuthConfig) (*Authenticator, error) {
	cfg = cfg.withDefaults()
	a := &Authenticator{cfg: cfg}
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
	a.parser = jwt.NewParser(options...)
	if cfg.JWKSURL != "" {
		keys, err := openJWKS(ctx, cfg)
		if err != nil {
			return nil, err
		}
		a.keys = keys
	}
	return a, nil
}

// Close ends the refresh of the keys and waits for it.
func (a *Authenticator) Close() {
	if a.keys != nil {
		a.keys.close()
	}
}

// Verify returns what token says, or an error with the code unauthenticated and
// a sentence for the person. It may wait up to [jwksFetchWithin] for a key that
// was not seen before.
func (a *Authenticator) Verify(token string) (Identity, *schemas.Error) {
	if token == "" {
		return Identity{}, unauthenticated("there is no token")
	}
	if len(token) > schemas.JWTBytesMax {
		return Identity{}, unauthenticated("the token has %d bytes: at most %d are allowed", len(token), schemas.JWTBytesMax)
	}
	claims := claims{userClaim: a.cfg.UserClaim}
	if _, err := a.parser.ParseWithClaims(token, &claims, a.key); err != nil {
		return Identity{}, a.refusal(err, &claims)
	}
	// The parser's leeway covers exp too: here nothing is forgiven.
	if !a.cfg.Now().Before(claims.expires) {
		return Identity{}, unauthenticated("the token expired at %s: get a new one", claims.expires.Format(time.RFC3339))
	}
	if claims.user == "" {
		return Identity{}, unauthenticated("the token names no user: its claim %q is absent", a.cfg.UserClaim)
	}
	user, err := schemas.ParseUser(claims.user)
	if err != nil {
		return Identity{}, unauthenticated("the token's claim %q is not a user: %v", a.cfg.UserClaim, err)
	}
	return Identity{User: user, Expires: claims.expires}, nil
}

func (a *Authenticator) key(token *jwt.Token) (any, error) {
	if token.Method == jwt.SigningMethodHS256 {
		return a.cfg.Secret, nil
	}
	return a.keys.find(token)
}

// refusal makes a sentence of the parser's error.
func (a *Authenticator) refusal(err error, claims *claims) *schemas.Error {
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
		return unauthenticated("the token is from another issuer than %q", a.cfg.Issuer)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return unauthenticated("the token is for another audience than %q", a.cfg.Audience)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing) && claims.expires.IsZero():
		return unauthenticated("the token has no exp: tokens that never expire are not taken")
	default:
		return unauthenticated("the token lacks a claim that this server asks for")
	}
}

func unauthenticated(format string, args ...any) *schemas.Error {
	return schemas.Errorf(schemas.Unauthenticated, format, args...)
}

// claims are those of a token that matter here. Decoding by hand finds the user
// in whatever claim was configured, without a map of all of them.
type claims struct {
	userClaim string // set by the caller

	user      string
	expires   time.Time // zero: absent
	notBefore time.Time
	issued    time.Time
	issuer    string
	audience  jwt.ClaimStrings
	fault     string // what is wrong with a claim, for the person
}

var _ jwt.Claims = (*claims)(nil)

// UnmarshalJSON reads the claims; a claim that is there twice is refused.
func (c *claims) UnmarshalJSON(data []byte) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return errors.New("the claims are not an object")
	}
	for dec.PeekKind() == '"' {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := c.setClaim(name, value); err != nil {
			c.fault = fmt.Sprintf("the token's claim %q %v", name, err)
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

func (c *claims) setClaim(name string, value jsontext.Value) (err error) {
	switch name {
	case "exp":
		c.expires, err = claimTime(value)
	case "nbf":
		c.notBefore, err = claimTime(value)
	case "iat":
		c.issued, err = claimTime(value)
	case "iss":
		c.issuer, err = claimString(value)
	case "aud":
		c.audience, err = claimStrings(value)
	}
	if err == nil && name == c.userClaim {
		c.user, err = claimString(value)
	}
	return err
}

func claimString(value jsontext.Value) (string, error) {
	if value.Kind() != '"' {
		return "", errors.New("is not a string")
	}
	text, err := jsontext.AppendUnquote(nil, value)
	return string(text), err
}

func claimStrings(value jsontext.Value) (jwt.ClaimStrings, error) {
	if value.Kind() == '"' {
		one, err := claimString(value)
		return jwt.ClaimStrings{one}, err
	}
	var many []string
	if err := json.Unmarshal(value, &many); err != nil {
		return nil, errors.New("is neither a string nor a list of strings")
	}
	return many, nil
}

// claimTime reads seconds since 1970; a fraction is cut off.
func claimTime(value jsontext.Value) (time.Time, error) {
	var seconds float64
	if value.Kind() != '0' || json.Unmarshal(value, &seconds) != nil {
		return time.Time{}, errors.New("is not a number of seconds since 1970")
	}
	if seconds < 0 || seconds > float64(expiresMax.Unix()) {
		return time.Time{}, errors.New("is out of the range of times")
	}
	return time.Unix(int64(seconds), 0).UTC(), nil
}

func numericDate(t time.Time) *jwt.NumericDate {
	if t.IsZero() {
		return nil
	}
	return &jwt.NumericDate{Time: t}
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return numericDate(c.expires), nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return numericDate(c.issued), nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return numericDate(c.notBefore), nil }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.user, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }

// MintToken returns an HS256 token for user that is valid from now for at most
// ttl: exp is in whole seconds, rounded down.
func MintToken(secret []byte, user schemas.User, now time.Time, ttl time.Duration) (string, error) {
	switch {
	case len(secret) == 0:
		return "", errors.New("mint token: the secret is empty")
	case user.IsZero():
		return "", errors.New("mint token: the user is empty")
	case ttl < time.Second:
		return "", fmt.Errorf("mint token for %s: its time to live %s is under a second", user, ttl)
	}
	expires := now.Add(ttl)
	if expires.After(expiresMax) {
		return "", fmt.Errorf("mint token for %s: its time to live %s ends after the year 9999", user, ttl)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   user.String(),
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(expires),
	}).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("mint token for %s: %w", user, err)
	}
	return token, nil
}
