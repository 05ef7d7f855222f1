package harness

import (
	"testing"

	"github.com/oklog/ulid/v2"

	"parley/schemas"
)

// MustUser parses a user and ends the test where that fails.
func MustUser(t testing.TB, name string) schemas.User {
	t.Helper()
	user, err := schemas.ParseUser(name)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

// MustChat parses a chat and ends the test where that fails.
func MustChat(t testing.TB, name string) schemas.Chat {
	t.Helper()
	chat, err := schemas.ParseChat(name)
	if err != nil {
		t.Fatal(err)
	}
	return chat
}

// MustID parses an id and ends the test where that fails.
func MustID(t testing.TB, name string) schemas.ID {
	t.Helper()
	id, err := schemas.ParseID(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// NewID returns an id that nobody has used.
func NewID() string { return ulid.Make().String() }
