package cmd

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"parley/streams"
	"parley/streams/natsserver"
)

// logCommand runs the NATS server of a dev server and nothing else.
type logCommand struct {
	Listen       string `help:"Address of the NATS server." default:"127.0.0.1:4222"`
	Admin        string `help:"Address for operators: health, metrics, profiles." default:"127.0.0.1:8081"`
	Data         string `help:"Directory of all data." default:"./data"`
	SyncInterval string `help:"In place of nats.conf's. All but always lose acknowledged messages in a power cut." default:"always"`
}

// syncAlways is the line of nats.conf that [logCommand] writes over.
const syncAlways = "sync_interval: always"

func (c *logCommand) Run(p *process) error {
	conf := strings.Replace(p.natsConf, syncAlways, "sync_interval: "+strconv.Quote(c.SyncInterval), 1)
	if c.SyncInterval == "always" {
		conf = p.natsConf
	} else if conf == p.natsConf {
		return fmt.Errorf("nats.conf has no line %q", syncAlways)
	}
	passwords, err := streams.LoadOrCreatePasswords(c.Data)
	if err != nil {
		return err
	}
	a, err := startAdmin(c.Admin, func(context.Context) error { return nil })
	if err != nil {
		return err
	}
	defer a.Close()
	server, err := natsserver.Start(p.ctx, natsserver.Config{
		Conf: conf, Listen: c.Listen, DataDir: filepath.Join(c.Data, natsDir), Passwords: passwords, Log: p.log,
	})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	fmt.Fprintf(p.stdout, "ready %s\n", server.URLs()[0])
	<-p.ctx.Done()
	return nil
}
