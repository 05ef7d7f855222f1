package harness

import (
	"testing"
	"time"

	"parley/clients/parley"
	"parley/edge/auth"
)

// Place is where clients connect, and what makes their tokens.
type Place struct {
	URL    string
	Secret []byte
}

func (p Place) options(t testing.TB, user string, opts parley.Options) parley.Options {
	t.Helper()
	token, err := auth.Mint(p.Secret, MustUser(t, user), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	opts.URL, opts.Token = p.URL, parley.StaticToken(token)
	opts.BackoffMin, opts.BackoffMax = 20*time.Millisecond, 500*time.Millisecond
	return opts
}

// Dial connects a client of user; the test's end closes it.
func (p Place) Dial(t testing.TB, user string, opts parley.Options) *parley.Client {
	t.Helper()
	client, err := parley.Dial(t.Context(), p.options(t, user, opts))
	if err != nil {
		t.Fatalf("dial as %s: %v", user, err)
	}
	t.Cleanup(client.Close)
	return client
}

// Talk opens a session of a user.
func (p Place) Talk(t testing.TB, user string) *Talker {
	t.Helper()
	return talkTo(t, p.URL, p.Token(t, user), user)
}

// Token returns a token of user.
func (p Place) Token(t testing.TB, user string) string {
	t.Helper()
	token, err := auth.Mint(p.Secret, MustUser(t, user), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
