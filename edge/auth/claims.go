package auth

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// expiresMax keeps exp within what RFC 3339 can write.
var expiresMax = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

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
