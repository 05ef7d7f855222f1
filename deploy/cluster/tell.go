//go:build unix

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"parley/streams"
)

// tell prints where everything is and how to look at it.
func (c *cluster) tell() {
	c.term.say("all parts are up after %.0f s", time.Since(c.began).Seconds())
	text := fmt.Sprintf(`
Open http://%s in two windows, pick two names, and chat.

Look inside with the nats CLI, in another terminal:
  . %s
  nats sub 'chat.>'           # what is said, as it is
  nats stream ls              # the log; nats stream info CHAT_0 shows its replicas
  nats micro ls               # edges, and who answers history
  nats kv watch presence      # who comes and goes
`, c.Listen, filepath.Join(c.dir, streams.PasswordsFile))
	if c.cassandra != nil {
		text += fmt.Sprintf("The store: cqlsh 127.0.0.1 %d -k parley; its log is %s\n", c.ports["cassandra"], c.cassandra.LogFile())
	}
	text += fmt.Sprintf("HAProxy's page: http://%s/   Metrics: http://%s/metrics and\n  http://%s/metrics (edges), http://%s/metrics and http://%s/metrics (workers)\n",
		c.ports.address("haproxy stats"), c.ports.address("edge-1 admin"), c.ports.address("edge-2 admin"), c.ports.address("worker-1 admin"), c.ports.address("worker-2 admin"))
	text += "Kill one, and see the others go on:"
	for _, group := range [][]*process{c.nats, c.workers, c.edges, c.proxies} {
		for _, p := range group {
			text += fmt.Sprintf(" %s=%d", p.name, p.cmd.Process.Pid)
		}
	}
	if c.cassandra != nil {
		text += fmt.Sprintf(" cassandra=%d", c.cassandra.PID())
	}
	text += "\nAll logs: " + filepath.Join(c.dir, "logs")
	if c.temporary {
		text += "\nThe data is in " + c.dir + " and goes at the end; keep it with --data DIR."
	}
	for line := range strings.SplitSeq(text, "\n") {
		c.term.say("%s", line)
	}
	c.term.say("Ctrl-C ends it.")
}
