package cmd

import (
	"fmt"
	"os"

	"parley/streams"
)

// natsFlags say how a command reaches NATS.
type natsFlags struct {
	NATS         []string `name:"nats" help:"URLs of the NATS servers; tls:// requires TLS." default:"nats://127.0.0.1:4222"`
	NATSPassword string   `name:"nats-password" help:"Password of the component's NATS user. Without it, that of a dev server's data directory." env:"-"`
	NATSCA       string   `name:"nats-ca" help:"File of the certificates that vouch for the NATS servers'; requires TLS. Without it, the system's."`
	NATSCert     string   `name:"nats-cert" help:"File of this process's certificate, for NATS servers that verify clients."`
	NATSKey      string   `name:"nats-key" help:"File of that certificate's key."`
	NATSCreds    string   `name:"nats-creds" help:"File of credentials (.creds) instead of user and password, for NATS servers in operator mode."`
}

// config is how component connects. The password comes from the flag, from the
// component's variable, or from the directory of a dev server; credentials need none.
func (f natsFlags) config(component streams.Component, data string) (streams.ConnectConfig, error) {
	connect := streams.ConnectConfig{
		Component: component, URLs: f.NATS,
		Secure: streams.Secure{CA: f.NATSCA, Cert: f.NATSCert, Key: f.NATSKey, Credentials: f.NATSCreds},
	}
	if f.NATSCreds != "" {
		return connect, nil
	}
	connect.Password = f.NATSPassword
	if connect.Password == "" {
		connect.Password = os.Getenv(component.PasswordVariable())
	}
	if connect.Password == "" && data != "" {
		passwords, err := streams.ReadPasswords(data)
		if err != nil {
			return streams.ConnectConfig{}, err
		}
		connect.Password = passwords.Of(component)
	}
	if connect.Password == "" {
		return streams.ConnectConfig{}, fmt.Errorf("no password for NATS user %s: set %s", component, component.PasswordVariable())
	}
	return connect, nil
}
