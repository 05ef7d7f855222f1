package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"parley/edge/auth"
	"parley/schemas"
)

// tokenCommand prints a token.
type tokenCommand struct {
	User       string        `help:"The user that the token is for." required:""`
	TTL        time.Duration `name:"ttl" help:"How long it is valid." default:"24h"`
	AuthSecret string        `help:"Key of HS256 tokens; without it, that of the data directory."`
	dataFlag
}

func (c *tokenCommand) Run(p *process) error {
	user, err := schemas.ParseUser(c.User)
	if err != nil {
		return err
	}
	if c.TTL < time.Second {
		return fmt.Errorf("--ttl %s: it is at least 1s", c.TTL)
	}
	secret := c.AuthSecret
	if secret == "" {
		text, err := os.ReadFile(filepath.Join(c.Data, secretFile))
		if err != nil {
			return fmt.Errorf("no secret: %w: start `parley dev` once, or set PARLEY_AUTH_SECRET", err)
		}
		secret = strings.TrimSpace(string(text))
	}
	token, err := auth.Mint([]byte(secret), user, time.Now(), c.TTL)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, token)
	return nil
}
