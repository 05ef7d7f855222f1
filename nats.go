package main

import (
	"fmt"
	"os"
	"parley/streams"
)

// natsFlags say how a command reaches NATS.
type natsFlags struct {
	NATS         []string `name:"nats" help:"URLs of the NATS servers." default:"nats://127.0.0.1:4222"`
	NATSPassword string   `name:"nats-password" help:"Password of the component's NATS user. Without it, that of a dev server's data directory." env:"-"`
}

// config is how component connects. The password comes from the flag, from the
// component's variable, or from the directory of a dev server.
func (f natsFlags) config(component streams.Component, data string) (streams.ConnectConfig, error) {
	password := f.NATSPassword
	if password == "" {
		password = os.Getenv(component.PasswordVariable())
	}
	if password == "" && data != "" {
		passwords, err := streams.ReadPasswords(data)
		if err != nil {
			return streams.ConnectConfig{}, err
		}
		password = passwords.Of(component)
	}
	if password == "" {
		return streams.ConnectConfig{}, fmt.Errorf("no password for NATS user %s: set %s", component, component.PasswordVariable())
	}
	return streams.ConnectConfig{Component: component, URLs: f.NATS, Password: password}, nil
}
