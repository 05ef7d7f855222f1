package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/schemas"
)

// Mint returns an HS256 token for user that is valid from now for at most
// ttl: exp is in whole seconds, rounded down.
func Mint(secret []byte, user schemas.User, now time.Time, ttl time.Duration) (string, error) {
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
